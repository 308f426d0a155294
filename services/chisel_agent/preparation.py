"""From an assignment to something that can be launched: bundle, files, environment, plan."""

import asyncio
import errno
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from chisel_agent.bundles import Bundles
from chisel_agent.environment import Environments
from chisel_agent.extract import extract
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
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.preparation")

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What every job of this agent is held to."""

    interrupt_grace_seconds: float = 5.0
    terminate_grace_seconds: float = 5.0
    backlog_bytes: int = 256 << 20
    output_limit_bytes: int = 0


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
        with await self._bundles.open(assignment.project_id, spec.bundle) as bundle:
            await _in_thread_until_done(bundle, work)
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
            output_limit_bytes=self._limits.output_limit_bytes,
        )


async def _in_thread_until_done(bundle: BinaryIO, work: Path) -> None:
    """Unpack in a thread. Cancelled, it waits for the thread, which gives up within one step."""
    cancelled = threading.Event()
    unpacking = asyncio.ensure_future(asyncio.to_thread(extract, bundle, work, cancelled=cancelled))
    try:
        await asyncio.shield(unpacking)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait({unpacking})
        unpacking.exception()  # looked at: whatever it says, nobody wants to know
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
        case OSError() if error.errno in _NO_SPACE:
            return Exit(reason=EndReason.DISK, detail=str(error.strerror))
        case OSError():
            log.warning("preparation_failed", error=repr(error))
            return Exit(reason=EndReason.START, detail=str(error))
        case _:
            log.error("preparation_failed", error=repr(error))
            return Exit(reason=EndReason.START, detail="the agent failed; its log has the details")
