"""A login of the command line, from its first request to the key, through the pages a person sees."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

import pytest

from tests.accounts.world import ADA, PASSWORD, Browser, World


async def test_a_person_allows_a_login(world: World, ada: Browser) -> None:
    begun = await world.begin("ada's <laptop>")
    assert (begun["expires_in"], begun["interval"]) == (600, 2)
    assert begun["verification_uri"] == f"{world.url}/login"
    assert begun["verification_uri_complete"] == f"{world.url}/login?code={begun['user_code']}"
    assert (await world.poll(begun))["status"] == "authorization_pending"
    shown = await ada.get(f"/login?code={begun['user_code']}")
    assert shown.status == 200
    for told in ("Did you start this login?", "ada's <laptop>", "127.0.0.1", "chisel 1", begun["user_code"]):
        assert told in shown.words
    assert "<laptop>" not in shown.text
    assert (await world.poll(begun))["status"] == "authorization_pending"
    assert "is logged in" in (await ada.answer(begun["user_code"])).words
    answer = await world.poll(begun)
    assert (answer["status"], answer["user"], answer["project"]) == ("done", ADA, "default")
    status, who = await world.call("GET", "/api/v1/whoami", key=answer["api_key"])
    assert (status, who["user"], who["project"], who["is_admin"]) == (200, ADA, "default", True)
    assert who["key"]["name"] == "ada's <laptop>"
    assert who["key"]["expires_at"] - who["key"]["created_at"] == 90 * 86_400
    assert "ada's <laptop>" in (await ada.get("/login")).words


async def test_signing_in_leads_back_to_the_code(
    world: World, ada: Browser, new_browser: Callable[[], Browser]
) -> None:
    begun, stranger = await world.begin(), new_browser()
    first = await stranger.get(f"/login?code={begun['user_code']}")
    assert "laptop" not in first.words
    shown = await stranger.sign_in(code=begun["user_code"])
    assert begun["user_code"].replace("-", "") in shown.path
    assert "laptop" in shown.words


@pytest.mark.parametrize("form", ["{0}", "{0} ", "abcd", "low", "spaced"])
async def test_a_code_may_be_typed_in_any_form(world: World, ada: Browser, form: str) -> None:
    code = (await world.begin())["user_code"]
    typed = {"low": code.lower(), "spaced": code.replace("-", "+"), "abcd": code.replace("-", "")}
    shown = await ada.get(f"/login?code={typed.get(form, form.format(code))}")
    assert "Did you start this login?" in shown.words


async def test_a_refused_login_gets_no_key(world: World, ada: Browser) -> None:
    begun = await world.begin()
    assert "gets no key" in (await ada.answer(begun["user_code"], "refuse")).words
    assert (await world.poll(begun))["status"] == "access_denied"
    assert (await ada.get(f"/login?code={begun['user_code']}")).status == 404


async def test_a_key_is_given_once(world: World, ada: Browser) -> None:
    begun = await world.begin()
    await ada.answer(begun["user_code"])
    world.clock.advance(2)
    body = {"device_code": begun["device_code"]}
    answers = await asyncio.gather(*(world.call("POST", "/api/v1/login/token", body) for _ in range(8)))
    told = Counter(answer["status"] for _, answer in answers)
    assert told["done"] == 1
    assert told["expired_token"] == 7
    assert (await world.poll(begun))["status"] == "expired_token"
    assert len(await world.fetch("select * from api_keys where name = 'laptop'")) == 1


async def test_a_code_is_decided_once(world: World, ada: Browser) -> None:
    begun = await world.begin()
    shown = await ada.get(f"/login?code={begun['user_code']}")
    form = shown.hidden("approve")
    assert (await ada.post("/approve", {**form, "answer": "refuse"})).status == 200
    assert (await ada.post("/approve", {**form, "answer": "allow"})).status == 404
    assert (await world.poll(begun))["status"] == "access_denied"


async def test_a_login_expires(world: World, ada: Browser) -> None:
    begun, allowed = await world.begin(), await world.begin("other")
    await ada.answer(allowed["user_code"])
    world.clock.advance(599)
    assert (await ada.get(f"/login?code={begun['user_code']}")).status == 200
    world.clock.advance(1)
    shown = await ada.get(f"/login?code={begun['user_code']}")
    assert shown.status == 404
    assert "run `chisel login` again" in shown.words
    for login in (begun, allowed):
        assert (await world.poll(login))["status"] == "expired_token"


async def test_an_impatient_command_is_slowed_down(world: World) -> None:
    begun = await world.begin()
    body = {"device_code": begun["device_code"]}
    told = []
    for pause in (0.0, 0.5, 1.3, 1.5, 2.0):
        world.clock.advance(pause)
        told.append((await world.call("POST", "/api/v1/login/token", body))[1]["status"])
    pending, slow = "authorization_pending", "slow_down"
    assert told == [pending, slow, slow, pending, pending]


@pytest.mark.parametrize("code", ["", "x", "chsl_dev_" + "a" * 50, "\x00", "é" * 600])
async def test_a_wrong_device_code(world: World, code: str) -> None:
    begun = await world.begin()
    tampered = begun["device_code"][:-7] + "A" * 7
    for wrong in (code, tampered, world.key):
        status, answer = await world.call("POST", "/api/v1/login/token", {"device_code": wrong})
        assert (status, answer["status"]) == (200, "expired_token")


async def test_guessing_codes_is_slowed_down_and_then_even_a_right_one_is_refused(
    world: World, ada: Browser
) -> None:
    begun = await world.begin()
    statuses = [(await ada.get(f"/login?code=BCDF-GHJ{letter}")).status for letter in "BCDFGHJKLMNP"]
    assert statuses == [404] * 10 + [429] * 2
    shown = await ada.get(f"/login?code={begun['user_code']}")
    assert (shown.status, shown.headers["Retry-After"]) == (429, "60")
    assert "laptop" not in shown.words
    world.clock.advance(301)
    assert (await ada.get(f"/login?code={begun['user_code']}")).status == 200


async def test_one_address_begins_so_many_logins(world: World) -> None:
    body = {"machine": "m"}
    statuses = [(await world.call("POST", "/api/v1/login", body))[0] for _ in range(22)]
    assert statuses == [200] * 20 + [429] * 2
    world.clock.advance(61)
    assert (await world.call("POST", "/api/v1/login", body))[0] == 200


async def test_a_login_allowed_by_somebody_removed_since(
    world: World, ada: Browser, new_browser: Callable[[], Browser]
) -> None:
    key = await logged_in(world, ada)
    _, invited = await world.call("POST", "/api/v1/users", {"name": "bob"}, key=key)
    bob = new_browser()
    await bob.open_account(invited["url"].partition("token=")[2], "bob")
    begun = await world.begin("bob's")
    await bob.answer(begun["user_code"])
    assert (await world.call("DELETE", "/api/v1/users/bob", key=key))[0] == 200
    assert (await world.poll(begun))["status"] == "access_denied"
    assert "Sign in" in (await bob.get("/login")).words


async def test_a_key_given_back_is_no_key(world: World, ada: Browser) -> None:
    key = await logged_in(world, ada)
    assert (await world.call("POST", "/api/v1/logout", key=key))[0] == 200
    status, answer = await world.call("GET", "/api/v1/whoami", key=key)
    assert status == 401
    assert "chisel login" in answer["error"]["message"]
    assert (await world.call("POST", "/api/v1/logout", key=key))[0] == 401


async def test_the_key_a_server_begins_with_cannot_be_given_back(world: World) -> None:
    assert (await world.call("POST", "/api/v1/logout", key=world.key))[0] == 409
    status, who = await world.call("GET", "/api/v1/whoami", key=world.key)
    assert (status, who["user"], who["is_admin"]) == (200, "local", False)


async def test_a_key_is_revoked_on_the_page(
    world: World, ada: Browser, new_browser: Callable[[], Browser]
) -> None:
    key = await logged_in(world, ada)
    form = (await ada.get("/login")).hidden("forget")
    stranger = new_browser()
    await stranger.get("/login")
    assert (await stranger.post("/forget", form)).status == 403
    assert (await world.call("GET", "/api/v1/whoami", key=key))[0] == 200
    assert "None yet" in (await ada.post("/forget", form)).words
    assert (await world.call("GET", "/api/v1/whoami", key=key))[0] == 401


async def test_nothing_secret_is_stored_or_logged(
    world: World, ada: Browser, new_browser: Callable[[], Browser], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    begun = await world.begin()
    await new_browser().sign_in("nobody", "a wrong password")
    await ada.answer(begun["user_code"])
    key = (await world.poll(begun))["api_key"]
    cookies = [cookie.value for cookie in ada.http.cookie_jar]
    stored = ""
    for table in ("users", "api_keys", "invites", "sign_ins", "logins", "attempts"):
        stored += repr(await world.fetch(f"select * from {table}"))
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    for secret in (key, begun["device_code"], PASSWORD, "a wrong password", *cookies):
        assert secret not in stored
        assert secret not in logged
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in stored


async def logged_in(world: World, person: Browser) -> str:
    """A key of whoever is signed in."""
    begun = await world.begin()
    await person.answer(begun["user_code"])
    return str((await world.poll(begun))["api_key"])
