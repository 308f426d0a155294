"""A browser's session may look at traces, and its sign-in leads back to the page it was for."""

from collections.abc import Callable

import pytest

from chisel_shared.contract.errors import Forbidden, Unauthenticated
from chisel_shared.contract.messages import Authorize
from chisel_shared.runtime.bus import NatsBus
from tests.accounts.world import ADA, PASSWORD, Browser, World


def session_of(browser: Browser) -> str:
    return next(cookie.value for cookie in browser.http.cookie_jar if cookie.key == "chisel-session")


async def test_a_session_may_look_and_nothing_else(bus: NatsBus, world: World, ada: Browser) -> None:
    session = session_of(ada)
    who = await bus.request(Authorize(token=session, action="traces:read"))
    (home,) = await world.fetch("select id from projects where name = 'default'")
    assert (who.kind, who.name, who.project_id) == ("user", ADA, home["id"])
    for action in ("jobs:submit", "jobs:cancel", "secrets:write", "accounts:admin", "agent:work"):
        with pytest.raises(Forbidden):
            await bus.request(Authorize(token=session, action=action))


async def test_a_session_that_is_over_may_nothing(bus: NatsBus, world: World, ada: Browser) -> None:
    session = session_of(ada)
    with pytest.raises(Unauthenticated):
        await bus.request(Authorize(token=session[:-1] + "0", action="traces:read"))
    shown = await ada.get("/login")
    await ada.post("/sign-out", shown.hidden("sign-out"))
    with pytest.raises(Unauthenticated):
        await bus.request(Authorize(token=session, action="traces:read"))


@pytest.mark.parametrize(
    ("then", "where"),
    [
        ("jobs/3k9x/traces/step.rank1.2.json", "jobs/3k9x/traces/step.rank1.2.json"),
        ("jobs/@last/traces/step.json/timeline", "jobs/@last/traces/step.json/timeline"),
        ("https://evil.example/", "login"),
        ("//evil.example/jobs/x/traces/y", "login"),
        ("jobs/../sign-out", "login"),
        ("jobs/x/traces/y?z", "login"),
        ("", "login"),
    ],
)
async def test_signing_in_leads_back_to_the_trace_and_nowhere_else(
    world: World, ada: Browser, new_browser: Callable[[], Browser], then: str, where: str
) -> None:
    browser = new_browser()
    async with browser.http.get(f"{world.url}/login", params={"next": then}) as answer:
        text = await answer.text()
    assert ('name="next"' in text) == (where != "login")
    hidden = (await browser.get("/login")).hidden("login")
    sent = {**hidden, "name": ADA, "password": PASSWORD, "next": then}
    async with browser.http.post(
        f"{world.url}/login", data=sent, headers={"Origin": world.url}, allow_redirects=False
    ) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, where)
