"""The one sentence of a summary: what the time went into. Needs the results alone, no numpy."""

from chisel_shared.traces import frames
from chisel_shared.traces.report import Frame, Gap, Summary, TraceInfo
from chisel_shared.traces.wording import duration, percent, short_kernel

WORTH_SHARE = 0.10


def first_line(summary: Summary) -> str:
    """E.g. `GPU idle 47 %: waiting for scipy zoom at image_processing.py:301`."""
    time = summary.gpu
    if not time.span_us:
        return _cpu_line(summary)
    if time.idle_us >= WORTH_SHARE * time.span_us:
        return f"GPU idle {percent(time.idle_us / time.span_us)}: {_waiting(summary)}"
    if time.exposed_comm_us >= WORTH_SHARE * time.span_us:
        share = percent(time.exposed_comm_us / time.span_us)
        return f"GPU held up {share} by communication: chisel trace ranks shows by whom"
    busy = f"GPU busy {percent(time.busy_us / time.span_us)}"
    most = next((kernel for kernel in summary.kernels if not kernel.orphan), None)
    if most is None:
        return busy
    by = f" ({most.op})" if most.op else ""
    return f"{busy}: {percent(most.share)} of it in {short_kernel(most.name)}{by}"


def _waiting(summary: Summary) -> str:
    idle = summary.idle
    if idle.host_us < max(idle.launch_us, idle.unknown_us):
        if idle.launch_us >= idle.unknown_us:
            return "launching takes longer than the kernels run"
        return "waiting for what the trace does not show"
    most = idle.frames[0] if idle.frames else None
    host = [gap for gap in idle.gaps if gap.cause == "host"]
    same = [gap for gap in host if most is None or _is(gap.frame, most)]
    gap = next(iter(same), None)
    if most is None and gap is not None:
        most = gap.frame
    if most is None:
        return "waiting for the CPU"
    if most.us < idle.host_us / 2 and idle.frames:
        return f"waiting for the CPU, {percent(most.us / idle.host_us)} of it in {_where(most, None)}"
    sync = next((one for one in summary.findings if one.code == "sync" and one.us > idle.host_us / 2), None)
    wait = next((one.waits_in for one in same if one.waits_in), "") if sync is not None else ""
    if wait and wait != most.name:
        return f"after {wait}, waiting for {_where(most, gap)}"
    return f"waiting for {_where(most, gap)}"


def _where(frame: Frame, gap: Gap | None) -> str:
    """The frame, at the line of the user's code that led to it where it is a library's."""
    if not frame.file:
        return frame.name
    library = frames.package(frame.file)
    for caller in gap.callers if library and gap is not None else ():
        place = frames.place(caller)
        if place is not None and frames.package(place.file) != library:
            return f"{library} {frame.name} at {frames.short(place.file)}:{place.line}"
    return f"{library} {frame.name}".lstrip() + f" at {frames.short(frame.file)}:{frame.line}"


def _is(frame: Frame | None, other: Frame) -> bool:
    return frame is not None and (frame.name, frame.file) == (other.name, other.file)


def recorded(trace: TraceInfo) -> set[str]:
    """What the recorded function may be called: that time went by in it says nothing."""
    function = trace.sidecar.function.rpartition(".")[2] if trace.sidecar else ""
    return {function, trace.name.partition(".")[0]}


def _cpu_line(summary: Summary) -> str:
    # torch writes GPU events last.
    nothing = "cut off before any GPU work" if summary.trace.truncated else "no GPU work"
    line = next((frame for frame in summary.cpu if frame.file), None)
    if (
        line is not None
        and line.name not in recorded(summary.trace)
        and line.us >= WORTH_SHARE * summary.trace.wall_us
    ):
        share = percent(line.us / summary.trace.wall_us)
        return f"{nothing}: {share} of the call in {_where(line, None)}"
    ops = [op for op in summary.ops if op.cpu_self_us > 0]
    if not ops:
        return f"{nothing} in {duration(summary.trace.wall_us)}, and no operator that took time"
    most = max(ops, key=lambda op: op.cpu_self_us)
    whole = sum(op.cpu_self_us for op in ops)
    return f"{nothing}: {most.name} took {percent(most.cpu_self_us / whole)} of the operators' CPU time"
