"""Cordon, drain and uncordon over HTTP: for admins only, with whatever an agent may be called."""

from urllib.parse import quote

import msgspec
import pytest
from yarl import URL

from chisel_shared.contract.messages import AgentView, CordonAgent, DrainAgent, UncordonAgent
from tests.gateway.backend import ADMIN, AGENT, READER, USER, Backend
from tests.gateway.conftest import Http
from tests.gateway.test_api import asked

NAME = "a/1 ü"


def path(agent: str, verb: str) -> str:
    return f"/api/v1/agents/{quote(agent, safe='')}/{verb}"


async def test_an_admin_cordons_drains_and_uncordons(http: Http, backend: Backend) -> None:
    admin = http(ADMIN)

    async def wish(verb: str, body: bytes = b"") -> AgentView:
        async with admin.post(URL(path(NAME, verb), encoded=True), data=body or None) as answer:
            assert answer.status == 200, await answer.text()
            return msgspec.json.decode(await answer.read(), type=AgentView)

    cordoned = await wish("cordon", b'{"reason": "new driver"}')
    assert (cordoned.id, cordoned.state) == ("agent-1", "cordoned")
    assert cordoned.cordon is not None
    assert (cordoned.cordon.by, cordoned.cordon.reason) == ("Zoe", "new driver")
    drained = await wish("drain", b'{"deadline_seconds": 60}')
    assert drained.cordon is not None
    assert (drained.cordon.drain, drained.cordon.deadline) == (True, 62.0)
    assert (await wish("drain")).cordon is not None
    assert (await wish("uncordon")).cordon is None
    assert backend.wishes == [
        CordonAgent(agent=NAME, requested_by="Zoe", reason="new driver"),
        DrainAgent(agent=NAME, requested_by="Zoe", deadline_seconds=60.0),
        DrainAgent(agent=NAME, requested_by="Zoe"),
        UncordonAgent(agent=NAME, requested_by="Zoe"),
    ]


@pytest.mark.parametrize("key", [USER, READER, AGENT])
@pytest.mark.parametrize("verb", ["cordon", "drain", "uncordon"])
async def test_nobody_else_does(http: Http, backend: Backend, verb: str, key: str) -> None:
    status, body = await asked(http(key), "POST", path("agent-1", verb))
    assert (status, body["error"]["code"]) == (403, "forbidden")
    assert body["error"]["message"] == "this key may not do agents:admin"
    assert backend.wishes == []


async def test_every_user_sees_how_agents_stand(http: Http, backend: Backend) -> None:
    await asked(http(ADMIN), "POST", path("agent-1", "cordon"), data=b'{"reason": "new driver"}')
    status, body = await asked(http(), "GET", "/api/v1/agents")
    assert (status, body["agents"][0]["state"]) == (200, "cordoned")
    assert body["agents"][0]["cordon"]["reason"] == "new driver"


async def test_nonsense_is_refused(http: Http, backend: Backend) -> None:
    admin = http(ADMIN)
    assert (await asked(admin, "POST", path("nobody", "drain")))[0] == 404
    assert (await asked(admin, "POST", path("agent-1", "drain"), data=b'{"deadline_seconds": "1h"}'))[
        0
    ] == 400
    assert (await asked(admin, "POST", path("agent-1", "cordon"), data=b"[]"))[0] == 400
    assert (await asked(admin, "POST", path("agent-1", "explode")))[0] == 404
    assert backend.wishes == []


async def test_the_description_names_them(http: Http) -> None:
    _, document = await asked(http(), "GET", "/api/v1/openapi.json")
    for verb, wish in (("cordon", "CordonWish"), ("drain", "DrainWish"), ("uncordon", None)):
        described = document["paths"][f"/api/v1/agents/{{agent}}/{verb}"]["post"]
        assert described["operationId"] == f"{verb}_agent"
        assert described["description"] == "Needs `agents:admin`."
        body = described.get("requestBody")
        assert (wish in str(body)) if wish else body is None
