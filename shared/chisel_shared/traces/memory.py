"""What was allocated over time, when most of it was, and by whom."""

from collections import defaultdict

import numpy as np

from chisel_shared.traces.columns import Columns, Floats, Ints
from chisel_shared.traces.nesting import Nesting
from chisel_shared.traces.report import Memory, MemoryBlock, MemoryPoint

MOST_POINTS = 200
MOST_BLOCKS = 20
BEFORE = "(before the recording)"
NO_OP = "(no operator)"


def memory(columns: Columns, ops: Nesting) -> tuple[Memory, ...]:
    """Of each device that allocated anything, GPUs first. `ops` are the operators, for who allocated."""
    events = columns.memory
    found = []
    for gpu in (True, False):
        for device in np.unique(events.device[events.gpu == gpu]).tolist():
            which = np.flatnonzero((events.gpu == gpu) & (events.device == device))
            which = which[np.argsort(events.ts[which], kind="stable")]
            found.append(_of_device(columns, ops, which, f"cuda:{device}" if gpu else "cpu"))
    return tuple(found)


def _of_device(columns: Columns, ops: Nesting, which: Ints, device: str) -> Memory:
    events = columns.memory
    ts, change = events.ts[which] - columns.start_us, events.bytes[which]
    allocated, reserved = events.allocated[which], events.reserved[which]
    if not allocated.any():  # older versions do not say it of host memory
        allocated = np.cumsum(change)
    peak = int(allocated.argmax())
    return Memory(
        device=device,
        peak_allocated_bytes=int(allocated[peak]),
        peak_reserved_bytes=int(reserved.max()),
        peak_at_us=float(ts[peak]),
        start_allocated_bytes=int(allocated[0] - change[0]),
        end_allocated_bytes=int(allocated[-1]),
        timeline=tuple(
            MemoryPoint(
                at_us=float(ts[i]), allocated_bytes=int(allocated[i]), reserved_bytes=int(reserved[i])
            )
            for i in _telling(ts, allocated)
        ),
        at_peak=_blocks(columns, ops, which[: peak + 1], int(allocated[peak])),
    )


def _telling(ts: Floats, allocated: Ints) -> list[int]:
    """At most `MOST_POINTS` of the events: of each of equal stretches of time the lowest, the highest and the
    last, so that no peak is lost."""
    if len(ts) <= MOST_POINTS:
        return list(range(len(ts)))
    stretches = (MOST_POINTS - 1) // 3
    edges = np.linspace(ts[0], ts[-1], stretches + 1)[1:-1]
    bounds = np.concatenate(([0], np.searchsorted(ts, edges), [len(ts)]))
    kept = {0}
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if low < high:
            part = allocated[low:high]
            kept |= {low + int(part.argmin()), low + int(part.argmax()), high - 1}
    return sorted(kept)


def _blocks(columns: Columns, ops: Nesting, until_peak: Ints, peak_bytes: int) -> tuple[MemoryBlock, ...]:
    """What was alive at the peak by the innermost operator at its allocation; together the whole peak."""
    events = columns.memory
    alive: dict[int, int] = {}
    for event, address, change in zip(
        until_peak.tolist(),
        events.address[until_peak].tolist(),
        events.bytes[until_peak].tolist(),
        strict=True,
    ):
        if change > 0:
            alive[address] = event
        else:
            alive.pop(address, None)
    blocks = np.array(sorted(alive.values()), np.int64)
    place = ops.innermost(events.thread[blocks], events.ts[blocks])
    sizes: dict[str, int] = defaultdict(int)
    counts: dict[str, int] = defaultdict(int)
    for block, op in zip(blocks.tolist(), place.tolist(), strict=True):
        name = columns.name_of(ops.row[op]) if op >= 0 else NO_OP
        sizes[name] += int(events.bytes[block])
        counts[name] += 1
    if before := peak_bytes - sum(sizes.values()):
        sizes[BEFORE] = before
    found = [MemoryBlock(op=name, bytes=size, count=counts[name]) for name, size in sizes.items()]
    return tuple(sorted(found, key=lambda block: -block.bytes)[:MOST_BLOCKS])
