"""A trace in one page: `summarize` puts the answers of the other modules together."""

from pathlib import Path

import msgspec

from chisel_shared.traces import hints, idle, kernels, memory, ops, steps, timeline
from chisel_shared.traces.columns import Columns
from chisel_shared.traces.facts import Facts
from chisel_shared.traces.first_line import first_line
from chisel_shared.traces.gaps import find_gaps, one_gap
from chisel_shared.traces.gpu import GpuEvents, gpu_events
from chisel_shared.traces.ops import Attribution
from chisel_shared.traces.read import read
from chisel_shared.traces.report import Frame, Summary, TraceInfo
from chisel_shared.traces.sidecar import Sidecar
from chisel_shared.traces.source import Where

__all__ = ["MOST_ROWS", "first_line", "summarize", "trace_info"]

MOST_ROWS = 50
"""Of kernels, operators and steps, unless asked for more."""


def summarize(
    trace: Where | Columns, *, name: str = "", sidecar: Sidecar | None = None, rows: int | None = MOST_ROWS
) -> Summary:
    """Everything about one trace. `rows`: how many of the kernels, operators and steps at most; None for all.

    `TraceError` and `OSError` as from `read`.
    """
    columns = trace if isinstance(trace, Columns) else read(trace)
    if not name and isinstance(trace, str | Path):
        name = Path(trace).name
    gpu = gpu_events(columns)
    devices = timeline.device_times(gpu)
    called = ops.attribute(columns, gpu)
    gaps = find_gaps(columns, gpu)
    facts = Facts(
        columns=columns,
        gpu=gpu,
        gaps=gaps,
        trace=trace_info(columns, name=name, sidecar=sidecar),
        time=timeline.total(devices),
        idle=idle.idle(columns, gaps),
        cpu=() if len(gpu) else _cpu_frames(columns),
        kernels=kernels.kernels(columns, gpu, called.names),
        ops=ops.ops(called),
    )
    return Summary(
        trace=facts.trace,
        gpu=facts.time,
        devices=devices,
        idle=facts.idle,
        cpu=facts.cpu,
        kernels=tuple(facts.kernels[:rows]),
        kernels_count=len(facts.kernels),
        ops=tuple(facts.ops[:rows]),
        ops_count=len(facts.ops),
        memory=memory.memory(columns, called.nesting),
        steps=steps.steps(columns, gpu)[:rows],
        findings=hints.findings(facts),
        notes=_notes(facts, called),
    )


def _cpu_frames(columns: Columns) -> tuple[Frame, ...]:
    """Where the CPU was during the call."""
    called = steps.call(columns)
    return idle.innermost(columns, one_gap(called.start, called.end, called.thread))


def trace_info(columns: Columns, *, name: str, sidecar: Sidecar | None) -> TraceInfo:
    """By the sidecar where it says so, else by what the file says of itself."""
    told = sidecar or Sidecar()
    meta = columns.metadata
    distributed = _dict(meta.get("distributedInfo"))
    properties = meta.get("deviceProperties")
    models = [_dict(one).get("name") for one in properties] if isinstance(properties, list) else []
    options = msgspec.structs.asdict(told.options)
    return TraceInfo(
        name=name or told.trace,
        events=columns.events,
        truncated=columns.truncated,
        repaired=max(columns.repaired, told.repaired),
        wall_us=steps.call(columns).us,
        call=told.call,
        cold=sidecar is not None and told.call == 1,
        rank=told.rank if told.rank is not None else _number(distributed.get("rank")),
        world_size=told.world_size or _number(distributed.get("world_size")),
        gpu=next((gpu.model for gpu in told.gpus if gpu.model), next((str(m) for m in models if m), "")),
        torch=told.torch or _text(meta.get("pytorch_version")),
        cuda=told.cuda or _cuda(meta.get("cuda_runtime_version")),
        driver=next((gpu.driver for gpu in told.gpus if gpu.driver), ""),
        options=tuple(option for option, on in options.items() if on or meta.get(option) == 1),
        sidecar=sidecar,
    )


def _notes(facts: Facts, called: Attribution) -> tuple[str, ...]:
    """What limits the reading."""
    columns, gpu = facts.columns, facts.gpu
    notes = []
    if columns.truncated:
        notes.append("The file ends in the middle: this covers the whole events before the cut.")
    if facts.gpu_is_cut_off:
        notes.append("It ends before its GPU events, so what the GPU did is unknown.")
    if columns.damaged:
        notes.append(f"{columns.damaged:,} entries of the file could not be read and are left out.")
    if facts.trace.cold:
        notes.append("The first call of its process: initialisation and compilation are in it.")
    if facts.time.orphans:
        notes.append(
            f"{facts.time.orphans:,} GPU events were launched before the recording began and are in none of"
            " the times: synchronize before recording."
        )
    if graph := int(called.graph.sum()):
        notes.append(
            f"{graph:,} GPU events were launched by graphs: which operators they belong to is unknown."
        )
    if called.nesting.cut:
        notes.append(
            f"{called.nesting.cut:,} operators outlast the one around them; they are cut at its end."
        )
    if facts.idle.unknown_us:
        notes.append("Some gaps have no recorded launch: what they waited for is unknown.")
    notes += _about_the_machine(facts, gpu)
    return tuple(notes)


def _about_the_machine(facts: Facts, gpu: GpuEvents) -> list[str]:
    devices = len(set(gpu.device.tolist()))
    notes = []
    if devices > 1:
        notes.append(f"Times are summed over {devices} devices.")
    neighbours = [one for one in (facts.trace.sidecar or Sidecar()).gpus if one.neighbours]
    notes += [
        f"Other processes computed on GPU {one.index}: times are not its own alone." for one in neighbours
    ]
    return notes


def _cuda(version: object) -> str:
    """12040 is 12.4."""
    number = _number(version)
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
