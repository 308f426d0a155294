"""What a job wrote into `./outputs`, found at its end and stored. The tree is the job's: nothing in it
is trusted, no link is followed, and what cannot travel is left out and said.

At the end the folder is moved out of the working directory in one step, so that what is uploaded can no
longer change its place, and a restarted agent finds what the killed one was uploading.
"""

import asyncio
import os
import shutil
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from chisel_agent.records import write_aside
from chisel_agent.settled import Mark
from chisel_agent.uploads import FileStore, Uploads
from chisel_shared.contract.bundles import MAX_DEPTH
from chisel_shared.contract.files import FOLDER, MAX_LINK_BYTES, FileKind, FileMode, link_fault, path_fault
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.outputs")

_AT_ONCE = 4
_NAMED = 3
"""How many files of each reason are named; the rest is counted."""
_NAME_CHARS = 100
_LOOKED_AT = 1_000_000
"""More entries than this are not looked at: a job could make them faster than anybody could list them."""
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Stamp = tuple[int, int, int, int]
"""Size, times of change of content and of status, and inode: the same file, unwritten, has the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """How much of one job may come back."""

    files: int = 10_000
    bytes: int = 4 << 30


class Before(msgspec.Struct, frozen=True):
    """What was known before the launch: the working directory below the tree, and the files that were
    in its `outputs` already."""

    at: str
    files: dict[str, Stamp] = {}


@dataclass(frozen=True, slots=True)
class Found:
    """A file to store. `target` of a link, else ""."""

    path: str
    mode: FileMode
    mark: Mark
    target: str = ""

    @property
    def size(self) -> int:
        return len(self.target.encode()) if self.target else self.mark[0]


@dataclass(slots=True)
class Scan:
    """What is in a tree, and what of it is left out and why."""

    found: list[Found] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    size: int = 0

    def leave_out(self, path: str, reason: str) -> None:
        self.counts[reason] += 1
        names = self.names.setdefault(reason, [])
        if len(names) < _NAMED:
            names.append(_shown(path))

    def left_out(self) -> str:
        """A line for each reason."""
        lines = []
        for reason, names in self.names.items():
            more = self.counts[reason] - len(names)
            lines.append(f"{', '.join(names)}{f' and {more} more' if more else ''}: {reason}")
        return "\n".join(lines)


def note_before(folder: Path, cwd: Path) -> None:
    """Write down what lies in `cwd/outputs` before the job starts."""
    files: dict[str, Stamp] = {}
    if os.path.isdir(cwd / FOLDER) and not os.path.islink(cwd / FOLDER):
        root = os.open(cwd / FOLDER, _FOLDER_FLAGS)
        try:
            for path, status in _walk(root, Scan()):
                if path_fault(path) is None:
                    files[path] = _stamp(status)
        finally:
            os.close(root)
    before = Before(at=str(cwd.relative_to((folder / "work").resolve())), files=files)
    write_aside(folder / "outputs.before", msgspec.json.encode(before))


def scan(root: int, before: dict[str, Stamp], cap: Cap) -> Scan:
    """The files below the open folder `root` that were not there before, or were written since."""
    seen = Scan()
    for path, status in _walk(root, seen):
        if path in before and tuple(before[path]) == _stamp(status):
            continue
        found = _as_found(root, path, status)
        if isinstance(found, str):
            seen.leave_out(path, found)
        elif len(seen.found) >= cap.files:
            seen.leave_out(path, f"more than the {cap.files:,} files that one job may send back")
        elif seen.size + found.size > cap.bytes:
            seen.leave_out(path, f"more than the {cap.bytes:,} bytes that one job may send back")
        else:
            seen.found.append(found)
            seen.size += found.size
    return seen


def _as_found(root: int, path: str, status: os.stat_result) -> Found | str:
    """What may travel, or why it may not."""
    fault = path_fault(path)
    if fault is not None:
        return f"the name {fault}"
    mark = (status.st_size, status.st_mtime_ns)
    if stat.S_ISREG(status.st_mode):
        executable = bool(status.st_mode & stat.S_IXUSR)
        return Found(path, FileMode.EXECUTABLE if executable else FileMode.PLAIN, mark)
    if not stat.S_ISLNK(status.st_mode):
        return "neither file nor folder"
    try:
        parent, name = _parent(root, path)
        try:
            target = os.readlink(name, dir_fd=parent)
        finally:
            os.close(parent)
    except OSError as error:
        return f"unreadable ({error.strerror})"
    fault = link_fault(path, target) if len(target) <= MAX_LINK_BYTES else "is too long a link"
    return f"it {fault}" if fault is not None else Found(path, FileMode.LINK, mark, target)


def _walk(root: int, seen: Scan) -> "list[tuple[str, os.stat_result]]":
    """Everything below `root` but folders, by path, no link followed."""
    entries: list[tuple[str, os.stat_result]] = []
    waiting = [""]
    looked_at = 0
    while waiting:
        folder = waiting.pop()
        try:
            descriptor = open_beneath(root, folder, _FOLDER_FLAGS)
        except OSError as error:
            seen.leave_out(folder, f"unreadable ({error.strerror})")
            continue
        try:
            with os.scandir(descriptor) as listing:
                for entry in listing:
                    looked_at += 1
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if looked_at > _LOOKED_AT:
                        seen.leave_out(path, f"behind more than {_LOOKED_AT:,} others")
                        waiting.clear()
                        break
                    status = entry.stat(follow_symlinks=False)
                    if not stat.S_ISDIR(status.st_mode):
                        entries.append((path, status))
                    elif path.count("/") + 1 > MAX_DEPTH:
                        seen.leave_out(path, f"more than {MAX_DEPTH} folders deep")
                    else:
                        waiting.append(path)
        except OSError as error:
            seen.leave_out(folder, f"unreadable ({error.strerror})")
        finally:
            os.close(descriptor)
    entries.sort()
    return entries


def open_beneath(root: int, path: str, flags: int) -> int:
    """Open `path` below the folder `root`, refusing every link on the way."""
    if not path:
        return os.open(".", flags, dir_fd=root)
    parent, name = _parent(root, path)
    try:
        return os.open(name, flags, dir_fd=parent)
    finally:
        os.close(parent)


def _parent(root: int, path: str) -> tuple[int, str]:
    *folders, name = path.split("/")
    descriptor = os.dup(root)
    for folder in folders:
        try:
            deeper = os.open(folder, _FOLDER_FLAGS, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = deeper
    return descriptor, name


class Outputs:
    """The outputs of one attempt, whose folder on this machine is `folder`."""

    def __init__(self, *, store: FileStore, ref: AttemptRef, folder: Path, cap: Cap) -> None:
        self._folder = folder
        self._cap = cap
        self._uploads = Uploads(
            store=store, ref=ref, kind=FileKind.OUTPUT, record=folder / "outputs.uploaded"
        )
        self._scan: Scan | None = None
        self._fault = ""
        self._busy = asyncio.Lock()

    @property
    def moved_bytes(self) -> int:
        return self._uploads.moved_bytes

    @property
    def count(self) -> int:
        """How many files come back, stored by now or not."""
        return len(self._scan.found) if self._scan else 0

    @property
    def size_bytes(self) -> int:
        return self._scan.size if self._scan else 0

    @property
    def left_out(self) -> str:
        return self._fault or (self._scan.left_out() if self._scan else "")

    async def collect(self) -> None:
        """Find what the job wrote. Nothing of it runs any more; doing it twice finds the same."""
        async with self._busy:
            if self._scan is None:
                try:
                    if self._take():
                        self._scan = await asyncio.to_thread(self._look)
                except (OSError, msgspec.MsgspecError) as error:
                    log.warning("outputs_unreadable", error=repr(error))
                    self._fault = f"all of {FOLDER}: the agent could not read it"

    async def upload_all(self) -> None:
        """Return when everything found is stored or refused, however long that takes; then it is gone
        from this machine's disk."""
        await self.collect()
        async with self._busy:
            if self._scan is None:
                return
            root = os.open(self._folder / FOLDER, _FOLDER_FLAGS)
            try:
                await self._upload(root, self._scan.found)
            finally:
                os.close(root)

    async def drop(self) -> None:
        """What is stored need not lie here as well."""
        await asyncio.to_thread(shutil.rmtree, self._folder / FOLDER, ignore_errors=True)

    async def _upload(self, root: int, found: list[Found]) -> None:
        waiting = iter([file for file in found if not self._uploads.is_settled(file.path, file.mark)])

        async def work() -> None:
            for file in waiting:
                if file.mode is FileMode.LINK:
                    await self._uploads.upload_link(file.path, file.target, mark=file.mark)
                else:
                    path = file.path
                    await self._uploads.upload(
                        path,
                        mark=file.mark,
                        mode=file.mode,
                        opened=lambda path=path: open_beneath(root, path, _FILE_FLAGS),  # type: ignore[misc]
                    )

        async with asyncio.TaskGroup() as tasks:
            for number in range(_AT_ONCE):
                tasks.create_task(work(), name=f"outputs {number}")

    def _before(self) -> Before:
        return msgspec.json.decode((self._folder / "outputs.before").read_bytes(), type=Before)

    def _take(self) -> bool:
        """Move the folder to where the job's tree ends; whether there is one."""
        target = self._folder / FOLDER
        if target.is_dir() and not target.is_symlink():
            return True  # an agent before us did
        try:
            before = self._before()
            work = os.open(self._folder / "work", _FOLDER_FLAGS)
        except FileNotFoundError:
            return False  # nothing of the job ever ran
        try:
            descriptor = open_beneath(work, "" if before.at == "." else before.at, _FOLDER_FLAGS)
        except OSError:
            return False  # the job removed its own working directory
        finally:
            os.close(work)
        try:
            status = os.stat(FOLDER, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                os.rename(FOLDER, target, src_dir_fd=descriptor)
                return True
            what = "a link" if stat.S_ISLNK(status.st_mode) else "not a folder"
            self._fault = f"all of {FOLDER}: it is {what}"
            return False
        except FileNotFoundError:
            return False
        finally:
            os.close(descriptor)

    def _look(self) -> Scan:
        root = os.open(self._folder / FOLDER, _FOLDER_FLAGS)
        try:
            return scan(root, self._before().files, self._cap)
        finally:
            os.close(root)


def _stamp(status: os.stat_result) -> Stamp:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _shown(path: str) -> str:
    """A name of the job's as it may stand in a line of ours."""
    text = "".join(char if char.isprintable() else "?" for char in path)
    return text if len(text) <= _NAME_CHARS else f"{text[:_NAME_CHARS]}…"
