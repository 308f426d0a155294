"""What can be asked about a job and done with it, over HTTP."""

import aiohttp
import msgspec

from chisel_shared.contract.messages import Gpus, Why
from chisel_shared.contract.stops import Stop
from chisel_storage.blobs import bundle_key
from tests.gateway.backend import READER, STRANGER, Backend
from tests.gateway.conftest import Http
from tests.gateway.test_api import SPEC, asked, stored
from tests.support.storage import PROJECT, RunningStorage


async def submitted(http: aiohttp.ClientSession) -> str:
    await stored(http)
    body, key = msgspec.json.encode(SPEC), {"Idempotency-Key": "k1"}
    return str((await asked(http, "POST", "/api/v1/jobs", data=body, headers=key))[1]["job"]["id"])


async def test_a_cancel_says_how_and_why(http: Http, backend: Backend) -> None:
    job = await submitted(http())
    path = f"/api/v1/jobs/{job}/cancel"
    assert (await asked(http(), "POST", path))[0] == 200
    body = b'{"signal": "USR1", "grace_seconds": 30, "reason": "too slow"}'
    assert (await asked(http(), "POST", path, data=body))[0] == 200
    plain, full = backend.cancels
    assert (plain.stop, plain.reason, plain.requested_by, plain.asked_by) == (Stop(), "", "Ada", "user-1")
    assert (full.stop, full.reason) == (Stop(signal="USR1", grace_seconds=30.0), "too slow")
    assert (await asked(http(), "POST", path, data=b'{"signal": 9}'))[0] == 400


async def test_a_rerun_is_a_new_job_with_the_same_spec(http: Http, backend: Backend) -> None:
    job = await submitted(http())
    path = f"/api/v1/jobs/{job}/rerun"
    assert (await asked(http(), "POST", path))[0] == 400  # without a key
    key = {"Idempotency-Key": "k2"}
    status, answer = await asked(http(), "POST", path, headers=key)
    assert (status, answer["created"]) == (201, True)
    assert answer["job"]["id"] != job
    assert answer["job"]["argv"] == list(SPEC.argv)
    again = await asked(http(), "POST", path, headers=key)
    assert (again[0], again[1]["job"]["id"]) == (200, answer["job"]["id"])
    assert (await asked(http(READER), "POST", path, headers=key))[0] == 403
    assert (await asked(http(STRANGER), "POST", path, headers=key))[0] == 404


async def test_a_rerun_whose_files_are_gone_is_refused(
    http: Http, storage: RunningStorage, backend: Backend
) -> None:
    job = await submitted(http())
    path = storage.blobs.find(bundle_key(PROJECT, SPEC.bundle))
    assert path is not None
    path.unlink()
    key = {"Idempotency-Key": "k2"}
    status, body = await asked(http(), "POST", f"/api/v1/jobs/{job}/rerun", headers=key)
    assert (status, "are not stored any more" in body["error"]["message"]) == (404, True)


async def test_why_and_gpus_are_the_schedulers_own_words(http: Http, backend: Backend) -> None:
    job = await submitted(http())
    why = msgspec.convert((await asked(http(), "GET", f"/api/v1/jobs/{job}/why"))[1], Why)
    assert (why.job.id, why.position, why.waiting) == (job, 2, "1 job ahead")
    gpus = msgspec.convert((await asked(http(), "GET", "/api/v1/gpus"))[1], Gpus)
    assert [(kind.model, kind.free) for kind in gpus.kinds] == [("A100-80GB", 4)]


async def test_last_names_a_job_wherever_one_is_named(http: Http, backend: Backend) -> None:
    """What it stands for is the scheduler's business; nothing at the door is in its way."""
    for name in ("@last", "last"):
        status, body = await asked(http(), "GET", f"/api/v1/jobs/{name}")
        assert (status, body["error"]["message"]) == (404, f"there is no job {name}")
