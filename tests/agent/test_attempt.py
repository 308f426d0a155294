"""The life of an attempt: a real agent on a real NATS, with a scheduler and a gateway of a few lines."""

import asyncio
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chisel_agent.launch import ColdLauncher
from chisel_shared.contract.ids import Digest
from chisel_shared.contract.job import EndReason, JobState
from chisel_shared.contract.manifest import VERSION, Chunk, File, Manifest, Pack, encode
from tests.agent.facts import alive, until
from tests.agent.world import SLEEP, World, folder_of, ready
from tests.support.packs import pack, sha256


async def test_a_script_runs_and_its_bytes_and_its_status_arrive(world: World) -> None:
    code = "import sys; print('hello'); print('oops', file=sys.stderr); sys.exit(3)"
    async with world.agent():
        ref = await world.scheduler.submit(world.python(code))
        end = await world.scheduler.end_of(ref)
    assert (end.reason, end.exit_code) == (EndReason.EXIT, 3)
    assert await world.output(ref) == (b"hello\n", b"oops\n")
    assert (end.stdout_bytes, end.stderr_bytes) == (6, 5)
    assert end.stdout_sha256 == hashlib.sha256(b"hello\n").hexdigest()
    states = [state for of, state in world.scheduler.progress if of == ref]
    assert states == [JobState.PREPARING, JobState.RUNNING]


async def test_a_script_that_prints_nothing_has_an_end_too(world: World) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python(""))
        end = await world.scheduler.end_of(ref)
    assert (end.reason, end.exit_code, end.stdout_bytes) == (EndReason.EXIT, 0, 0)
    assert end.stdout_sha256 == end.stderr_sha256 == hashlib.sha256(b"").hexdigest()
    assert await world.output(ref) == (b"", b"")


async def test_the_job_is_told_where_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHISEL_AGENT_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LC_TIME", "C.UTF-8")
    code = (
        "import os, json, sys\nprint(json.dumps([dict(os.environ), sys.argv, os.getcwd(), sys.executable]))"
    )
    spec = world.python(
        code,
        files={"sub/x": ""},
        argv=("python", "../main.py", "--flag"),
        workdir="sub",
        env={"MINE": "1", "CHISEL_JOB_ID": "forged"},
    )
    async with world.agent():
        ref = await world.scheduler.submit(spec, gpus=2)
        other = await world.scheduler.submit(spec, gpus=4)
        await world.scheduler.end_of(ref)
        await world.scheduler.end_of(other)
    env, argv, cwd, executable = json.loads((await world.output(ref))[0])
    assert argv == ["../main.py", "--flag"]
    assert cwd == str(folder_of(world, ref) / "work/sub")
    expected = {
        "CHISEL_BACKEND_RUN": "1",
        "CHISEL_JOB_ID": ref.job_id,
        "CHISEL_ATTEMPT": "1",
        "CHISEL_BACKEND_APP_NAME": "test",
        "CHISEL_TRACE_DIR": str(folder_of(world, ref) / "traces"),
        "CHISEL_GPU_COUNT": "2",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "MASTER_ADDR": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
        "MINE": "1",
        "LC_TIME": "C.UTF-8",
    }
    assert env | expected == env
    assert env["PATH"].split(":")[0] == str(Path(executable).parent)
    assert not [name for name in env if "AGENT" in name or "NATS" in name or "AWS" in name]
    other_env = json.loads((await world.output(other))[0])[0]
    assert other_env["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"
    assert other_env["MASTER_PORT"] != env["MASTER_PORT"]


async def test_chisel_can_be_imported_by_every_job(world: World) -> None:
    code = (
        "import chisel, chisel_shared.contract.gpus, sys; print([p for p in sys.path if p.endswith('/sdk')])"
    )
    async with world.agent():
        ref = await world.scheduler.submit(world.python(code))
        assert (await world.scheduler.end_of(ref)).exit_code == 0
    sdk = world.data_dir / "sdk"
    assert (await world.output(ref))[0].decode().strip() == str([str(sdk)])
    assert sorted(os.listdir(sdk)) == ["chisel", "chisel_shared"]


async def test_eight_gpus_run_four_and_two_and_one_and_one_together(world: World) -> None:
    async with world.agent():
        refs = [await world.scheduler.submit(world.python(SLEEP), gpus=count) for count in (4, 2, 1, 1)]
        late = await world.scheduler.submit(world.python("print('late')"))
        for ref in refs:
            await world.scheduler.state(ref, JobState.RUNNING)
        assert late not in world.scheduler.held
        await world.scheduler.ask_to_cancel(refs[-1])
        assert (await world.scheduler.end_of(late)).exit_code == 0
        for ref in refs[:-1]:
            await world.scheduler.ask_to_cancel(ref)
        for ref in refs:
            assert (await world.scheduler.end_of(ref)).reason is EndReason.USER


@pytest.mark.parametrize(
    ("fields", "reason", "says"),
    [
        ({"bundle": Digest("0" * 64)}, EndReason.START, "no such bundle"),
        ({"argv": ("no-such-program",)}, EndReason.START, "No such file"),
        ({"argv": ()}, EndReason.START, "no command"),
        ({"argv": ("python", "a\0b")}, EndReason.START, "NUL"),
        ({"workdir": "missing"}, EndReason.START, "not in the uploaded directory"),
        ({"workdir": "../.."}, EndReason.START, "outside"),
        ({"requirements": "missing.txt"}, EndReason.DEPS, "missing.txt is not in"),
    ],
)
async def test_what_cannot_begin_ends_with_its_reason(
    world: World, fields: dict[str, Any], reason: EndReason, says: str
) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python("", **fields))
        end = await world.scheduler.end_of(ref)
    assert end.reason is reason
    assert says in end.detail
    assert (ref, JobState.RUNNING) not in world.scheduler.progress
    assert await world.output(ref) == (b"", b"")


async def test_a_manifest_that_is_none_cannot_begin(world: World) -> None:
    data = b"not a manifest"
    world.gateway.bundles[sha256(data)] = data
    async with world.agent():
        ref = await world.scheduler.submit(world.python("", bundle=sha256(data)))
        end = await world.scheduler.end_of(ref)
    assert end.reason is EndReason.START
    assert "the manifest cannot be read" in end.detail


async def test_a_pack_without_what_its_manifest_says_cannot_begin(world: World) -> None:
    digest, other = pack(b"something else")
    text = b"print(1)"
    listed = Manifest(
        version=VERSION,
        packs=(Pack(digest, len(other)),),
        entries=(File("main.py", executable=False, size=len(text), chunks=(Chunk(sha256(text), 0),)),),
    )
    encoded = encode(listed)
    world.gateway.bundles |= {sha256(encoded): encoded, digest: other}
    async with world.agent():
        ref = await world.scheduler.submit(world.python("", bundle=sha256(encoded)))
        end = await world.scheduler.end_of(ref)
    assert end.reason is EndReason.START
    assert "'main.py' is not in the pack that should have it" in end.detail


async def test_a_bundle_that_arrives_damaged_is_asked_for_again_but_not_for_ever(world: World) -> None:
    digest = Digest("1" * 64)
    world.gateway.bundles[digest] = b"something else"
    async with world.agent():
        ref = await world.scheduler.submit(world.python("", bundle=digest))
        end = await world.scheduler.end_of(ref)
    assert end.reason is EndReason.START
    assert "damaged" in end.detail
    assert len([path for path in world.gateway.asked if digest in path]) == 3


async def test_a_bundle_is_fetched_once(world: World) -> None:
    spec = world.python("print(1)")
    async with world.agent():
        for _ in range(3):
            await world.scheduler.end_of(await world.scheduler.submit(spec))
    assert len([path for path in world.gateway.asked if "/bundles/" in path]) == 1
    assert len([path for path in world.gateway.asked if "/packs/" in path]) == 1


async def test_requirements_that_cannot_be_installed_end_it_with_the_installers_words(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    spec = world.python(
        "", files={"requirements.txt": "chisel-no-such-package==1"}, requirements="requirements.txt"
    )
    async with world.agent():
        ref = await world.scheduler.submit(spec)
        end = await world.scheduler.end_of(ref)
    assert end.reason is EndReason.DEPS
    assert "No matching distribution found for chisel-no-such-package==1" in end.detail


async def test_a_gateway_that_is_away_only_delays(world: World) -> None:
    spec = world.python("print('made it')")
    world.gateway.refuse = True

    async def back_after(asks: int) -> None:
        await until(lambda: len(world.gateway.asked) >= asks)
        world.gateway.refuse = False

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(back_after(3))
        async with world.agent():
            world.gateway.refuse = True
            ref = await world.scheduler.submit(spec)
            tasks.create_task(back_after(len(world.gateway.asked) + 3))
            assert (await world.scheduler.end_of(ref)).exit_code == 0


# Traces


async def test_traces_are_stored_before_the_end_is_told(world: World) -> None:
    code = (
        "import os, pathlib, time\n"
        "d = pathlib.Path(os.environ['CHISEL_TRACE_DIR'])\n"
        "(d / 'first.tmp').write_text('{\"n\": 1}'); (d / 'first.tmp').rename(d / 'first.json')\n"
        "(d / 'second.json').write_bytes(b'x' * 3_000_000)\n"
        "(d / 'unfinished.tmp').write_text('{')\n"
        "(d / 'link.json').symlink_to('/etc/passwd')\n"
        "(d / 'a b.json').write_text('{}')\n"
        "(d / 'folder.json').mkdir()\n"
    )
    async with world.agent():
        ref = await world.scheduler.submit(world.python(code))
        assert (await world.scheduler.end_of(ref)).traces == 2
        stored = {
            name: len(data) for (job, _, name), data in world.gateway.traces.items() if job == ref.job_id
        }
    assert stored == {"first.json": 8, "second.json": 3_000_000}


async def test_a_trace_is_stored_while_its_job_runs(world: World) -> None:
    code = (
        "import os, pathlib, time\n"
        "(pathlib.Path(os.environ['CHISEL_TRACE_DIR']) / 'early.json').write_text('{}')\n" + SLEEP
    )
    async with world.agent():
        ref = await world.scheduler.submit(world.python(code))
        await until(lambda: (ref.job_id, 1, "early.json") in world.gateway.traces)
        await world.scheduler.ask_to_cancel(ref)
        await world.scheduler.end_of(ref)
    assert world.gateway.trace_door.offsets == [0]


# Afterwards


async def test_the_spool_stays_until_it_is_archived(world: World) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python("print('kept')"))
        await world.scheduler.end_of(ref)
        await world.scheduler.until(lambda: any(ref in renew.finished for renew in world.scheduler.renewals))
        assert (folder_of(world, ref) / "stdout").read_bytes() == b"kept\n"
        assert not (folder_of(world, ref) / "work").exists()
        world.scheduler.archived.add(ref)
        await until(lambda: not folder_of(world, ref).exists())


async def test_a_shim_that_was_killed_before_its_job_began_is_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over = ColdLauncher._hand_over
    lost: list[Path] = []

    def lose_the_first(self: ColdLauncher, folder: Path, lock: int, secrets: Mapping[str, bytes]) -> bool:
        if not lost:
            lost.append(folder)
            return True
        return hand_over(self, folder, lock, secrets)

    monkeypatch.setattr(ColdLauncher, "_hand_over", lose_the_first)
    async with world.agent():
        world.gateway.secrets["TOKEN"] = b"once"
        code = "import os; print(os.environ['TOKEN'])"
        ref = await world.scheduler.submit(world.python(code, secrets={"TOKEN": "A"}))
        assert (await world.scheduler.end_of(ref)).exit_code == 0
    assert (await world.output(ref))[0] == b"once\n"
    assert lost


async def test_a_killed_shim_is_noticed_and_nothing_of_the_job_stays(world: World) -> None:
    code = "import os; print(os.getpid(), os.getppid())\n" + SLEEP
    async with world.agent():
        ref = await world.scheduler.submit(world.python(code))
        await ready(world, ref)
        pid, shim = (await world.output(ref))[0].split()[:2]
        os.kill(int(shim), 9)
        end = await world.scheduler.end_of(ref)
        assert end.reason is EndReason.AGENT_LOST
        assert not alive(int(pid))
