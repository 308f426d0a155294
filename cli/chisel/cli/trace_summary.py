"""A summary for the terminal. Pure: lines of text, nothing here prints."""

from chisel.cli.trace_memory import peak
from chisel.cli.trace_paper import Paper, table, times
from chisel_shared.traces import words
from chisel_shared.traces.report import Finding, Gap, Summary

TOP = 5
"""Kernels and operators that are listed unless somebody asks for more."""
_GAPS = 3
_FINDINGS, _EVIDENCE = 3, 3
"""What is shown of them on one screen; all with more."""
_FRAMES_SHOWN = 2
_LEAST_SHARE = 0.001
"""Of the call: a line that took less is not listed."""


def summary(found: Summary, paper: Paper, *, top: int | None = None) -> list[str]:
    """The whole summary: one screen, unless `top` asks for more."""
    lines = paper.joined(words.facts(found.trace))
    lines[0] = paper.bold(lines[0])
    lines += [*_gpu(found, paper), *_options(found, paper), *warnings(found, paper)]
    shown = found.findings[: max(_FINDINGS, top or 0)]
    for number, finding in enumerate(shown, start=1):
        lines += ["", *_finding(number, finding, paper, most=None if top else _EVIDENCE)]
    more = len(found.findings) - len(shown)
    lines += [paper.dim(f"     and {words.count(more, 'more finding')}: --top 10")] if more else []
    devices = [one for one in found.memory if one.device != "cpu"] or found.memory
    lines += [""] if devices else []
    for memory in devices:
        lines += peak(memory, paper)
    lines += _steps(found, paper)
    if top:
        lines += _gaps(found, paper, top)
    lines += _cpu(found, paper, top or TOP)
    lines += _kernels(found, paper, top or TOP)
    return lines + _ops(found, paper, top or TOP)


def warnings(found: Summary, paper: Paper) -> list[str]:
    """What limits the reading."""
    said = list(found.notes)
    if found.trace.truncated and not any("cut" in note or "truncated" in note for note in said):
        said.insert(0, "the file is cut off: this covers the whole events before the cut")
    sidecar = found.trace.sidecar
    if sidecar is not None and sidecar.error:
        said.append(f"the call raised {sidecar.error}")
    return [paper.bad(line) for note in said for line in paper.wrapped(note, first="!    ", then="     ")]


def _gpu(found: Summary, paper: Paper) -> list[str]:
    gpu = found.gpu
    wall = words.time(found.trace.wall_us)
    if not gpu.events:
        cut = found.trace.truncated
        said = "the file ends before any GPU work, after" if cut else "no GPU work was recorded in"
        return paper.wrapped(f"{said} {wall}", first="GPU  ", then="     ")
    of_wall = (
        f", {words.share(gpu.busy_us / found.trace.wall_us)} of the call's {wall}" if _one(found) else ""
    )
    said = f"busy {words.time(gpu.busy_us)} of {words.time(gpu.span_us)}"
    if gpu.span_us:
        said += f" ({words.share(gpu.busy_us / gpu.span_us)}){of_wall}"
    lines = paper.wrapped(said, first="GPU  ", then="     ")
    lines += paper.joined([f"{name} {words.time(us)}" for name, us in words.busy(found)], first=" " * 7,
                          then=" " * 7)  # fmt: skip
    if gpu.idle_us:
        parts = [f"{name} {words.time(us)}" for name, us in words.idle(found)]
        first = f"     idle {words.time(gpu.idle_us)}" + (": " if parts else "")
        lines += paper.joined(parts or [""], first=first, then=" " * 7)
    for device in found.devices if len(found.devices) > 1 else ():
        time = device.time
        said = f"gpu {device.device}: busy {words.time(time.busy_us)} of {words.time(time.span_us)}"
        lines.append(f"     {said} ({words.share(time.busy_us / time.span_us if time.span_us else 0.0)})")
    return lines


def _one(found: Summary) -> bool:
    """Whether times of GPUs can be set against that of the call: sums over devices cannot."""
    return len(found.devices) < 2 and found.trace.wall_us > 0


def _options(found: Summary, paper: Paper) -> list[str]:
    sidecar = found.trace.sidecar
    if sidecar is None or sidecar.ended_by in ("return", "exception", "closed"):
        return []
    how = {
        "steps": "recorded the steps that were asked for",
        "signal": "recorded until the job was stopped",
        "foreign-profiler": "recorded until another profiler began",
    }.get(sidecar.ended_by, f"recorded until its {sidecar.ended_by} was reached")
    return [paper.dim(f"     {how}, {sidecar.seconds:,.1f} s")]


def _finding(number: int, finding: Finding, paper: Paper, *, most: int | None) -> list[str]:
    first, *rest = paper.wrapped(finding.text, first=f"{number:<5}", then="     ")
    lines = [paper.bold(line) for line in (first, *rest)]
    for evidence in finding.evidence[:most]:
        lines += paper.wrapped(evidence, first="     ", then="       ")
    if finding.next_step:
        lines += [paper.good(line) for line in paper.wrapped(finding.next_step, first="  →  ", then="     ")]
    return lines


def _steps(found: Summary, paper: Paper) -> list[str]:
    steps = found.steps
    if len(steps) < 2:
        return []
    walls = sorted(step.wall_us for step in steps)
    slowest = max(steps, key=lambda step: step.wall_us)
    said = [
        words.count(len(steps), "step"),
        f"median {words.time((walls[len(walls) // 2] + walls[(len(walls) - 1) // 2]) / 2)}",
        f"slowest {slowest.name} with {words.time(slowest.wall_us)}",
        f"GPU busy {words.share(sum(step.busy_us for step in steps) / (sum(walls) or 1.0))}",
    ]
    return ["", *paper.joined(said, first=paper.bold("STEPS") + "  ", then="       ")]


def _gaps(found: Summary, paper: Paper, top: int) -> list[str]:
    gaps = found.idle.gaps[:top]
    if not gaps:
        return []
    unit, column = times([gap.us for gap in gaps])
    rows = [
        (_where(gap), us, words.time(gap.start_us), gap.cause) for gap, us in zip(gaps, column, strict=True)
    ]
    return ["", *table(paper, ("LONGEST GAPS", unit, "AT", "CAUSE"), rows, drop=(2,), left=(0, 3))]


def _where(gap: Gap) -> str:
    """What the CPU did in a gap, and who had called that."""
    what = gap.waits_in or (frame_name(gap) if gap.frame else "")
    return " ← ".join((what or "?", *gap.callers[:_FRAMES_SHOWN]))


def frame_name(gap: Gap) -> str:
    frame = gap.frame
    if frame is None:
        return ""
    place = f"{frame.file}:{frame.line}" if frame.line else frame.file
    return f"{frame.name} {place}".strip()


def _cpu(found: Summary, paper: Paper, top: int) -> list[str]:
    """Without GPU work, the lines that the call itself was in; without lines the operators' table says it."""
    if not any(frame.file for frame in found.cpu):
        return []
    worth = _LEAST_SHARE * found.trace.wall_us
    frames = [] if found.gpu.events else [frame for frame in found.cpu if frame.us >= worth][:top]
    if not frames:
        return []
    unit, column = times([frame.us for frame in frames])
    rows = [
        (frame.name, us, f"{frame.file}:{frame.line}" if frame.line else frame.file)
        for frame, us in zip(frames, column, strict=True)
    ]
    return ["", *table(paper, ("TOP LINES", unit, "WHERE"), rows, left=(0, 2))]


def _kernels(found: Summary, paper: Paper, top: int) -> list[str]:
    kernels = found.kernels[:top]
    if not kernels:
        return []
    unit, column = times([kernel.us for kernel in kernels])
    rows = []
    for kernel, us in zip(kernels, column, strict=True):
        numbers = (us, words.share(kernel.share), f"{kernel.count:,}", words.time(kernel.mean_us))
        rows.append((words.kernel(kernel.name), *numbers, kernel.op or "-"))
    heading = ("TOP KERNELS", unit, "SHARE", "CALLS", "MEAN", "OPERATOR")
    return [
        "",
        *table(paper, heading, rows, drop=(4, 3), left=(0, 5)),
        *_more(found.kernels_count - len(kernels), "kernel", paper),
    ]


def _ops(found: Summary, paper: Paper, top: int) -> list[str]:
    ops = found.ops[:top]
    if not ops:
        return []
    gpu_unit, gpu = times([op.gpu_us for op in ops])
    cpu_unit, cpu = times([op.cpu_self_us for op in ops])
    heading: tuple[str, ...] = ("TOP OPERATORS", f"GPU {gpu_unit}", "SHARE", f"CPU SELF {cpu_unit}", "CALLS")
    rows: list[tuple[str, ...]] = []
    for op, on_gpu, on_cpu in zip(ops, gpu, cpu, strict=True):
        rows.append((op.name, on_gpu, words.share(op.share), on_cpu, f"{op.count:,}"))
    drop: tuple[int, ...] = (4, 3)
    if not found.gpu.events:
        heading, rows, drop = (heading[0], *heading[3:]), [(row[0], *row[3:]) for row in rows], ()
    lines = ["", *table(paper, heading, rows, drop=drop)]
    return lines + _more(found.ops_count - len(ops), "operator", paper)


def _more(left: int, noun: str, paper: Paper) -> list[str]:
    return [paper.dim(f"and {words.count(left, f'more {noun}')}")] if left > 0 else []
