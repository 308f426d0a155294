"""From an assignment to something that can be launched: bundle, files, environment, plan."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chisel_agent.bundles import Bundles
from chisel_agent.environment import Environments
from chisel_agent.extract import Extraction
from chisel_agent.gateway import CorruptDownload
from chisel_agent.installer import BuildFailed
from chisel_agent.launch import Exit, Plan
from chisel_agent.outputs import note_before
from chisel_agent.requirements import BadRequirements, Requirements, read_requirements
from chisel_agent.tar import BadArchive
from chisel_agent.variables import Surroundings, command, job_variables
from chisel_shared.contract.errors import ChiselError
from chisel_shared.contract.job import EndReason
from chisel_shared.contract.messages import Assignment
from chisel_shared.runtime.disk import no_space
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.preparation")

_UNPACKING = 2
"""Packs at a time: one is fetched or waits for the disk while the other is decompressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What every job of this agent is held to."""

    interrupt_grace_seconds: float = 5.0
    terminate_grace_seconds: float = 5.0
    backlog_bytes: int = 256 << 20
    head_bytes: int = 1 << 30
    tail_bytes: int = 16 << 20
    stuck_seconds: float = 10.0


class BadJob(Exception):
    """The job asks for something that its bundle does not have."""


class Preparation:
    """What preparing takes; the same for all attempts of an agent."""

    def __init__(
        self,
        *,
        bundles: Bundles,
        environments: Environments,
        inherited: Mapping[str, str],
        sdk: Path,
        limits: Limits,
    ) -> None:
        self._bundles = bundles
        self._environments = environments
        self._inherited = inherited
        self._sdk = sdk
        self._limits = limits

    async def prepare(
        self, assignment: Assignment, folder: Path, *, gpus: tuple[int, ...], master_port: int
    ) -> Plan:
        """Everything up to the launch. Cancelling it leaves nothing running. What it raises,
        `failure` turns into an end."""
        spec = assignment.spec
        work = folder / "work"
        await self._unpack(assignment, work)
        requirements = _requirements(work, spec.requirements)
        environment = await self._environments.get(requirements, user=folder)
        traces = folder / "traces"
        traces.mkdir(mode=0o755, exist_ok=True)
        around = Surroundings(
            inherited=self._inherited,
            python=environment.python,
            virtual_env=environment.folder,
            sdk=self._sdk,
            traces=traces,
            gpus=gpus,
            master_port=master_port,
        )
        cwd = _workdir(work, spec.workdir)
        await asyncio.to_thread(note_before, folder, cwd)
        if not spec.argv:
            raise BadJob("the job has no command")
        return Plan(
            argv=command(assignment, environment.python),
            env=job_variables(assignment, around),
            cwd=cwd,
            time_limit_seconds=spec.time_limit_seconds,
            interrupt_grace_seconds=self._limits.interrupt_grace_seconds,
            terminate_grace_seconds=self._limits.terminate_grace_seconds,
            backlog_bytes=self._limits.backlog_bytes,
            head_bytes=self._limits.head_bytes,
            tail_bytes=self._limits.tail_bytes,
            stuck_seconds=self._limits.stuck_seconds,
        )

    async def _unpack(self, assignment: Assignment, work: Path) -> None:
        """The bundle in the new folder `work`, completely or not at all."""
        project, digest = assignment.project_id, assignment.spec.bundle
        manifest = await self._bundles.manifest(project, digest)
        cancelled = threading.Event()
        extraction = Extraction(manifest, work, cancelled=cancelled)
        try:
            await _in_thread_until_done(extraction.begin, cancelled)
            waiting = iter(enumerate(manifest.packs))

            async def unpack() -> None:
                for number, pack in waiting:
                    with await self._bundles.pack(project, pack.sha256) as archive:
                        await _in_thread_until_done(partial(extraction.unpack, number, archive), cancelled)

            async with asyncio.TaskGroup() as group:
                for _ in range(_UNPACKING):
                    group.create_task(unpack(), name="unpack")
            await _in_thread_until_done(extraction.finish, cancelled)
        except BaseExceptionGroup as failures:
            shutil.rmtree(work, ignore_errors=True)
            raise failures.exceptions[0] from None
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise


async def _in_thread_until_done(work: Callable[[], None], cancelled: threading.Event) -> None:
    """Run in a thread. Cancelled, it waits for the thread, which gives up within one step."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait({running})
        running.exception()  # looked at: whatever it says, nobody wants to know
        raise


def _requirements(work: Path, name: str | None) -> Requirements | None:
    return read_requirements(work, name) if name is not None else None


def _workdir(work: Path, name: str) -> Path:
    path = (work / name).resolve()
    if not path.is_relative_to(work.resolve()):
        raise BadJob(f"the working directory {name!r} lies outside the uploaded directory")
    if not path.is_dir():
        raise BadJob(f"the working directory {name!r} is not in the uploaded directory")
    return path


def failure(error: Exception) -> Exit:
    """How an attempt ends whose preparation or launch failed with `error`."""
    match error:
        case BadRequirements() | BuildFailed():
            return Exit(reason=EndReason.DEPS, detail=str(error))
        case BadArchive():
            return Exit(reason=EndReason.START, detail=f"the bundle cannot be unpacked: {error}")
        case BadJob() | CorruptDownload() | ValueError() | ChiselError():
            return Exit(reason=EndReason.START, detail=str(error))
        case OSError() if no_space(error):
            return Exit(reason=EndReason.DISK, detail=str(error.strerror))
        case OSError():
            log.warning("preparation_failed", error=repr(error))
            return Exit(reason=EndReason.START, detail=str(error))
        case _:
            log.error("preparation_failed", error=repr(error))
            return Exit(reason=EndReason.START, detail="the agent failed; its log has the details")
