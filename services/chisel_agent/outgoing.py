"""A file on its way to storage."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from chisel_shared.contract.files import FileKind, FileMode
from chisel_shared.contract.ids import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A file on its way: `pieces()` reads it from its start, as often as asked."""

    kind: FileKind
    path: str
    mode: FileMode
    size: int
    digest: Digest
    pieces: Callable[[], AsyncIterator[bytes]]
