"""Saving a job's outputs on this machine. The tree is the job's: nothing in it decides where we write.

Rules. Every file lands below the folder, at its own path: no part of a path is a link here, a link is
made only where it stays inside, and what cannot be placed is refused by name. A file that is already
there and differs is replaced only when it is exactly what an earlier pull left, or with `force`; else
it stays, and the job's lies beside it as `NAME.JOB`. What is fetched is verified before it gets its name;
what was fetched of a transfer that broke is kept, and the next one goes on from there.
"""

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from chisel.api import Api
from chisel.pulled import Records
from chisel_shared.contract.errors import InternalError, Unavailable, UserError
from chisel_shared.contract.files import MAX_LINK_BYTES, FileMode, link_fault, path_fault
from chisel_shared.contract.messages import FileView, Outputs

PARTIAL = ".chisel-partial"
"""Below the folder: what is being fetched. It goes away when all is there."""

SAVED, UNCHANGED, BESIDE, REFUSED = "saved", "unchanged", "beside", "refused"

_TRIES = 6
_READ_BYTES = 1 << 20
_NOT_ON_WINDOWS = re.compile(r'[<>:"|?*]|[ .]$|^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)', re.IGNORECASE)
_REPARSE_POINT = 0x400


class Stopped(Exception):
    """The user does not want to wait for the rest."""


class Pulled(NamedTuple):
    """What became of a file: `outcome` is one of the four above, `path` where its content lies relative to
    the folder; `why` says what forbade it."""

    file: FileView
    path: str
    outcome: str
    why: str = ""


class _Refused(Exception):
    """This file cannot be placed; the message says why."""


class Puller:
    """Fetches files of one job into `folder`, which is made if need be."""

    def __init__(
        self, *, api: Api, folder: str, outputs: Outputs, force: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._api = api
        self._folder = folder
        self._outputs = outputs
        self._force = force
        self._stopped = stopped
        self._records = Records(folder)

    def pull(self, files: tuple[FileView, ...]) -> Iterator[Pulled]:
        """Save `files`, links last; yields each as soon as it is there. `Unavailable` when the backend
        stays away, `UserError` when this disk refuses, `Stopped`."""
        os.makedirs(self._folder, exist_ok=True)
        try:
            for file in sorted(files, key=lambda file: file.mode is FileMode.LINK):
                try:
                    yield self._pull(file)
                except _Refused as refused:
                    yield Pulled(file, "", REFUSED, str(refused))
                except OSError as error:
                    where = os.path.join(self._folder, file.path)
                    raise UserError(f"{where} cannot be written ({error.strerror})") from error
        finally:
            self._records.save()
        try:
            os.rmdir(os.path.join(self._folder, PARTIAL))
        except OSError:
            return  # there is none, or another transfer is to go on

    def _pull(self, file: FileView) -> Pulled:
        fault = path_fault(file.path) or _fault_here(file.path)
        if fault is not None:
            raise _Refused(fault)
        beside = f"{file.path}.{self._outputs.job_id}"
        self._make_parents(file.path)
        for path, outcome in ((file.path, SAVED), (beside, BESIDE)):
            here = self._content(path)
            if here == _key(file):
                self._records.note(path, here)
                return Pulled(file, path, UNCHANGED if path == file.path else BESIDE)
            if here == "" or (here is not None and (self._force or self._records.knows(path, here))):
                self._save(file, path)
                self._records.note(path, _key(file))
                return Pulled(file, path, outcome)
        raise _Refused(f"is there already, and so is {beside}: move them away, then pull again")

    def _save(self, file: FileView, path: str) -> None:
        fetched = self._fetch(file)
        target = self._at(path)
        if file.mode is not FileMode.LINK:
            if file.mode is FileMode.EXECUTABLE:
                mode = stat.S_IMODE(os.stat(fetched).st_mode)
                os.chmod(fetched, mode | (mode & 0o444) >> 2)
            os.replace(fetched, target)
            return
        with open(fetched, "rb") as content:
            link = content.read(MAX_LINK_BYTES + 1).decode(errors="surrogateescape")
        os.unlink(fetched)
        self._check_link(path, link)
        aside = f"{fetched}.link"
        try:
            if os.path.lexists(aside):
                os.unlink(aside)
            os.symlink(link.replace("/", os.sep), aside)
            os.replace(aside, target)
        except OSError as error:
            raise _Refused(f"is a link, and none could be made here ({error.strerror})") from error

    def _check_link(self, path: str, link: str) -> None:
        fault = link_fault(path, link)
        if fault is not None:
            raise _Refused(fault)
        # What lies here already may be a link of the user's own: it must not lend the job a way out.
        root = os.path.realpath(self._folder)
        end = os.path.realpath(os.path.join(os.path.dirname(self._at(path)), link.replace("/", os.sep)))
        if end != root and not end.startswith(root.rstrip(os.sep) + os.sep):
            raise _Refused("is a link out of the folder")

    def _fetch(self, file: FileView) -> str:
        """The file's content as a file of its own, whole and verified."""
        self._make_parents(f"{PARTIAL}/x")
        part = os.path.join(self._folder, PARTIAL, file.sha256)
        url = f"/api/v1/jobs/{file.job_id}/files/{file.sha256}?attempt={file.attempt}"
        damaged = False
        for tried in range(1, _TRIES + 1):
            try:
                if self._continue(part, url, file.size_bytes) == file.sha256:
                    return part
            except Unavailable as error:
                if tried == _TRIES:
                    raise Unavailable(f"{file.path} could not be fetched whole ({error})") from error
                time.sleep(min(2.0, 0.1 * 2**tried))
                continue
            os.unlink(part)
            if damaged:
                break
            damaged = True
        raise InternalError(f"{file.path} arrives damaged again and again: tell whoever runs the backend")

    def _continue(self, part: str, url: str, size: int) -> str:
        """Fetch what `part` lacks; the sha256 of what it is then."""
        digest = hashlib.sha256()
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(part, flags, 0o666), "r+b") as file:
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
            have = file.tell()
            if have < size:
                for piece in self._api.download(url, start=have):
                    if self._stopped():
                        raise Stopped
                    digest.update(piece)
                    file.write(piece)
        return digest.hexdigest()

    def _at(self, path: str) -> str:
        return os.path.join(self._folder, *path.split("/"))

    def _make_parents(self, path: str) -> None:
        """Make the folders above `path`; `_Refused` when something else is in their place."""
        *folders, _ = path.split("/")
        at = self._folder
        for folder in folders:
            at = os.path.join(at, folder)
            try:
                status = os.lstat(at)
            except FileNotFoundError:
                os.mkdir(at)
                continue
            if _is_link(status) or not stat.S_ISDIR(status.st_mode):
                raise _Refused(f"needs a folder where {at} is {'a link' if _is_link(status) else 'a file'}")

    def _content(self, path: str) -> str | None:
        """What lies at `path`, comparable with `_key`; "" for nothing, None for what is never replaced."""
        at = self._at(path)
        try:
            status = os.lstat(at)
            if _is_link(status):
                link = os.readlink(at).replace(os.sep, "/")
                return f"link:{hashlib.sha256(link.encode(errors='surrogateescape')).hexdigest()}"
            if not stat.S_ISREG(status.st_mode):
                return None
            with open(at, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return ""
        except PermissionError:
            return None


def chosen(files: tuple[FileView, ...], wanted: str) -> tuple[FileView, ...]:
    """Those that `wanted` names: a file, or a folder with all below it; with `outputs/` in front or not."""
    name = "/".join(part for part in wanted.replace(os.sep, "/").split("/") if part not in ("", "."))
    for one in (name, name.removeprefix("outputs/")):
        found = tuple(file for file in files if file.path == one or file.path.startswith(f"{one}/"))
        if found or not name:
            return found if name else files
    return files if name == "outputs" else ()


def _key(file: FileView) -> str:
    return f"link:{file.sha256}" if file.mode is FileMode.LINK else file.sha256


def _is_link(status: os.stat_result) -> bool:
    """Whether it leads elsewhere: a symbolic link, or what Windows calls a junction."""
    reparse = getattr(status, "st_file_attributes", 0) & _REPARSE_POINT
    return stat.S_ISLNK(status.st_mode) or bool(reparse)


def _fault_here(path: str) -> str | None:
    """What forbids a path on this system only."""
    if path == PARTIAL or path.startswith(f"{PARTIAL}/"):
        return "has a name that pulling itself uses"
    if os.name == "nt" and any(_NOT_ON_WINDOWS.search(part) for part in path.split("/")):
        return "has a name that Windows does not take"
    return None


def wait_until_stored(ask: Callable[[], Outputs], patience_seconds: float = 30.0) -> Outputs:
    """The outputs once all are stored; as many as there are when for so long none has come."""
    seen, since = -1, time.monotonic()
    while True:
        outputs = ask()
        stored = len(outputs.files)
        if stored >= outputs.count:
            return outputs
        if stored != seen:
            seen, since = stored, time.monotonic()
        if time.monotonic() - since > patience_seconds:
            return outputs
        time.sleep(0.3)
