"""Everything that has been found out about a trace, for the rules that draw conclusions."""

from dataclasses import dataclass

from chisel_shared.traces.columns import DRIVER, RUNTIME, Columns
from chisel_shared.traces.gaps import Gaps
from chisel_shared.traces.gpu import GpuEvents
from chisel_shared.traces.report import Frame, GpuTime, Idle, Kernel, Op, TraceInfo


@dataclass(frozen=True)
class Facts:
    columns: Columns
    gpu: GpuEvents
    gaps: Gaps
    trace: TraceInfo
    time: GpuTime
    idle: Idle
    cpu: tuple[Frame, ...]
    kernels: list[Kernel]
    ops: list[Op]

    @property
    def gpu_is_cut_off(self) -> bool:
        """The file ends before its GPU events, which torch writes last: the calls that launch are there."""
        return self.columns.truncated and not len(self.gpu) and len(self.columns.of(RUNTIME, DRIVER)) > 0

    def share(self, us: float) -> float:
        """Of the span of the GPUs; of the wall time where there was no GPU work."""
        whole = self.time.span_us or self.trace.wall_us
        return us / whole if whole > 0 else 0.0
