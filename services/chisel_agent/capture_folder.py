"""A job's folder of traces, as it is now. It is the job's: no link is followed, nothing in it is trusted.

A capture has a marker `.{stem}.open` while it is recorded, then its trace `{stem}.json`, which appears whole,
after its sidecar `{stem}.meta.json`. Everything else with a leading dot is being written.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from chisel_agent.settled import Mark
from chisel_shared.contract.ids import is_file_name
from chisel_shared.runtime.logs import Log
from chisel_shared.traces import sidecar

log = Log("chisel.agent.captures")

MOST_CAPTURES = 500
"""Of one attempt; further ones are not looked at. So many can be listed in one message."""

MOST_REFUSED = 10
"""Names that cannot travel: the first ones are told. A job can make any number of them."""

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What was a file could be a link to what the job may not read, or a pipe by now.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TRACE, _MARKER = ".json", ".open"
_MOST_MARKER_BYTES = 4_096


class Facts(msgspec.Struct, frozen=True):
    """What a marker says of its capture. One of an older SDK says nothing."""

    function: str = ""
    call: int | None = None
    rank: int | None = None
    started_at: float | None = None


@dataclass(slots=True)
class Seen:
    """Trace files by name; markers by the name of the trace to come; some names that cannot travel."""

    files: dict[str, Mark] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)


class CaptureFolder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._warned = False

    def changed_at(self) -> int:
        """Another number when something came or went; -1 while there is no such folder."""
        try:
            return self._path.lstat().st_mtime_ns
        except OSError:
            return -1

    def look(self) -> Seen:
        seen = Seen()
        try:
            folder = os.open(self._path, _FOLDER_FLAGS)
        except OSError:
            return seen  # it is made by the first capture
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    _sort(entry, seen)
                    if len(seen.files) + len(seen.open) >= MOST_CAPTURES:
                        self._warn()
                        break
        except OSError:
            return seen
        finally:
            os.close(folder)
        return seen

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            log.warning("too_many_captures", most=MOST_CAPTURES)

    def open(self, name: str) -> int:
        """A descriptor of a plain file; `OSError` for anything else."""
        folder = os.open(self._path, _FOLDER_FLAGS)
        try:
            descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(f"{name} is no plain file")
        return descriptor

    def facts(self, name: str) -> Facts | None:
        """What the marker of a trace says; None while it cannot be read, or is empty for a moment."""
        try:
            data = self._read(f".{name.removesuffix(_TRACE)}{_MARKER}", _MOST_MARKER_BYTES)
        except OSError:
            return None
        try:
            return msgspec.json.decode(data, type=Facts) if data else None
        except (msgspec.MsgspecError, UnicodeError):
            return Facts()

    def sidecar(self, name: str) -> bytes:
        """The sidecar of a trace; nothing when there is none. `ValueError` when it is too large."""
        try:
            data = self._read(name.removesuffix(_TRACE) + sidecar.SUFFIX, sidecar.MAX_BYTES + 1)
        except OSError:
            return b""
        if len(data) > sidecar.MAX_BYTES:
            raise ValueError(f"a sidecar has at most {sidecar.MAX_BYTES:,} bytes")
        return data

    def _read(self, name: str, most_bytes: int) -> bytes:
        descriptor = self.open(name)
        try:
            return os.pread(descriptor, most_bytes, 0)
        finally:
            os.close(descriptor)


def _sort(entry: "os.DirEntry[str]", seen: Seen) -> None:
    name = entry.name
    if name.startswith(".") and name.endswith(_MARKER):
        trace = name[1 : -len(_MARKER)] + _TRACE
        if is_file_name(trace):
            seen.open.add(trace)
    elif name.endswith(_TRACE) and not name.endswith(sidecar.SUFFIX) and not name.startswith("."):
        if not is_file_name(name):
            if len(seen.refused) < MOST_REFUSED:
                seen.refused.add(name)
        elif entry.is_file(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            seen.files[name] = (status.st_size, status.st_mtime_ns)
