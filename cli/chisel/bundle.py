"""The upload directory as an immutable bundle: a manifest, named by its sha256, and packs of content.

A pack that the backend has is not sent again: of an unchanged directory no file is read and nothing sent,
of a changed one only what is new. The same tree gives the same bytes wherever the same packs are known.
"""

import os
import stat
from collections.abc import Callable, Iterable

from chisel import contents, settings, stat_cache
from chisel.archive import tar_size
from chisel.contents import Changing, Place
from chisel.ignore import Translations
from chisel.stat_cache import Cache, KnownFile, KnownPack, Mark
from chisel.tree import Tree, link_target, walk
from chisel_shared.contract import manifest
from chisel_shared.contract.bundles import CHUNK_BYTES
from chisel_shared.contract.errors import BadRequest
from chisel_shared.contract.ids import Digest
from chisel_shared.contract.manifest import Chunk, Entry, File, Folder, Link, Manifest, Pack

_TRIES = 3
"""How often a directory is looked at again in which files change while they are read."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, `"reading"` or `"packing"`, how many bytes of how many are, after each part."""

_SMALL_BYTES, _MANY_SMALL = 1 << 20, 32
"""So many packs of up to this size are packed together: every change leaves a small one."""


class Bundle:
    """A packed directory. Close it, or use it as a context manager, to drop what it holds in memory or in
    a temporary file."""

    def __init__(
        self,
        tree: Tree,
        *,
        cache: Cache,
        translations: Translations,
        cache_folder: str,
        progress: Progress | None = None,
    ) -> None:
        self.tree = tree
        self.digest = Digest("")
        self.manifest = b""
        self.packs: dict[str, KnownPack] = {}
        """What it needs, by digest, in the manifest's order."""
        self._cache = cache
        self._cache_folder = cache_folder
        self._translations = translations
        self._progress = progress
        self._files: dict[str, KnownFile] = {}
        self._places: dict[str, Place] = {}
        self._sure: set[str] = set()
        self._store = contents.Store()
        self._dirty = translations.new
        self._plan(cache.packs)

    @property
    def new(self) -> list[str]:
        """The files with content that was not there when the directory was last sent."""
        before = {chunk for pack in self._cache.packs.values() for chunk in pack.chunks}
        return [name for name, file in self._files.items() if not before.issuperset(file.chunks)]

    @property
    def upload_bytes(self) -> int:
        """The size of the packs that were not there when the directory was last sent."""
        return sum(pack.size for digest, pack in self.packs.items() if digest not in self._cache.packs)

    def content(self, digest: str) -> bytes | None:
        """A pack's bytes; None when nobody can make it any more, because what it held is gone or has
        changed. Then `forget` it."""
        if digest in self._store:
            return self._store.read(digest)
        try:
            made = contents.pack([self._places[chunk] for chunk in self.packs[digest].chunks])
        except (KeyError, Changing):
            return None
        return made.content if made.digest == digest else None

    def forget(self, packs: Iterable[str]) -> None:
        """Do without these packs. What is still needed of them is packed anew, and the bundle has another
        digest."""
        gone = set(packs)
        self._plan({digest: known for digest, known in self.packs.items() if digest not in gone})

    def stored(self) -> None:
        """The backend has all of it: remember that for the next time."""
        if self._dirty:
            self._dirty = False
            files = {name: self._files[name] for name in self._files if name in self._sure}
            cache = Cache(files=files, packs=self.packs, rules=self._translations.used)
            stat_cache.save(self._cache_folder, self.tree.root, cache)

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> "Bundle":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _plan(self, packs: dict[str, KnownPack]) -> None:
        changing = None
        for _ in range(_TRIES):
            try:
                self._read()
                self._pack(packs)
                return
            except Changing as error:
                changing = error
                self._files.pop(error.name, None)
                self.tree = self.tree.seen_again(error.name)
        assert changing is not None
        raise BadRequest(
            f"{changing.path} changes while it is being packed: stop what writes it, or leave it out with"
            " .chiselignore"
        )

    def _read(self) -> None:
        """The chunks of every file, from the cache where that may be believed."""
        unread = []
        known, files = self._cache.files, self._files
        for entry in self.tree.entries:
            if not stat.S_ISREG(entry.status.st_mode) or entry.name in files:
                continue
            found = known.get(entry.name)
            if found is not None and found.mark == Mark.of(entry.status):
                files[entry.name] = found
                self._sure.add(entry.name)
            else:
                unread.append(entry)
        done, total = 0, sum(entry.status.st_size for entry in unread)
        for read in contents.read_all(unread):
            self._dirty = True
            done += read.mark.size
            self._tell("reading", done, total)
            files[read.name] = KnownFile(read.mark, read.chunks)
            if not read.mark.may_still_change(read.at_ns):
                self._sure.add(read.name)

    def _pack(self, packs: dict[str, KnownPack]) -> None:
        """Use the known `packs` that are worth it and make others for what these lack."""
        self._places = places = self._all_places()
        kept = _worth_keeping(packs, places)
        home: dict[str, str] = {}
        for digest, known in kept.items():
            for chunk in known.chunks:
                home.setdefault(chunk, digest)
        homeless = [place for chunk, place in places.items() if chunk not in home]
        done, total = 0, sum(place.size for place in homeless)
        for made in contents.pack_all(homeless):
            self._dirty = True
            done += sum(places[chunk].size for chunk in made.known.chunks)
            self._tell("packing", done, total)
            self._store.add(made.digest, made.content)
            kept[made.digest] = made.known
            home.update(dict.fromkeys(made.known.chunks, made.digest))
        self.packs = {digest: kept[digest] for digest in dict.fromkeys(home[chunk] for chunk in places)}
        self.manifest = self._list(home)
        self.digest = manifest.digest(self.manifest)

    def _tell(self, what: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(what, done, total)

    def _all_places(self) -> dict[str, Place]:
        """Where each chunk that is needed can be read, in the order of the first file that has it."""
        places: dict[str, Place] = {}
        files = self._files
        for entry in self.tree.entries:
            if (file := files.get(entry.name)) is None:
                continue
            offset = 0
            for chunk in file.chunks:
                if chunk not in places:
                    size = min(CHUNK_BYTES, file.mark.size - offset)
                    places[chunk] = Place(chunk, entry.name, entry.path, offset, size)
                offset += CHUNK_BYTES
        return places

    def _list(self, home: dict[str, str]) -> bytes:
        number = {digest: at for at, digest in enumerate(self.packs)}
        inside = os.path.realpath(self.tree.root)
        entries: list[Entry] = []
        for entry in self.tree.entries:
            mode = entry.status.st_mode
            if stat.S_ISDIR(mode):
                entries.append(Folder(entry.name))
            elif stat.S_ISLNK(mode):
                entries.append(Link(entry.name, link_target(entry, inside)))
            else:
                file = self._files[entry.name]
                chunks = tuple([Chunk(Digest(chunk), number[home[chunk]]) for chunk in file.chunks])
                entries.append(File(entry.name, bool(mode & 0o100), file.mark.size, chunks))
        packs = tuple(Pack(Digest(digest), known.size) for digest, known in self.packs.items())
        return manifest.encode(Manifest(manifest.VERSION, packs, tuple(entries)))


def _worth_keeping(packs: dict[str, KnownPack], places: dict[str, Place]) -> dict[str, KnownPack]:
    """Without packs of which less than half is needed, and without small ones when they are many."""
    kept = {}
    for digest, known in packs.items():
        used = sum(tar_size(places[chunk].size) for chunk in known.chunks if chunk in places)
        if used * 2 >= known.tar_size and used:
            kept[digest] = known
    small = [digest for digest, known in kept.items() if known.tar_size <= _SMALL_BYTES]
    if len(small) > _MANY_SMALL:
        for digest in small:
            del kept[digest]
    return kept


def pack(
    root: str,
    *,
    seen: Callable[[Tree], None] | None = None,
    progress: Progress | None = None,
    cache_folder: str | None = None,
) -> Bundle:
    """Pack the directory `root`; `seen` is told what there is before any file is read.

    `BadRequest` names the file that cannot travel, `TooLarge` the largest ones; nothing is left behind then.
    """
    folder = cache_folder or settings.cache_folder()
    cache = stat_cache.load(folder, root)
    translations = Translations(cache.rules)
    tree = walk(root, never=settings.private_folders(), translations=translations)
    if seen is not None:
        seen(tree)
    return Bundle(tree, cache=cache, translations=translations, cache_folder=folder, progress=progress)
