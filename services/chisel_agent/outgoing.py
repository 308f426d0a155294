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


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingTrace:
    """A trace on its way: `size` bytes that `pieces(offset)` reads from any offset on, as often as asked,
    with the sha256 `digest`; `raw` is the same of what is in them when they are a gzip file."""

    name: str
    size: int
    digest: Digest
    raw: tuple[int, Digest] | None
    pieces: Callable[[int], AsyncIterator[bytes]]
