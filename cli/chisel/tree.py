"""What of the upload directory travels: every file, folder and link, in a fixed order."""

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from chisel.ignore import ENVIRONMENT_MARKS, Rules, Translations, looks_secret
from chisel_shared.contract import bundles
from chisel_shared.contract.errors import BadRequest, TooLarge


class Entry(NamedTuple):
    """One thing that travels: its POSIX path below the root, where it is, and what `lstat` says of it."""

    name: str
    path: str
    status: os.stat_result


class LeftOut(NamedTuple):
    """One thing that does not, a folder with a slash at its end, and why."""

    name: str
    why: str


class Tree(NamedTuple):
    """`entries` in the order of their paths' bytes; `skipped` are those that cannot travel at all."""

    root: str
    entries: tuple[Entry, ...]
    files: int
    size_bytes: int
    left_out: tuple[LeftOut, ...] = ()
    skipped: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()

    def require(self, name: str) -> None:
        """`BadRequest` when what the job needs at this path, `"."` for the root, does not travel."""
        if name == "." or any(entry.name == name for entry in self.entries):
            return
        for left_out in self.left_out:
            if f"{name}/".startswith(f"{left_out.name.rstrip('/')}/"):
                raise BadRequest(
                    f"{name} is not uploaded ({left_out.why}): bring it back with a line"
                    f" !/{left_out.name} in .chiselignore"
                )
        raise BadRequest(f"{name} is not in the upload directory {self.root}")

    def seen_again(self, name: str) -> "Tree":
        """The same, with a new look at the file `name`; `BadRequest` when it is none any more."""
        at = next(at for at, entry in enumerate(self.entries) if entry.name == name)
        entry = self.entries[at]
        try:
            status = os.lstat(entry.path)
        except OSError as error:
            raise unreadable(entry.path, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise BadRequest(f"{entry.path} changed while it was being packed: run the command again")
        size = self.size_bytes - entry.status.st_size + status.st_size
        entries = (*self.entries[:at], entry._replace(status=status), *self.entries[at + 1 :])
        return self._replace(entries=entries, size_bytes=size)

    def check(self, *, max_bytes: int, max_entries: int) -> None:
        """`TooLarge`, with the largest files, when this is more than a server takes; 0: it does not say."""
        if max_entries and len(self.entries) > max_entries:
            raise too_large(self.root, self.entries, f"holds more than {max_entries:,} files and folders")
        if max_bytes and self.size_bytes > max_bytes:
            raise too_large(self.root, self.entries, f"holds more than {_size(max_bytes)}")

    def largest(self, count: int) -> list[Entry]:
        return _largest(self.entries, count)


class _Walk(NamedTuple):
    entries: list[Entry]
    left_out: list[LeftOut]
    skipped: list[str]
    never: tuple[tuple[int, int], ...]


def walk(root: str, *, never: Iterable[str] = (), translations: Translations | None = None) -> Tree:
    """Everything below `root` that travels; the folders `never` do not, whatever rules say.

    `BadRequest` names what cannot be read or has an impossible name, `TooLarge` the largest files.
    """
    state = _Walk([], [], [], tuple(_identities(never)))
    rules = Rules.above(root, translations or Translations())
    _walk(root, "", rules, state, environment=True)
    entries = sorted(state.entries, key=lambda entry: os.fsencode(entry.name))
    files = [entry for entry in entries if stat.S_ISREG(entry.status.st_mode)]
    tree = Tree(
        root=root,
        entries=tuple(entries),
        files=len(files),
        size_bytes=sum(entry.status.st_size for entry in files),
        left_out=tuple(sorted(state.left_out)),
        skipped=tuple(sorted(state.skipped)),
        secrets=tuple(entry.name for entry in files if looks_secret(entry.name.rpartition("/")[2])),
    )
    tree.check(max_bytes=bundles.MAX_UNPACKED_BYTES, max_entries=bundles.MAX_ENTRIES)
    return tree


def _identities(folders: Iterable[str]) -> Iterable[tuple[int, int]]:
    for folder in folders:
        try:
            status = os.stat(folder)
        except OSError:
            continue
        yield status.st_dev, status.st_ino


_FOLDER, _FILE, _LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK


def _walk(folder: str, prefix: str, rules: Rules, state: _Walk, *, environment: bool) -> bool:
    """Add what is in `folder`; False when it is a virtual environment, which only one that is asked for
    with `environment` may be."""
    try:
        with os.scandir(folder) as found:
            listed = list(found)
    except OSError as error:
        raise unreadable(folder, error) from error
    names = frozenset(item.name for item in listed)
    if not environment and not names.isdisjoint(ENVIRONMENT_MARKS):
        return False
    rules = rules.within(folder, prefix, names)
    for item in listed:
        name = prefix + item.name
        try:
            status = item.stat(follow_symlinks=False)
        except OSError as error:
            raise unreadable(item.path, error) from error
        kind = stat.S_IFMT(status.st_mode)
        is_folder = kind == _FOLDER
        verdict = rules.verdict(name, item.name, folder=is_folder)
        shown = name + "/" if is_folder else name
        if not verdict.keeps:
            state.left_out.append(LeftOut(shown, verdict.source))
        elif is_folder and _never(item.path, state.never):
            state.left_out.append(LeftOut(shown, "Chisel's own data"))
        elif is_folder:
            check_path(name, item.path)
            place = len(state.entries)
            state.entries.append(Entry(name, item.path, status))
            if not _walk(item.path, name + "/", rules, state, environment=bool(verdict.source)):
                del state.entries[place:]
                state.left_out.append(LeftOut(shown, "a virtual environment"))
        elif kind in (_FILE, _LINK):
            check_path(name, item.path)
            state.entries.append(Entry(name, item.path, status))
        else:
            state.skipped.append(name)
    return True


def _never(path: str, never: tuple[tuple[int, int], ...]) -> bool:
    """Asked by `stat`: what scandir says of a folder has no inode everywhere."""
    if not never:
        return False
    status = os.stat(path, follow_symlinks=False)
    return (status.st_dev, status.st_ino) in never


def check_path(name: str, path: str) -> None:
    """`BadRequest` for a name that no agent would unpack."""
    fault = bundles.path_fault(name)
    if fault is not None:
        # Quoted, for what is wrong with it may be what cannot be shown.
        raise BadRequest(f"{path!r} {fault}: rename it or leave it out with .chiselignore")


def link_target(entry: Entry, inside: str) -> str:
    """The target of a link that stays inside the real path `inside`, relative to the link."""
    try:
        target = os.readlink(entry.path)
    except OSError as error:
        raise unreadable(entry.path, error) from error
    folder = os.path.realpath(os.path.dirname(entry.path))
    written = os.path.normpath(os.path.join(folder, target))
    # Both must hold: where the link's text leads, and where that ends when other links are followed.
    for end in (written, os.path.realpath(written)):
        if end != inside and not end.startswith(inside.rstrip(os.sep) + os.sep):
            raise BadRequest(
                f"{entry.path} is a link to {target}, outside the upload directory: copy the file there,"
                " upload a directory that holds both, or leave the link out with .chiselignore"
            )
    relative = os.path.relpath(written, folder) if os.path.isabs(target) else target
    relative = relative.replace(os.sep, "/")
    if (fault := bundles.path_fault(relative)) is not None:
        raise BadRequest(f"{entry.path} is a link whose target {fault}: make it lead elsewhere or remove it")
    return relative


def unreadable(path: str, error: OSError) -> BadRequest:
    if isinstance(error, FileNotFoundError):
        return BadRequest(f"{path} vanished while it was being packed: run the command again")
    return BadRequest(
        f"{path} cannot be read ({error.strerror}): make it readable or leave it out with .chiselignore"
    )


def too_large(root: str, entries: Iterable[Entry], what: str) -> TooLarge:
    listed = "\n".join(
        f"  {entry.status.st_size / 1e6:10.1f} MB  {entry.name}" for entry in _largest(entries, 10)
    )
    return TooLarge(
        f"{root} {what}, which is more than can be uploaded; leave out with .chiselignore what the job does"
        f" not need. The largest files:\n{listed}"
    )


def _largest(entries: Iterable[Entry], count: int) -> list[Entry]:
    files = [entry for entry in entries if stat.S_ISREG(entry.status.st_mode)]
    return sorted(files, key=lambda entry: -entry.status.st_size)[:count]


def _size(count: int) -> str:
    return f"{count / (1 << 30):g} GiB" if count >= 1 << 30 else f"{count:,} bytes"
