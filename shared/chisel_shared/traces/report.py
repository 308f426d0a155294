"""What reading traces gives: plain data, the same for the terminal, `--json`, the storage and the web page.

The terms are defined in docs/reference/traces.md. Everything here decodes from its own JSON.
"""

import msgspec

from chisel_shared.traces.sidecar import Sidecar

SCHEMA = 1


class TraceInfo(msgspec.Struct, frozen=True):
    """Which trace this is and how it was taken."""

    name: str
    """The file name."""
    events: int
    truncated: bool
    """The file ends in the middle: what follows covers the whole events before the cut."""
    repaired: int
    """Lines whose quotes had to be mended before the file was JSON."""
    wall_us: float
    """Of the recorded call; of the whole window where the trace does not mark one."""
    call: int
    cold: bool
    """The first call of its process: initialisation and compilation are in it."""
    rank: int | None
    world_size: int | None
    gpu: str
    """The model; empty when no GPU was recorded."""
    torch: str
    cuda: str
    driver: str
    options: tuple[str, ...]
    """Of `record_shapes`, `profile_memory`, `with_stack`, `all_threads`, those that were on."""
    sidecar: Sidecar | None = None


class GpuTime(msgspec.Struct, frozen=True):
    """The time of one device, or of all of a trace: `busy` and `idle` make `span`; `compute`,
    `exposed_comm` and `exposed_copy` make `busy`."""

    span_us: float
    busy_us: float
    compute_us: float
    exposed_comm_us: float
    exposed_copy_us: float
    idle_us: float
    comm_us: float
    copy_us: float
    events: int
    orphans: int
    """GPU events that were launched before the recording began; they are in none of these times."""
    orphan_us: float


class DeviceTime(msgspec.Struct, frozen=True):
    device: int
    time: GpuTime


class Frame(msgspec.Struct, frozen=True):
    """A Python line or an operator that the CPU was in, and for how much of the gaps."""

    name: str
    file: str
    line: int
    us: float


class Gap(msgspec.Struct, frozen=True):
    """A stretch without GPU work."""

    device: int
    start_us: float
    """From the beginning of the window."""
    us: float
    cause: str
    """`host`: the CPU had launched nothing; `launch`: it had, and the launch was on its way; `unknown`."""
    frame: Frame | None
    """What the CPU was in for more than half of it: the innermost line of the user's code or a library
    outside torch and the standard library, else the operator."""
    callers: tuple[str, ...]
    """Who called that, nearest first."""
    waits_in: str
    """A call that waits on purpose and has a known cure (`cudaStreamSynchronize`, `aten::item`, …)."""


class Idle(msgspec.Struct, frozen=True):
    """Why GPUs had nothing to do, summed over devices; the parts make the whole idle time."""

    host_us: float
    launch_us: float
    unknown_us: float
    gaps: tuple[Gap, ...]
    """The largest, longest first."""
    frames: tuple[Frame, ...]
    """Where the CPU was in all gaps that are waits for it, most time first."""


class Kernel(msgspec.Struct, frozen=True):
    """All runs of one kernel with one launch shape."""

    name: str
    kind: str
    """`compute`, `comm`, `copy` or `set`."""
    grid: tuple[int, ...]
    block: tuple[int, ...]
    op: str
    """The operator that launched most of its time."""
    count: int
    us: float
    mean_us: float
    median_us: float
    min_us: float
    max_us: float
    share: float
    """Of the summed time of all GPU events."""
    orphan: bool = False
    """Its runs were launched before the recording began: a row of their own, in none of the times above."""


class Op(msgspec.Struct, frozen=True):
    """All calls of one operator that launched GPU work or used the CPU."""

    name: str
    count: int
    gpu_us: float
    """Of what it launched itself, not of operators inside it."""
    cpu_us: float
    cpu_self_us: float
    share: float
    """Of the GPU time that operators have."""
    launching: int = 0
    """How many of the calls launched GPU work themselves."""


class MemoryPoint(msgspec.Struct, frozen=True):
    at_us: float
    allocated_bytes: int
    reserved_bytes: int


class MemoryBlock(msgspec.Struct, frozen=True):
    """What was allocated at the peak, by who allocated it."""

    op: str
    bytes: int
    count: int


class Memory(msgspec.Struct, frozen=True):
    """Of one device; recorded with `profile_memory=True` alone."""

    device: str
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    peak_at_us: float
    start_allocated_bytes: int
    end_allocated_bytes: int
    timeline: tuple[MemoryPoint, ...]
    """At most 200 points that keep every local peak that matters."""
    at_peak: tuple[MemoryBlock, ...]


class Step(msgspec.Struct, frozen=True):
    name: str
    start_us: float
    wall_us: float
    busy_us: float


class Finding(msgspec.Struct, frozen=True):
    """Something worth knowing: what, the numbers behind it, and what to try. `us` is what it costs at most,
    and findings are sorted by it."""

    code: str
    """Stable, for programs: `host-bound`, `sync`, `small-kernels`, …"""
    text: str
    evidence: tuple[str, ...]
    next_step: str
    us: float


class Summary(msgspec.Struct, frozen=True):
    """Everything about one trace. Lists are cut to their first entries; `*_count` says how many there are."""

    trace: TraceInfo
    gpu: GpuTime
    devices: tuple[DeviceTime, ...]
    idle: Idle
    kernels: tuple[Kernel, ...]
    kernels_count: int
    ops: tuple[Op, ...]
    ops_count: int
    memory: tuple[Memory, ...]
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    cpu: tuple[Frame, ...] = ()
    """Where the CPU was during the call, most time first; of a trace without GPU work."""
    notes: tuple[str, ...] = ()
    """What limits the reading: a cut file, operators hidden in graphs, spans that overlap."""
    schema: int = SCHEMA

    @property
    def busy_share(self) -> float | None:
        """The part of the recorded call in which its GPUs were busy, a mean over them; None without any."""
        devices, wall_us = len(self.devices), self.trace.wall_us
        if not devices or not self.gpu.events or wall_us <= 0:
            return None
        return min(1.0, self.gpu.busy_us / (wall_us * devices))


# Comparing


class Part(msgspec.Struct, frozen=True):
    """How one kernel, or one operator, changed. Counts and times are means per capture. `delta_us` is B minus
    A, exactly `count_us` + `mean_us`: more runs at A's mean, and B's runs at a changed mean."""

    name: str
    kind: str
    """A kernel's kind, or `op`."""
    grid: tuple[int, ...]
    block: tuple[int, ...]
    op: str
    matched_by: str
    """`launch`: name, grid and block are equal; `name`: only that; `op`: the name without its template
    arguments, and the operator. Empty for what one side alone has."""
    a_count: float
    b_count: float
    a_us: float
    b_us: float
    delta_us: float
    count_us: float
    mean_us: float
    change: float | None
    """Of the total, relative to A; None for what A does not have."""
    verdict: str
    """`slower`, `faster`, `more`, `fewer`, `new`, `gone`, `same` or `unclear`."""
    p: float | None
    """Corrected for the number of comparisons; None where nothing was tested."""


class Change(msgspec.Struct, frozen=True):
    """A category of the wall time: all of them together are the wall's difference, exactly."""

    name: str
    """`compute`, `exposed comm`, `exposed copy`, `idle: host`, `idle: launch`, `idle: unknown`, `outside`
    (before the first and after the last GPU event); without GPU work `in operators`, `outside operators`."""
    a_us: float
    b_us: float
    delta_us: float


class Side(msgspec.Struct, frozen=True):
    """One side of a comparison: the captures it is made of, as means per capture."""

    traces: tuple[TraceInfo, ...]
    wall_us: float
    gpu: GpuTime


class Diff(msgspec.Struct, frozen=True):
    a: Side
    b: Side
    wall_change: float | None
    verdict: str
    p: float | None
    basis: str
    """What the verdict rests on, in words: `indicative: 1 capture each`, or the captures and their test."""
    warnings: tuple[str, ...]
    """Why the two may not be comparable."""
    changes: tuple[Change, ...]
    kernels: tuple[Part, ...]
    ops: tuple[Part, ...]
    matched: int
    only_a: int
    only_b: int
    schema: int = SCHEMA


# Ranks


class Rank(msgspec.Struct, frozen=True):
    rank: int
    trace: str
    wall_us: float
    gpu: GpuTime
    collectives: int
    """Matched with the other ranks."""
    wait_us: float
    """For later ranks, in matched collectives."""
    arrives_last: int
    caused_us: float = 0.0
    """What others waited for this one."""


class Collective(msgspec.Struct, frozen=True):
    """One kind of collective over all ranks: the wait for the last to arrive, and the transfer itself."""

    name: str
    group: str
    elements: int
    count: int
    wait_us: float
    transfer_us: float


class Ranks(msgspec.Struct, frozen=True):
    ranks: tuple[Rank, ...]
    collectives: tuple[Collective, ...]
    straggler: int | None
    unmatched: int
    notes: tuple[str, ...]
    schema: int = SCHEMA
