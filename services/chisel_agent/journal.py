"""What the agent remembers of each attempt: one small file in the attempt's own folder.

The file says what was assigned and how far the agent got; how far the job got is said by the shim's
own files, which are true whether or not an agent lived to read them. `recover` puts both together.
"""

import os
from enum import StrEnum
from pathlib import Path

import msgspec

from chisel_agent import shim_tail
from chisel_agent.launch import is_running
from chisel_agent.records import write_all
from chisel_shared.contract.ids import JobId, is_id
from chisel_shared.contract.job import JobState
from chisel_shared.contract.messages import Assignment, AttemptRef
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.output import STREAMS

log = Log("chisel.agent.journal")

NAME = "journal"


class Phase(StrEnum):
    PREPARING = "preparing"
    """Assigned; no shim was started. After a crash of the agent nothing is left of it."""
    LAUNCHED = "launched"
    """A shim was started, or was about to be: its files say what became of it."""
    FINISHED = "finished"
    """The scheduler knows the end. The spool stays until storage has it."""
    DROPPED = "dropped"
    """No longer ours: whatever still runs must end, and nobody is to be told."""


class Entry(msgspec.Struct, frozen=True):
    phase: Phase
    assignment: Assignment
    gpus: tuple[int, ...] = ()
    master_port: int = 0
    reported: JobState | None = None
    """The last state the scheduler is known to have heard."""
    claimed_at: float = 0.0
    """When the claim was sent, on the clock of leases."""
    finished_at: float = 0.0
    """Seconds since the epoch, to drop in the end what nobody ever archived."""
    settling: bool = False
    """It has ended for everybody, and still holds its GPUs: see `aftermath.py`."""
    withheld: str = ""
    """Why they are given to nobody, when that takes too long."""

    @property
    def ref(self) -> AttemptRef:
        return AttemptRef(job_id=self.assignment.job_id, attempt=self.assignment.attempt)


class Fate(StrEnum):
    RUNNING = "running"
    ENDED = "ended"
    FINISHED = "finished"
    DROPPED = "dropped"
    CUT_OFF = "cut_off"
    """Its shim was killed, and the end of its long output is still to be shipped."""
    NOTHING = "nothing"
    """It never ran, or its shim was killed: the scheduler is to hear that it is not held."""


_decoder = msgspec.json.Decoder(Entry)
_encoder = msgspec.json.Encoder()


def folder_name(ref: AttemptRef) -> str:
    return f"{ref.job_id}.{ref.attempt}"


def ref_of(name: str) -> AttemptRef | None:
    """The attempt whose folder is called `name`; None when no attempt's is."""
    job_id, _, number = name.partition(".")
    if not is_id(job_id) or not (number.isascii() and number.isdecimal()):
        return None
    return AttemptRef(job_id=JobId(job_id), attempt=int(number))


def write(folder: Path, entry: Entry) -> None:
    """Append the whole entry: a write, where replacing a file may wait for the disk. It begins a line of
    its own, whatever a write that a full disk cut short has left."""
    descriptor = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, b"\n" + _encoder.encode(entry))
    finally:
        os.close(descriptor)


def read(folder: Path) -> Entry | None:
    """The last whole line; None when there is none, which only a power cut brings about."""
    try:
        lines = (folder / NAME).read_bytes().split(b"\n")
    except FileNotFoundError:
        lines = []
    for line in reversed(lines):
        try:
            return _decoder.decode(line)
        except msgspec.MsgspecError:
            continue
    log.warning("journal_unreadable", folder=folder.name)
    return None


def fate(folder: Path, entry: Entry) -> Fate:
    """What became of an attempt while no agent looked."""
    match entry.phase:
        case Phase.PREPARING:
            # A failure of the preparation is written as an end, like a shim's.
            return Fate.ENDED if (folder / "exit").exists() else Fate.NOTHING
        case Phase.FINISHED:
            return Fate.FINISHED
        case Phase.DROPPED:
            return Fate.DROPPED
        case Phase.LAUNCHED:
            if is_running(folder):
                return Fate.RUNNING
            if (folder / "exit").exists():
                return Fate.ENDED
            cut_off = any((folder / f"{name}{shim_tail.SUFFIX}").exists() for name in STREAMS)
            return Fate.CUT_OFF if cut_off else Fate.NOTHING


def recover(attempts: Path) -> list[tuple[Path, Entry | None]]:
    """Every attempt's folder with its entry; None for one whose entry was lost."""
    folders = sorted(path for path in attempts.iterdir() if path.is_dir())
    return [(folder, read(folder)) for folder in folders]
