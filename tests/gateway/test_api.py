"""The HTTP door: who may do what on every route, the published description, files, health."""

import asyncio
import hashlib
import json
import random
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from pydantic import ValidationError

from chisel_gateway.accounts import AccountDoor
from chisel_gateway.agents import AgentDoor
from chisel_gateway.api import Api
from chisel_gateway.quotas import QuotaDoor
from chisel_gateway.routes import Route, routes
from chisel_gateway.service import Gateway
from chisel_gateway.settings import Settings
from chisel_gateway.traces import TraceDoor
from chisel_shared.contract.ids import Digest, JobId
from chisel_shared.contract.job import EndReason, JobEnd, JobSpec, JobState, JobView
from chisel_shared.contract.messages import Outputs, TraceView
from chisel_storage.blobs import pack_key
from tests.gateway.backend import ADMIN, AGENT, OTHER_AGENT, PRINCIPALS, STRANGER, USER, Backend
from tests.gateway.conftest import Http
from tests.support.packs import bundle, sha256
from tests.support.storage import PROJECT, RunningStorage
from tests.support.waiting import until

DATA = random.Random(3).randbytes(3_000_000)
SHA256 = Digest(hashlib.sha256(DATA).hexdigest())
JOB = JobId("job0000001")
MADE = bundle({"x.py": DATA, "empty.py": b""})
[(PACK, PACKED)] = MADE.packs.items()
SPEC = JobSpec(app_name="demo", argv=("python", "x.py"), gpu="A100-80GB:1", bundle=MADE.digest)


def table() -> tuple[Route, ...]:
    doors = (
        AccountDoor.__new__(AccountDoor),
        AgentDoor.__new__(AgentDoor),
        QuotaDoor.__new__(QuotaDoor),
        TraceDoor.__new__(TraceDoor),
    )
    return (*routes(Api.__new__(Api)), *(route for door in doors for route in door.routes()))


def concrete(path: str) -> str:
    values = {
        "digest": SHA256,
        "project": PROJECT,
        "job": JOB,
        "attempt": "1",
        "name": "t.json",
        "kind": "trace",
        "stream": "stdout",
        "user": "bob",
        "agent": "agent-1",
    }
    return re.sub(r"\{(\w+)\}", lambda m: values[m[1]], path)


def view(**fields: Any) -> JobView:
    known = dict(id=JOB, app_name="demo", state=JobState.RUNNING, version=1, gpu=SPEC.gpu)
    known |= dict(argv=SPEC.argv, attempt=0, submitted_at=1.0)
    return JobView(**{**known, **fields})


async def asked(http: aiohttp.ClientSession, method: str, path: str, **options: Any) -> tuple[int, Any]:
    async with http.request(method, path, **options) as answer:
        body = await answer.read()
        return answer.status, json.loads(body) if body.startswith((b"{", b"[")) else body


KEYS = (None, "wrong-key", "x" * 600, "schlüssel", USER, AGENT, ADMIN)


@pytest.mark.parametrize("key", KEYS, ids=["none", "wrong", "long", "not ascii", "user", "agent", "admin"])
async def test_every_route_asks_who_is_calling(http: Http, backend: Backend, key: str | None) -> None:
    """Whatever else a request lacks: the caller is looked at first, and alike everywhere."""
    session = http(key)
    for route in table():
        backend.asked.clear()
        status, body = await asked(session, route.method, concrete(route.path))
        told = f"{route.method} {route.path} {status}"
        if route.action is None:
            assert status in (200, 400), told
            continue
        scopes = PRINCIPALS[key].scopes if key in PRINCIPALS else None
        if scopes is not None and route.action in scopes:
            assert status not in (401, 403, 500, 503), told
            assert backend.asked == [route.action], told
        else:
            expected, code = (401, "unauthenticated") if scopes is None else (403, "forbidden")
            assert status == expected, told
            assert route.method == "HEAD" or body["error"]["code"] == code


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/nothing", "/api/v1/jobs/x/y/z", "/api/v2/jobs", "/etc/passwd"]
)
async def test_an_unknown_address_tells_a_stranger_nothing(http: Http, path: str) -> None:
    assert (await asked(http(None), "GET", path))[0] == 401
    assert (await asked(http("wrong-key"), "DELETE", path))[0] == 401
    status, body = await asked(http(), "GET", path)
    assert (status, body["error"]["code"]) == (404, "not_found")


async def test_a_method_that_is_not_there(http: Http) -> None:
    assert (await asked(http(None), "DELETE", "/api/v1/jobs"))[0] == 401
    async with http().delete("/api/v1/jobs") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET,POST")


async def test_the_description_is_openapi_and_complete(http: Http) -> None:
    status, document = await asked(http(None), "GET", "/api/v1/openapi.json")
    assert status == 200
    assert document["openapi"].startswith("3.1")
    assert {"title", "version"} <= document["info"].keys()
    described = {(m.upper(), path) for path, item in document["paths"].items() for m in item}
    assert described == {(route.method, route.path) for route in table()}
    seen: set[str] = set()
    for route in table():
        operation = document["paths"][route.path][route.method.lower()]
        seen.add(operation["operationId"])
        named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", route.path))
        assert all(p["in"] in ("path", "query", "header") for p in operation["parameters"])
        assert operation["responses"].keys() == {str(route.status), "default"}
        assert ("requestBody" in operation) == (route.body is not None)
        assert (operation.get("security") == []) == (route.action is None)
    assert len(seen) == len(described)
    schemas = document["components"]["schemas"]
    for reference in re.findall(r'"\$ref": ?"([^"]*)"', json.dumps(document)):
        assert reference.removeprefix("#/components/schemas/") in schemas
    assert {"JobSpec", "JobView", "JobEnd", "TraceView", "ErrorReply"} <= schemas.keys()


async def stored(http: aiohttp.ClientSession) -> None:
    """Have the bundle of `SPEC` stored."""
    await asked(http, "PUT", f"/api/v1/packs/{PACK}", data=BytesIO(PACKED))
    assert (await asked(http, "PUT", f"/api/v1/bundles/{MADE.digest}", data=MADE.manifest))[0] == 201


async def test_a_job_over_http(http: Http, backend: Backend) -> None:
    body = msgspec.json.encode(SPEC)
    key = {"Idempotency-Key": "k1"}
    status, answer = await asked(http(), "POST", "/api/v1/jobs", data=body, headers=key)
    assert (status, answer["error"]["code"]) == (404, "not_found")
    manifest = f"/api/v1/bundles/{MADE.digest}"
    status, answer = await asked(http(), "PUT", manifest, data=MADE.manifest)
    stored = {"digest": MADE.digest, "size_bytes": len(MADE.manifest), "missing": [PACK]}
    assert (status, answer) == (202, stored)
    assert (await asked(http(), "HEAD", manifest))[0] == 404
    status, answer = await asked(http(), "PUT", f"/api/v1/packs/{PACK}", data=BytesIO(PACKED))
    assert (status, answer) == (201, {"digest": PACK, "size_bytes": len(PACKED)})
    assert (await asked(http(), "HEAD", manifest))[0] == 200
    assert await asked(http(), "PUT", manifest, data=MADE.manifest) == (201, {**stored, "missing": []})
    assert (await asked(http(STRANGER), "HEAD", manifest))[0] == 404
    # Who knows a pack's digest, and puts it into a manifest of his own, has not got the pack by that.
    status, answer = await asked(http(STRANGER), "PUT", manifest, data=MADE.manifest)
    assert (status, answer["missing"]) == (202, [PACK])
    assert (await asked(http(), "POST", "/api/v1/jobs", data=body))[0] == 400
    status, answer = await asked(http(), "POST", "/api/v1/jobs", data=body, headers=key)
    assert (status, answer["created"]) == (201, True)
    job = answer["job"]["id"]
    status, answer = await asked(http(), "POST", "/api/v1/jobs", data=body, headers=key)
    assert (status, answer["created"], answer["job"]["id"]) == (200, False, job)
    assert (await asked(http(), "GET", f"/api/v1/jobs/{job[:5]}"))[1]["id"] == job
    assert [j["id"] for j in (await asked(http(), "GET", "/api/v1/jobs?limit=1"))[1]["jobs"]] == [job]
    assert (await asked(http(), "POST", f"/api/v1/jobs/{job}/cancel"))[1]["cancel_requested"] is True
    assert (await asked(http(STRANGER), "GET", f"/api/v1/jobs/{job}"))[0] == 404
    assert (await asked(http(), "GET", f"/api/v1/jobs/{job}/output/stdout"))[:2] == (200, b"")
    assert (await asked(http(), "GET", "/api/v1/agents"))[1]["agents"][0]["gpus_free"] == 4


BAD_REQUESTS: list[tuple[str, str, bytes | None, int]] = [
    ("POST", "/api/v1/jobs", b"", 400),
    ("POST", "/api/v1/jobs", b"{", 400),
    ("POST", "/api/v1/jobs", b"\xff\xfe", 400),
    ("POST", "/api/v1/jobs", b'{"app_name":1}', 400),
    ("POST", "/api/v1/jobs", b" " * 100_000, 413),
    ("POST", "/api/v1/agents/join", b'{"token":"wrong","name":"a"}', 401),
    ("POST", "/api/v1/agents/join", b"[]", 400),
    ("GET", "/api/v1/jobs?limit=0", None, 400),
    ("GET", "/api/v1/jobs?limit=x", None, 400),
    ("GET", "/api/v1/jobs/%00", None, 404),
    ("GET", "/api/v1/jobs/%2e%2e%2fx", None, 404),
    ("GET", "/api/v1/jobs/*", None, 404),
    ("GET", "/api/v1/jobs/job0000001/output/stdin", None, 404),
    ("GET", "/api/v1/jobs/job0000001/output/stdout?offset=-1", None, 400),
    ("GET", "/api/v1/jobs/job0000001/output/stdout?attempt=7", None, 404),
    ("GET", "/api/v1/jobs/job0000001/traces/..%2F..%2Fx", None, 404),
    ("PUT", "/api/v1/bundles/xyz", b"", 400),
    ("PUT", "/api/v1/bundles/..%2F..%2Fetc", b"", 400),
    ("PUT", "/api/v1/packs/xyz", b"", 400),
    ("PUT", f"/api/v1/bundles/{sha256(b'{}')}", b"{}", 400),
    ("GET", "/api/v1/agent/packs/p/..%2Fx", None, 403),
]


async def test_bad_requests_get_a_sentence(http: Http, backend: Backend) -> None:
    backend.put(view())
    for method, path, data, status in BAD_REQUESTS:
        found, body = await asked(http(), method, path, data=data, headers={"Idempotency-Key": "k"})
        assert found == status, (method, path, data)
        assert body["error"]["message"]


async def test_a_wrong_digest_and_a_cut_upload_leave_nothing(
    http: Http, gateway: Gateway, storage: RunningStorage, tmp_path: Path
) -> None:
    path = f"/api/v1/packs/{SHA256}"
    status, body = await asked(http(), "PUT", path, data=BytesIO(DATA[:-1]))
    assert (status, body["error"]["code"]) == (400, "bad_request")
    assert "sha256" in body["error"]["message"]
    incoming = tmp_path / "storage" / "incoming"
    host, port = gateway.url.removeprefix("http://").split(":")
    for length in (f"Content-Length: {len(DATA)}\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n16E360\r\n"):
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {USER}\r\n{length}"
        writer.write(head.encode() + DATA[:1_500_000])
        await writer.drain()
        await until(lambda: any(incoming.iterdir()))
        writer.transport.abort()
        await until(lambda: not any(incoming.iterdir()))
    assert storage.blobs.find(pack_key(PROJECT, SHA256)) is None


async def test_a_storage_that_is_away_is_unavailable_not_broken(
    http: Http, storage: RunningStorage, backend: Backend
) -> None:
    await storage.stop()
    async with http().put(f"/api/v1/packs/{SHA256}", data=BytesIO(DATA)) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await answer.json())["error"]["code"] == "unavailable"
    status, body = await asked(http(None), "GET", "/ready")
    assert (status, body) == (503, {"ok": False, "away": ["storage"]})
    assert (await asked(http(None), "GET", "/health"))[0] == 200


async def test_ready_when_everything_answers(http: Http, backend: Backend) -> None:
    answers = await asyncio.gather(*(asked(http(None), "GET", "/ready") for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert len(backend.asked) == 1


async def test_joining_is_asked_once_or_it_would_make_two_agents(http: Http, backend: Backend) -> None:
    body = b'{"token":"join-token-of-a-slow-day","name":"a"}'
    assert (await asked(http(None), "POST", "/api/v1/agents/join", data=body))[0] == 503
    assert backend.asked.count("join") == 1


async def test_an_agent_joins_fetches_bundles_and_stores_traces_of_its_own_attempts(
    http: Http, backend: Backend
) -> None:
    joined = await asked(http(None), "POST", "/api/v1/agents/join", data=b'{"token":"join-token","name":"a"}')
    assert (joined[0], joined[1]["agent_id"]) == (200, "agent-9")
    await stored(http())
    for kind, digest_of, content in (("bundles", MADE.digest, MADE.manifest), ("packs", PACK, PACKED)):
        path = f"/api/v1/agent/{kind}/{PROJECT}/{digest_of}"
        async with http(AGENT).get(path) as got:
            assert (got.status, await got.read()) == (200, content)
        assert (await asked(http(AGENT), "GET", path.replace(PROJECT, "project-2")))[0] == 404
        assert (await asked(http(), "GET", path))[0] == 403
    backend.put(view(attempt=1))
    backend.add(JOB, 1, PRINCIPALS[AGENT].id)  # type: ignore[arg-type]
    trace = f"/api/v1/agent/files/{JOB}/1/trace?path=train.json"
    digest = {"X-Chisel-Sha256": SHA256}
    put = await asked(http(AGENT), "PUT", trace, data=BytesIO(DATA), headers=digest)
    assert (put[0], put[1]["size_bytes"]) == (201, len(DATA))
    assert (await asked(http(OTHER_AGENT), "PUT", trace, data=b"x", headers=digest))[0] == 403
    assert (await asked(http(USER), "PUT", trace, data=b"x", headers=digest))[0] == 403
    for path, headers, status in (
        (trace, {}, 400),
        (trace, {"X-Chisel-Sha256": "0" * 64}, 400),
        (trace.replace("/1/", "/2/"), digest, 404),
        (trace.replace("/trace?", "/log?"), digest, 404),
        (trace.replace("train.json", ".hidden"), digest, 400),
        (trace.replace("train.json", "..%2Fx"), digest, 400),
    ):
        assert (await asked(http(AGENT), "PUT", path, data=b"x", headers=headers))[0] == status
    (listed,) = (await asked(http(), "GET", f"/api/v1/jobs/{JOB}/traces"))[1]["traces"]
    seen = msgspec.convert(listed, TraceView)
    assert (seen.job_id, seen.attempt, seen.name, seen.size_bytes, seen.sha256, seen.state) == (
        JOB, 1, "train.json", len(DATA), SHA256, "ready",
    )  # fmt: skip
    async with http().get(f"/api/v1/jobs/{JOB}/traces/train.json", headers={"Range": "bytes=5-9"}) as part:
        assert (part.status, await part.read()) == (206, DATA[5:10])
    async with http().get(f"/api/v1/jobs/{JOB}/traces/train.json?attempt=1") as whole:
        assert (await whole.read(), whole.headers["X-Chisel-Sha256"]) == (DATA, SHA256)
    assert (await asked(http(STRANGER), "GET", f"/api/v1/jobs/{JOB}/traces"))[0] == 404


async def test_outputs_of_a_job_are_listed_and_fetched_by_their_digest(http: Http, backend: Backend) -> None:
    files = f"/api/v1/jobs/{JOB}/files"
    backend.put(view())
    before = await asked(http(), "GET", files)
    assert (before[0], before[1]["ended"], before[1]["files"]) == (200, False, [])
    end = JobEnd(reason=EndReason.EXIT, exit_code=0, outputs=2, outputs_left_out="a pipe")
    backend.put(view(attempt=1, end=end))
    backend.add(JOB, 1, PRINCIPALS[AGENT].id)  # type: ignore[arg-type]
    put = f"/api/v1/agent/files/{JOB}/1/output?path=deep%2Fmodel%20%C3%A9.bin&mode=executable"
    digest = {"X-Chisel-Sha256": SHA256}
    assert (await asked(http(AGENT), "PUT", put, data=BytesIO(DATA), headers=digest))[0] == 201
    assert (await asked(http(OTHER_AGENT), "PUT", put, data=b"x", headers=digest))[0] == 403
    for wrong in ("path=..%2Fx", "path=%2Fx", "path=a%2F%2Fb", ""):
        path = f"{put.partition('?')[0]}?{wrong}"
        assert (await asked(http(AGENT), "PUT", path, data=b"x", headers=digest))[0] == 400
    listed = msgspec.convert((await asked(http(), "GET", files))[1], Outputs)
    assert (listed.ended, listed.count, listed.left_out) == (True, 2, "a pipe")
    (file,) = listed.files
    assert (file.path, file.mode, file.sha256) == ("deep/model é.bin", "executable", SHA256)
    async with http().get(f"{files}/{SHA256}", headers={"Range": "bytes=5-9"}) as part:
        assert (part.status, await part.read()) == (206, DATA[5:10])
        assert part.headers["Content-Disposition"].startswith("attachment")
    for path in (f"{files}/{SHA256}?attempt=2", f"{files}/{'0' * 64}", f"{files}/model.bin"):
        assert (await asked(http(), "GET", path))[0] == 404
    for path in (files, f"{files}/{SHA256}"):
        assert (await asked(http(STRANGER), "GET", path))[0] == 404


async def test_garbage_on_the_port_is_no_event(gateway: Gateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    for garbage in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 50, b"G" * 20_000):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(garbage)
        writer.write_eof()
        assert b"500" not in (await reader.read(100)).split(b"\r\n")[0]
        writer.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gpu.example.com"])
def test_other_machines_only_when_the_operator_says_so(host: str) -> None:
    known = dict(nats_url="nats://x", storage_url="http://x", storage_token="x" * 16)
    with pytest.raises(ValidationError, match="CHISEL_GATEWAY_ALLOW_PLAIN_HTTP=1"):
        Settings(host=host, **known)  # type: ignore[arg-type]
    assert Settings(host=host, allow_plain_http=True, **known).host == host  # type: ignore[arg-type]
    for loopback in ("127.0.0.1", "::1", "localhost"):
        assert Settings(host=loopback, **known).host == loopback  # type: ignore[arg-type]
