"""A trace in memory: a numpy column for each thing that the complete (`X`) events say. Open `read.py` next.

Rows are in the file's order and a row's number names its event everywhere in this package. Times are float64
microseconds exactly as written (`end` is `ts + dur` in that arithmetic): so published tables are computed.
What a row lacks is -1 (`correlation`, `device`, `stream`) or 0 (`grid`, `block`: the empty shape).
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

CATEGORIES = (
    "kernel",
    "gpu_memcpy",
    "gpu_memset",
    "cuda_runtime",
    "cuda_driver",
    "cpu_op",
    "user_annotation",
    "gpu_user_annotation",
    "python_function",
    "cuda_sync",
    "Trace",
)
"""Those that are asked about; their codes are their places here in every trace. Others follow."""
KERNEL, MEMCPY, MEMSET, RUNTIME, DRIVER, CPU_OP, ANNOTATION, GPU_ANNOTATION, PYTHON, SYNC, WINDOW = range(
    len(CATEGORIES)
)


@dataclass(frozen=True, slots=True)
class Thread:
    """Where an event ran. For GPU events `pid` is the device and `tid` the stream."""

    pid: int | str | None
    tid: int | str | None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Collective:
    """What an NCCL kernel says of itself; empty, -1 or 0 for what it does not say."""

    name: str = ""
    """`allreduce`, `_allgather_base`, …"""
    in_elements: int = 0
    out_elements: int = 0
    dtype: str = ""
    group_size: int = 0
    group: str = ""
    """The process group's name."""
    description: str = ""
    ranks: str = ""
    """As written: `[0, 1, 2, 3]`, in large groups shortened."""


@dataclass(frozen=True, slots=True)
class MemoryEvents:
    """Allocations (`bytes` > 0) and frees, in the file's order; recorded with `profile_memory=True` alone."""

    ts: Floats
    bytes: Ints
    allocated: Ints
    """By the allocator of that device, after this event."""
    reserved: Ints
    address: Ints
    gpu: Mask
    """On a GPU, not in host memory."""
    device: Ints
    thread: Ints

    def __len__(self) -> int:
        return len(self.ts)


@dataclass(frozen=True, eq=False)
class Columns:
    """One trace. Columns are parallel; `names[name[i]]` is the name of event `i`."""

    events: int
    """All entries of `traceEvents`, of any phase."""
    names: list[str]
    categories: list[str]
    threads: list[Thread]
    shapes: list[tuple[int, ...]]
    """Grids and blocks; the first is the empty one."""

    name: NDArray[np.int32]
    category: NDArray[np.int32]
    ts: Floats
    dur: Floats
    thread: NDArray[np.int32]
    device: NDArray[np.int32]
    stream: Ints
    correlation: Ints
    grid: NDArray[np.int32]
    block: NDArray[np.int32]

    collectives: dict[int, Collective]
    """By event: of communication kernels that describe themselves."""
    memory: MemoryEvents
    metadata: dict[str, Any] = field(default_factory=dict)
    """Everything of the file beside `traceEvents`: `deviceProperties`, `distributedInfo`, …"""

    truncated: bool = False
    """The file ends in the middle."""
    repaired: int = 0
    """Names that had to be mended."""
    damaged: int = 0
    """Entries that could not be read, or say impossible times; they are left out."""

    def __len__(self) -> int:
        return len(self.ts)

    @cached_property
    def end(self) -> Floats:
        return self.ts + self.dur

    def of(self, *categories: int) -> Ints:
        """The events of any of these categories (`KERNEL`, …), in the file's order."""
        mask = self.category == categories[0]
        for category in categories[1:]:
            mask |= self.category == category
        return np.flatnonzero(mask)

    def name_of(self, event: int) -> str:
        return self.names[int(self.name[event])]

    def names_that(self, matches: Any) -> Mask:
        """For each of `names` whether `matches(name)`; index it with `name[events]`."""
        return np.fromiter((bool(matches(name)) for name in self.names), np.bool_, len(self.names))

    @cached_property
    def start_us(self) -> float:
        """When the window begins: its own mark, else the first event. 0 for a trace without events."""
        window = self.of(WINDOW)
        if len(window):
            return float(self.ts[window].min())
        firsts = [float(some.min()) for some in (self.ts, self.memory.ts) if len(some)]
        return min(firsts, default=0.0)

    @cached_property
    def end_us(self) -> float:
        window = self.of(WINDOW)
        if len(window):
            return float(self.end[window].max())
        lasts = [float(some.max()) for some in (self.end, self.memory.ts) if len(some)]
        return max(lasts, default=0.0)
