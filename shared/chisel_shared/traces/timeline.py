"""How the time of each device divides into computing, exposed communication, exposed copies and idling."""

import numpy as np

from chisel_shared.traces import intervals
from chisel_shared.traces.columns import Mask
from chisel_shared.traces.gpu import COMM, COPY, GpuEvents
from chisel_shared.traces.intervals import Intervals
from chisel_shared.traces.report import DeviceTime, GpuTime

NO_TIME = GpuTime(
    span_us=0.0,
    busy_us=0.0,
    compute_us=0.0,
    exposed_comm_us=0.0,
    exposed_copy_us=0.0,
    idle_us=0.0,
    comm_us=0.0,
    copy_us=0.0,
    events=0,
    orphans=0,
    orphan_us=0.0,
)


def device_times(gpu: GpuEvents) -> tuple[DeviceTime, ...]:
    """In the order of the devices; a device with orphans alone has no time."""
    return tuple(
        DeviceTime(device=device, time=_time(gpu.where(gpu.device == device)))
        for device in np.unique(gpu.device).tolist()
    )


def total(devices: tuple[DeviceTime, ...]) -> GpuTime:
    """The sum over devices: GPU time, of which a trace of two busy GPUs has twice its length."""
    if len(devices) == 1:
        return devices[0].time
    return GpuTime(
        **{
            field: sum((getattr(one.time, field) for one in devices), getattr(NO_TIME, field))
            for field in GpuTime.__struct_fields__
        }
    )


def busy(gpu: GpuEvents) -> Intervals:
    """When anything ran, over all streams. `gpu` is of one device, without orphans."""
    return intervals.union(gpu.start, gpu.end)


def _time(gpu: GpuEvents) -> GpuTime:
    known = gpu.known

    def of(mask: Mask) -> Intervals:
        return intervals.union(known.start[mask], known.end[mask])

    is_comm, is_copy = known.kind == COMM, known.kind == COPY
    compute, comm, copy, anything = of(~is_comm & ~is_copy), of(is_comm), of(is_copy), busy(known)
    span = float(anything.end[-1] - anything.start[0]) if len(anything) else 0.0
    return GpuTime(
        span_us=span,
        busy_us=anything.length,
        compute_us=compute.length,
        exposed_comm_us=intervals.without(comm, compute).length,
        exposed_copy_us=intervals.without(intervals.without(copy, compute), comm).length,
        idle_us=span - anything.length,
        comm_us=comm.length,
        copy_us=copy.length,
        events=len(known.row),
        orphans=int(gpu.orphan.sum()),
        orphan_us=float(gpu.dur[gpu.orphan].sum()),
    )
