"""Captures made by hand, for comparisons."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from chisel_shared.traces.align import Runs
from chisel_shared.traces.diff import Capture
from chisel_shared.traces.report import GpuTime, TraceInfo

INFO = TraceInfo(
    name="step.2.json", events=10, truncated=False, repaired=0, wall_us=1000.0, call=2, cold=False,
    rank=None, world_size=None, gpu="H100", torch="2.13", cuda="13.0", driver="590", options=(),
)  # fmt: skip
GPU = GpuTime(
    span_us=900.0, busy_us=600.0, compute_us=600.0, exposed_comm_us=0.0, exposed_copy_us=0.0, idle_us=300.0,
    comm_us=0.0, copy_us=0.0, events=10, orphans=0, orphan_us=0.0,
)  # fmt: skip


def runs(
    name: str, durations: Sequence[float], *, grid: tuple[int, ...] = (1, 1, 1), op: str = "aten::op"
) -> Runs:
    return Runs(name, "compute", grid, (128, 1, 1), op, np.array(durations, dtype=np.float64))


def capture(
    *kernels: Runs,
    wall_us: float = 1000.0,
    categories: Mapping[str, float] | None = None,
    cold: bool = False,
    call: int = 2,
    torch: str = "2.13",
) -> Capture:
    return Capture(
        info=msgspec.structs.replace(INFO, wall_us=wall_us, cold=cold, call=call, torch=torch),
        gpu=GPU,
        categories={"compute": 600.0, "outside": wall_us - 600.0} if categories is None else categories,
        kernels=kernels,
        ops=(),
    )
