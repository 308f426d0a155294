"""A trace as flame graphs: for speedscope, and as folded stacks for everything that reads those.

The stacks are those of each thread's Python frames, operators, annotations and runtime calls, by how they lie
inside of each other; the time of a stack is what its innermost event does not spend in others.
"""

from collections import defaultdict
from typing import Any

import msgspec

from chisel_shared.traces import frames
from chisel_shared.traces.columns import ANNOTATION, CPU_OP, DRIVER, PYTHON, RUNTIME, Columns
from chisel_shared.traces.nesting import Nesting, nest

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_UNFOLDED = str.maketrans({";": ":", "\n": " ", "\r": " "})


def speedscope(columns: Columns, *, name: str) -> bytes:
    """A `.speedscope.json`: a profile for each thread, in the order of time, µs from the beginning."""
    nesting = _stacks(columns)
    numbers: dict[str, int] = {}
    by_thread: dict[int, list[dict[str, Any]]] = defaultdict(list)
    rows, threads = nesting.row.tolist(), nesting.thread.tolist()
    starts = (nesting.start - columns.start_us).tolist()
    ends = (nesting.end - columns.start_us).tolist()
    parents = nesting.parent.tolist()
    stacks: dict[int, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        thread = threads[place]
        stack, events = stacks[thread], by_thread[thread]
        while stack and stack[-1] != parents[place]:
            _close(events, numbers, columns, rows, stack.pop(), ends)
        stack.append(place)
        number = numbers.setdefault(columns.name_of(row), len(numbers))
        events.append({"type": "O", "frame": number, "at": _after(events, starts[place])})
    for thread, stack in stacks.items():
        while stack:
            _close(by_thread[thread], numbers, columns, rows, stack.pop(), ends)
    profiles = [_profile(columns, thread, events) for thread, events in by_thread.items()]
    profiles.sort(key=lambda profile: -len(profile["events"]))
    shared = {"frames": [_frame(frame) for frame in numbers]}
    whole = {"$schema": _SCHEMA, "name": name, "exporter": "chisel", "shared": shared, "profiles": profiles}
    return msgspec.json.encode(whole)


def folded(columns: Columns) -> bytes:
    """A line for each stack, `thread;outermost;…;innermost µs`, in the order of their first appearance."""
    nesting = _stacks(columns)
    # A stack is known by its innermost event's name and the stack around it.
    stacks: dict[tuple[int, int], int] = {}
    texts: list[str] = []
    time: list[float] = []
    of: list[int] = []
    names = columns.name[nesting.row].tolist()
    own = nesting.self_us.tolist()
    for place, (parent, thread) in enumerate(
        zip(nesting.parent.tolist(), nesting.thread.tolist(), strict=True)
    ):
        around = of[parent] if parent >= 0 else -1 - thread
        stack = stacks.setdefault((around, names[place]), len(stacks))
        of.append(stack)
        if stack == len(texts):
            outer = texts[around] if parent >= 0 else _thread_name(columns, thread)
            texts.append(f"{outer};{columns.names[names[place]].translate(_UNFOLDED)}")
            time.append(0.0)
        time[stack] += own[place]
    return "".join(
        f"{text} {round(us)}\n" for text, us in zip(texts, time, strict=True) if round(us)
    ).encode()


def _stacks(columns: Columns) -> Nesting:
    return nest(columns, PYTHON, CPU_OP, ANNOTATION, RUNTIME, DRIVER)


def _close(
    events: list[dict[str, Any]], numbers: dict[str, int], columns: Columns, rows: list[int], place: int,
    ends: list[float],
) -> None:  # fmt: skip
    number = numbers[columns.name_of(rows[place])]
    events.append({"type": "C", "frame": number, "at": _after(events, ends[place])})


def _after(events: list[dict[str, Any]], at: float) -> float:
    """Rounded to the nanosecond, and not before what has happened."""
    return max(round(at, 3), events[-1]["at"] if events else 0.0)


def _profile(columns: Columns, thread: int, events: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "evented",
        "name": _thread_name(columns, thread),
        "unit": "microseconds",
        "startValue": 0,
        "endValue": events[-1]["at"],
        "events": events,
    }


def _frame(name: str) -> dict[str, Any]:
    place = frames.place(name)
    return {"name": name} if place is None else {"name": name, "file": place.file, "line": place.line}


def _thread_name(columns: Columns, thread: int) -> str:
    one = columns.threads[thread]
    return (one.name.strip() or f"thread {one.tid}").translate(_UNFOLDED)
