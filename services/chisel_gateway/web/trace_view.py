"""A summary as markup. Pure. Every value that is not ours is escaped here; bars and charts are SVG, whose
sizes are attributes, so that the page needs neither scripts nor inline styles."""

from collections.abc import Iterable, Sequence
from html import escape

from chisel_shared.contract.messages import TraceView
from chisel_shared.traces import words
from chisel_shared.traces.report import Finding, Memory, Summary

STYLE = """
main { --compute: #3f7d4f; --comm: #b4690e; --copy: #6b4fbb; --host: #c2453d; --launch: #d9a441;
  --unknown: #9aa1ae; }
.facts { display: flex; flex-wrap: wrap; gap: .1rem 1rem; color: var(--soft); font-size: .925rem; }
.bar { width: 100%; height: 1.6rem; border-radius: 6px; margin: 1rem 0 .5rem; display: block; }
.compute { fill: var(--compute); } .comm { fill: var(--comm); } .copy { fill: var(--copy); }
.host { fill: var(--host); } .launch { fill: var(--launch); } .unknown { fill: var(--unknown); }
.key { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .925rem; }
.key li { display: flex; border: 0; padding: 0; gap: .4rem; align-items: center; justify-content: start; }
.key svg { width: .8rem; height: .8rem; flex: none; }
.findings { counter-reset: number; list-style: none; margin: 0; padding: 0; }
.findings li { display: block; padding: .8rem 0 .8rem 2rem; position: relative; counter-increment: number; }
.findings li::before { content: counter(number); position: absolute; left: .2rem; font-weight: 700;
  color: var(--accent); }
.findings strong { display: block; } .findings span { display: block; color: var(--soft);
  font: .85rem/1.5 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.findings em { font-style: normal; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .925rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { font-weight: 600; color: var(--soft); } td:first-child { white-space: normal; overflow-wrap: anywhere; }
th:first-child, td:first-child, .left { text-align: left; padding-left: 0; }
.chart { width: 100%; height: 9rem; display: block; } .chart path { fill: var(--accent); opacity: .75; }
iframe { width: 100%; height: 38rem; border: 1px solid var(--line); border-radius: 8px; }
"""
_ROWS = 10
_CHART = (1000, 200)
_PARTS = {
    "compute": "compute", "exposed copy": "copy", "exposed comm": "comm", "waiting for the CPU": "host",
    "launch latency": "launch", "unknown": "unknown",
}  # fmt: skip


def summary(found: Summary, *, job: str, name: str, timeline: bool) -> str:
    """The whole page but its frame."""
    first, *facts = words.facts(found.trace)
    notes = "".join(f'<p class="bad">{escape(note)}</p>' for note in found.notes)
    told = "".join(f"<span>{escape(fact)}</span>" for fact in facts)
    return (
        f'<h1>{escape(first)}</h1><div class="facts">{told}</div>{_gpu(found)}{notes}'
        f"{_findings(found.findings)}{_kernels(found)}{_ops(found)}"
        + "".join(_memory(one) for one in found.memory if one.device != "cpu" or len(found.memory) == 1)
        + _timeline(job, name, there=timeline)
    )


def others(found: Sequence[TraceView]) -> str:
    """Links to the other traces of the job."""
    if not found:
        return ""
    links = "".join(
        f'<li><a href="{escape(one.name)}">{escape(words.stem(one.name))}</a>'
        f"<span>{escape(one.finding or one.state)}</span></li>"
        for one in found
    )
    return f"<h2>Other traces of this job</h2><ul>{links}</ul>"


def _gpu(found: Summary) -> str:
    gpu = found.gpu
    if not gpu.events:
        cut = found.trace.truncated
        said = "The file ends before any GPU work, after" if cut else "No GPU work was recorded in"
        return f"<p>{said} {words.time(found.trace.wall_us)}.</p>"
    parts = [part for part in (*words.busy(found), *words.idle(found)) if part[1]]
    whole = sum(us for _, us in parts) or 1.0
    at, bars, key = 0.0, "", ""
    for label, us in parts:
        kind = _PARTS[label]
        width = 100 * us / whole
        bars += f'<rect class="{kind}" x="{at:.3f}" width="{width:.3f}" height="10"/>'
        key += (
            f'<li><svg viewBox="0 0 1 1"><rect class="{kind}" width="1" height="1"/></svg>{label}'
            f" {words.time(us)}</li>"
        )
        at += width
    busy = words.share(gpu.busy_us / gpu.span_us if gpu.span_us else 0.0)
    said = f"GPU busy {words.time(gpu.busy_us)} of {words.time(gpu.span_us)} ({busy})"
    return (
        f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img"'
        f' aria-label="{said}">{bars}</svg><p><strong>{said}</strong></p><ul class="key">{key}</ul>'
    )


def _findings(findings: Iterable[Finding]) -> str:
    items = ""
    for finding in findings:
        evidence = "".join(f"<span>{escape(line)}</span>" for line in finding.evidence)
        next_step = f"<em>→ {_code(finding.next_step)}</em>" if finding.next_step else ""
        items += f"<li><strong>{escape(finding.text)}</strong>{evidence}{next_step}</li>"
    return f'<h2>Findings</h2><ol class="findings">{items}</ol>' if items else ""


def _code(text: str) -> str:
    """What stands between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))


def _kernels(found: Summary) -> str:
    rows = [
        (words.kernel(one.name), words.time(one.us), words.share(one.share), f"{one.count:,}",
         words.time(one.mean_us), one.op or "-")
        for one in found.kernels[:_ROWS]
    ]  # fmt: skip
    return _table("Kernels", ("Kernel", "Time", "Share", "Calls", "Mean", "Operator"), rows)


def _ops(found: Summary) -> str:
    rows = [
        (one.name, words.time(one.gpu_us), words.share(one.share), words.time(one.cpu_self_us),
         f"{one.count:,}")
        for one in found.ops[:_ROWS]
    ]  # fmt: skip
    return _table("Operators", ("Operator", "GPU", "Share", "CPU itself", "Calls"), rows)


def _table(title: str, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{name}</th>" for name in heading)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<h2>{title}</h2><div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _memory(found: Memory) -> str:
    points, (width, height) = found.timeline, _CHART
    top = max((point.allocated_bytes for point in points), default=0)
    said = (
        f"peak {words.size(found.peak_allocated_bytes)} allocated, {words.size(found.peak_reserved_bytes)}"
        f" reserved, after {words.time(found.peak_at_us)}"
    )
    chart = ""
    if top:
        start, end = points[0].at_us, points[-1].at_us
        across = width / ((end - start) or 1.0)
        path = f"M0 {height}"
        for point in points:  # a size lasts until the next one
            path += (
                f"H{(point.at_us - start) * across:.1f}V{height - point.allocated_bytes / top * height:.1f}"
            )
        chart = (
            f'<svg class="chart" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img"'
            f' aria-label="{said}"><path d="{path}H{width}V{height}Z"/></svg>'
        )
    rows = [(one.op, words.size(one.bytes), f"{one.count:,}") for one in found.at_peak[:_ROWS]]
    table = _table("At the peak", ("Operator", "Size", "Blocks"), rows)
    return f"<h2>Memory of {escape(found.device)}</h2><p>{said}</p>{chart}{table}"


def _timeline(job: str, name: str, *, there: bool) -> str:
    place = f"{escape(name)}/timeline"
    if there:
        return (
            f'<h2 id="timeline">Timeline</h2><p><a href="{place}">In a window of its own</a></p>'
            f'<iframe src="{place}" loading="lazy" title="Timeline of {escape(name)}"></iframe>'
        )
    command = f"chisel trace open {escape(job)}/{escape(words.stem(name))}"
    return f"<h2>Timeline</h2><p>This server has no copy of Perfetto: <code>{command}</code></p>"
