"""Accounts: the first one, others by invitation, signing in, and everything that must not work."""

import asyncio
import re
from collections.abc import Callable
from html import unescape

import pytest

from chisel_auth.passwords import Passwords
from tests.accounts.conftest import MakeWorld
from tests.accounts.test_login import logged_in
from tests.accounts.world import ADA, PASSWORD, Browser, World

NewBrowser = Callable[[], Browser]


async def test_the_first_admin_comes_with_a_token_that_works_once(
    world: World, browser: Browser, new_browser: NewBrowser
) -> None:
    token = world.admin_token
    assert world.admin_token_file.stat().st_mode & 0o777 == 0o600
    shown = await browser.open_account(token)
    assert (shown.status, shown.path) == (200, "/login")
    assert "Signed in as ada (admin)" in shown.words
    assert not world.admin_token_file.exists()
    again = await new_browser().get(f"/welcome?token={token}")
    assert again.status == 404
    assert "was used" in again.words


async def test_two_with_the_same_token_make_one_account(
    world: World, browser: Browser, new_browser: NewBrowser
) -> None:
    token, other = world.admin_token, new_browser()
    forms = [(await one.get(f"/welcome?token={token}")).hidden("welcome") for one in (browser, other)]
    typed = {"password": PASSWORD, "again": PASSWORD}
    shown = await asyncio.gather(
        browser.post("/welcome", {**forms[0], **typed, "name": "ada"}),
        other.post("/welcome", {**forms[1], **typed, "name": "eve"}),
    )
    assert sorted(page.status for page in shown) == [200, 404]
    assert len(await world.fetch("select * from users where is_admin")) == 1


async def test_a_token_survives_restarts_until_it_is_used(make_world: MakeWorld) -> None:
    first = await make_world()
    token = first.admin_token
    second = await make_world()
    assert second.admin_token == token


@pytest.mark.parametrize("token", ["", "x", "chsl_inv_aaaaaaaaaaaa", "\x00", "a" * 900])
async def test_a_wrong_invitation(world: World, browser: Browser, token: str) -> None:
    shown = await browser.get(f"/welcome?token={token}")
    assert shown.status == 404
    assert "not valid" in shown.words


@pytest.mark.parametrize(
    ("name", "password", "again", "told"),
    [
        ("ada", "short", "short", "at least 10 characters"),
        ("ada", "x" * 201, "x" * 201, "at most 200"),
        ("ada", "aaaaaaaaaaaa", "aaaaaaaaaaaa", "repeats itself"),
        ("longername", "longername12", "longername12", "little more than the name"),
        ("ada", PASSWORD, PASSWORD + "x", "passwords differ"),
        ("", PASSWORD, PASSWORD, "A name has"),
        ("a b", PASSWORD, PASSWORD, "A name has"),
        ("<b>", PASSWORD, PASSWORD, "A name has"),
        ("local", PASSWORD, PASSWORD, "is taken"),
    ],
)
async def test_an_account_that_cannot_be_opened(
    world: World, browser: Browser, name: str, password: str, again: str, told: str
) -> None:
    form = (await browser.get(f"/welcome?token={world.admin_token}")).hidden("welcome")
    shown = await browser.post("/welcome", {**form, "name": name, "password": password, "again": again})
    assert shown.status in (400, 409)
    assert told in shown.words
    assert password not in shown.text
    retry = {**shown.hidden("welcome"), "name": ADA, "password": PASSWORD, "again": PASSWORD}
    assert (await browser.post("/welcome", retry)).status == 200


async def test_an_admin_invites_lists_and_removes(
    world: World, ada: Browser, new_browser: NewBrowser
) -> None:
    key = await logged_in(world, ada)
    status, invited = await world.call("POST", "/api/v1/users", {"name": "Bob", "project": "lab"}, key=key)
    assert (status, invited["name"]) == (201, "bob")
    assert invited["url"].startswith(f"{world.url}/welcome?token=chsl_inv_")
    assert await states(world, key) == {"ada": "active", "bob": "invited", "local": "active"}
    bob = new_browser()
    token = invited["url"].partition("token=")[2]
    assert "Signed in as bob" in (await bob.open_account(token, "mallory")).words
    assert await states(world, key) == {"ada": "active", "bob": "active", "local": "active"}
    bobs = await logged_in(world, bob)
    _, who = await world.call("GET", "/api/v1/whoami", key=bobs)
    assert (who["user"], who["project"], who["is_admin"]) == ("bob", "lab", False)
    for method, path, body in (
        ("GET", "/api/v1/users", None),
        ("POST", "/api/v1/users", {"name": "eve"}),
        ("DELETE", "/api/v1/users/ada", None),
    ):
        assert (await world.call(method, path, body, key=bobs))[0] == 403
        assert (await world.call(method, path, body, key=world.key))[0] == 403
    assert (await world.call("POST", "/api/v1/users", {"name": "bob"}, key=key))[0] == 409
    assert (await world.call("DELETE", "/api/v1/users/bob", key=key))[0] == 200
    assert (await world.call("GET", "/api/v1/whoami", key=bobs))[0] == 401
    assert "Sign in" in (await bob.get("/login")).words
    assert (await new_browser().sign_in("bob")).status == 401
    assert (await world.call("DELETE", "/api/v1/users/bob", key=key))[0] == 404
    assert (await world.call("DELETE", "/api/v1/users/ada", key=key))[0] == 409


async def test_who_comes_back_keeps_the_account(world: World, ada: Browser, new_browser: NewBrowser) -> None:
    key = await logged_in(world, ada)
    ids = []
    for password in ("the first password", "another password"):
        _, invited = await world.call("POST", "/api/v1/users", {"name": "bob"}, key=key)
        await new_browser().open_account(invited["url"].partition("token=")[2], password=password)
        ids += [row["id"] for row in await world.fetch("select id from users where name = 'bob'")]
        await world.call("DELETE", "/api/v1/users/bob", key=key)
    assert len(set(ids)) == 1


async def test_an_invitation_expires_and_a_newer_one_replaces_it(
    world: World, ada: Browser, new_browser: NewBrowser
) -> None:
    key = await logged_in(world, ada)
    tokens = []
    for _ in range(2):
        _, invited = await world.call("POST", "/api/v1/users", {"name": "bob"}, key=key)
        tokens.append(invited["url"].partition("token=")[2])
    statuses = [(await new_browser().get(f"/welcome?token={token}")).status for token in tokens]
    assert statuses == [404, 200]
    world.clock.advance(3 * 86_400)
    assert (await new_browser().get(f"/welcome?token={tokens[1]}")).status == 404


async def test_whoever_is_wrong_is_told_alike(world: World, ada: Browser, new_browser: NewBrowser) -> None:
    told = set()
    for name, password in ((ADA, "not her password"), ("nobody", PASSWORD), ("local", PASSWORD), ("", "")):
        shown = await new_browser().sign_in(name, password)
        assert shown.status == 401
        assert not shown.headers.getall("Set-Cookie", [""])[0].startswith("chisel-session")
        told.add(re.sub(r'value="[^"]*"|autofocus| ', "", shown.text))
    assert len(told) == 1


async def test_an_unknown_user_costs_as_much_as_a_known_one(
    world: World, ada: Browser, new_browser: NewBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash is what takes time: it is computed for everybody, of the same kind, once."""
    verified: list[str] = []
    original = Passwords._matches

    def matches(self: Passwords, stored: str, password: str) -> bool:
        verified.append(stored.rpartition("$")[0].rpartition("$")[0])
        return original(self, stored, password)

    monkeypatch.setattr(Passwords, "_matches", matches)
    for name in (ADA, "nobody", "local", "x" * 60):
        assert (await new_browser().sign_in(name, "a wrong password")).status == 401
    assert verified == ["$argon2id$v=19$m=19456,t=2,p=1"] * 4


async def test_guessing_a_password_is_slowed_down_and_then_even_the_right_one_is_refused(
    world: World, ada: Browser, new_browser: NewBrowser
) -> None:
    guesser = new_browser()
    statuses = [(await guesser.sign_in(ADA, f"a wrong password {n}")).status for n in range(5)]
    assert statuses == [401] * 5
    shown = await guesser.sign_in(ADA, PASSWORD)
    assert (shown.status, shown.headers["Retry-After"]) == (429, "60")
    assert "try again in" in shown.words
    assert (await new_browser().sign_in("bob", "x")).status == 401
    world.clock.advance(61)
    assert (await guesser.sign_in(ADA, PASSWORD)).status == 200
    assert (await new_browser().sign_in(ADA, PASSWORD)).status == 200


async def test_a_hundred_guesses_at_once_are_a_hundred(
    world: World, ada: Browser, new_browser: NewBrowser
) -> None:
    guesser = new_browser()
    form = (await guesser.get("/login")).hidden("login")
    guesses = [{**form, "name": ADA, "password": f"guess {n}"} for n in range(30)]
    shown = await asyncio.gather(*(guesser.post("/login", guess) for guess in guesses))
    assert sorted({page.status for page in shown}) == [401, 429]
    assert sum(page.status == 401 for page in shown) == 5


async def test_an_account_is_guarded_against_many_addresses(make_world: MakeWorld) -> None:
    import aiohttp

    world = await make_world(proxies=1)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        browser = Browser(http, world.url)
        form = (await browser.get("/login")).hidden("login")
        statuses = []
        for n in range(52):
            guess = {**form, "name": "ada", "password": "guess"}
            page = await browser.post("/login", guess, X_Forwarded_For=f"10.0.0.1, 192.0.2.{n}")
            statuses.append(page.status)
        assert statuses == [401] * 50 + [429] * 2
        # One proxy is ours: what stands before its own word is the client's invention.
        invented = [
            await browser.post(
                "/login", {**form, "name": f"u{n}", "password": "g"}, X_Forwarded_For=f"{n}, 198.51.100.1"
            )
            for n in range(31)
        ]
        assert [page.status for page in invented] == [401] * 30 + [429]


async def test_signing_out_ends_the_session(world: World, ada: Browser) -> None:
    form = (await ada.get("/login")).hidden("sign-out")
    kept = {cookie.key: cookie.value for cookie in ada.http.cookie_jar}
    assert "Sign in" in (await ada.post("/sign-out", form)).words
    ada.http.cookie_jar.update_cookies(kept)
    assert "Password" in (await ada.get("/login")).words


async def test_a_session_ends_by_itself(world: World, ada: Browser) -> None:
    world.clock.advance(12 * 3600 - 1)
    assert "Signed in" in (await ada.get("/login")).words
    world.clock.advance(1)
    assert "Password" in (await ada.get("/login")).words


FORGERIES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "no token": ({"form": ""}, {}),
    "a wrong token": ({"form": "0" * 64}, {}),
    "another site": ({}, {"Origin": "https://evil.example"}),
    "nowhere": ({}, {"Origin": "null"}),
    "another port": ({}, {"Origin": "http://127.0.0.1:1"}),
    "cross-site": ({}, {"Sec_Fetch_Site": "cross-site"}),
    "same-site": ({}, {"Sec_Fetch_Site": "same-site"}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("path", ["/approve", "/login", "/sign-out", "/forget"])
async def test_forms_of_other_sites(world: World, ada: Browser, path: str, forgery: str) -> None:
    begun = await world.begin()
    form = (await ada.get(f"/login?code={begun['user_code']}")).hidden("approve")
    fields, headers = FORGERIES[forgery]
    sent = {**form, "answer": "allow", "name": ADA, "password": PASSWORD, **fields}
    shown = await ada.post(path, sent, **headers)
    assert shown.status == 403
    assert (await world.poll(begun))["status"] == "authorization_pending"
    assert "Signed in" in (await ada.get("/login")).words


async def test_a_token_of_another_browser_is_no_token(
    world: World, ada: Browser, new_browser: NewBrowser
) -> None:
    begun, eve = await world.begin(), new_browser()
    form = (await eve.get("/login")).hidden("login")
    shown = await ada.post("/approve", {**form, "code": begun["user_code"], "answer": "allow"})
    assert shown.status == 403


async def test_only_forms_are_taken(world: World, ada: Browser) -> None:
    for kind in ("application/json", "text/plain", "multipart/form-data; boundary=x"):
        async with ada.http.post(f"{world.url}/approve", data=b"x", headers={"Content-Type": kind}) as answer:
            assert answer.status == 400
            assert answer.content_type == "text/html"


@pytest.mark.parametrize("path", ["/login", "/login?code=ABCD-EFGH", "/welcome?token=x", "/approve"])
async def test_pages_allow_nothing_but_themselves(world: World, browser: Browser, path: str) -> None:
    shown = await (browser.post(path, {}) if path == "/approve" else browser.get(path))
    policy = shown.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert shown.headers["X-Frame-Options"] == "DENY"
    assert shown.headers["Cache-Control"] == "no-store"
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
    assert "<script" not in shown.text
    assert not re.search(r'(src|href)="(?!login")', shown.text)
    assert "style=" not in shown.text


async def test_cookies_are_for_the_server_alone(make_world: MakeWorld) -> None:
    import aiohttp

    for public_url, name in (("", "chisel-form"), ("https://chisel.example", "__Host-chisel-form")):
        world = await make_world(public_url=public_url)
        async with aiohttp.ClientSession() as http, http.get(f"{world.url}/login") as answer:
            cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith(f"{name}=")
        assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
        assert ("Secure" in cookie) is bool(public_url)
        begun = await world.begin()
        assert begun["verification_uri"] == f"{public_url or world.url}/login"


@pytest.mark.parametrize("code", ['"><script>alert(1)</script>', "%22%3E%3Cimg%20src=x%3E"])
async def test_what_a_stranger_writes_is_text(world: World, ada: Browser, code: str) -> None:
    shown = await ada.get(f"/login?code={code}")
    assert "<script" not in shown.text
    assert "<img" not in shown.text
    failed = await ada.post("/login", {**shown.hidden("sign-out"), "name": '"><b>', "password": "x"})
    assert '"><b>' not in failed.text
    assert '"><b>' in unescape(failed.text)


async def states(world: World, key: str) -> dict[str, str]:
    status, answer = await world.call("GET", "/api/v1/users", key=key)
    assert status == 200
    return {user["name"]: user["state"] for user in answer["users"]}
