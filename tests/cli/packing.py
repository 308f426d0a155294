"""A directory that is packed again and again, and what a backend has of it by then."""

from pathlib import Path

from chisel.bundle import Bundle, pack
from chisel_shared.contract import manifest
from chisel_shared.contract.manifest import File
from tests.support.packs import members, sha256


class Packing:
    """One directory, its cache, and the packs that a backend has by now."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.cache = folder / "cache"
        self.backend: dict[str, bytes] = {}
        self.root.mkdir()

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def pack(self) -> Bundle:
        return pack(str(self.root), cache_folder=str(self.cache))

    def sent(self) -> Bundle:
        """Pack, and let the backend take what it lacks."""
        with self.pack() as made:
            for digest in set(made.packs) - set(self.backend):
                self.backend[digest] = whole(made, digest)
            made.stored()
            return made

    def new_packs(self) -> list[dict[str, bytes]]:
        """What is in the packs that are sent now."""
        before = set(self.backend)
        made = self.sent()
        return [members(self.backend[digest]) for digest in made.packs if digest not in before]

    def unpacked(self, made: Bundle) -> dict[str, bytes]:
        """Every file of a bundle as an agent would get it."""
        described = manifest.decode(made.manifest)
        packs = [members(self.backend.get(d.sha256) or whole(made, d.sha256)) for d in described.packs]
        return {
            entry.path: b"".join(packs[chunk.pack][chunk.sha256] for chunk in entry.chunks)
            for entry in described.entries
            if isinstance(entry, File)
        }


def whole(made: Bundle, digest: str) -> bytes:
    content = made.content(digest)
    assert content is not None
    assert sha256(content) == digest
    return content
