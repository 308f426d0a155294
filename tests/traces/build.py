"""Makes small traces: each call adds an event, times in µs from the beginning of the recording."""

import gzip
import io
import json
from typing import Any

from chisel_shared.traces.columns import Columns
from chisel_shared.traces.read import read

EPOCH_US = 1000.0
"""Not zero, so that a forgotten start of the window shows; small, so that sums stay exact."""

Event = dict[str, Any]


class Trace:
    """Collects events; `columns()` reads what they make as a file."""

    def __init__(self, **metadata: Any) -> None:
        self.events: list[Event] = []
        self.metadata: dict[str, Any] = {"schemaVersion": 1, **metadata}
        self._correlation = 0

    def add(
        self, cat: str, name: str, start: float, dur: float, *, pid: Any = 1, tid: Any = 1, **args: Any
    ) -> Event:
        event: Event = {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid}
        event |= {"ts": EPOCH_US + start, "dur": dur, "args": args}
        self.events.append(event)
        return event

    def op(self, name: str, start: float, dur: float, *, tid: Any = 1, **args: Any) -> Event:
        return self.add("cpu_op", name, start, dur, tid=tid, **args)

    def span(self, name: str, start: float, dur: float, *, tid: Any = 1) -> Event:
        return self.add("user_annotation", name, start, dur, tid=tid)

    def python(self, name: str, start: float, dur: float, *, tid: Any = 1, pid: Any = 1) -> Event:
        return self.add("python_function", name, start, dur, tid=tid, pid=pid)

    def call(self, name: str, start: float, dur: float, *, tid: Any = 1, **args: Any) -> Event:
        """A runtime call."""
        return self.add("cuda_runtime", name, start, dur, tid=tid, **args)

    def kernel(
        self,
        start: float,
        dur: float,
        *,
        launch: float | None = None,
        name: str = "gemm",
        cat: str = "kernel",
        device: int = 0,
        stream: int = 7,
        tid: Any = 1,
        grid: tuple[int, ...] = (1, 1, 1),
        block: tuple[int, ...] = (128, 1, 1),
        by: str = "cudaLaunchKernel",
        **args: Any,
    ) -> Event:
        """A GPU event, and the call at `launch` that launched it; None: none is in the file."""
        self._correlation += 1
        args = {"device": device, "stream": stream, "correlation": self._correlation} | args
        if cat == "kernel":
            args |= {"grid": list(grid), "block": list(block)}
        if launch is not None:
            self.call(by, launch, 1.0, tid=tid, correlation=self._correlation)
        return self.add(cat, name, start, dur, pid=device, tid=stream, **args)

    def copy(self, start: float, dur: float, *, launch: float | None = None, **more: Any) -> Event:
        more = {"name": "Memcpy DtoH (Device -> Pinned)", "by": "cudaMemcpyAsync"} | more
        return self.kernel(start, dur, launch=launch, cat="gpu_memcpy", **more)

    def allocate(
        self,
        at: float,
        change: int,
        allocated: int,
        *,
        address: int,
        reserved: int = 0,
        gpu: bool = True,
        tid: Any = 1,
    ) -> Event:
        event: Event = {
            "ph": "i",
            "cat": "cpu_instant_event",
            "s": "t",
            "name": "[memory]",
            "pid": 1,
            "tid": tid,
        }
        args = {"Bytes": change, "Total Allocated": allocated, "Total Reserved": reserved, "Addr": address}
        event |= {
            "ts": EPOCH_US + at,
            "args": args | {"Device Type": int(gpu), "Device Id": 0 if gpu else -1},
        }
        self.events.append(event)
        return event

    def data(self) -> bytes:
        return json.dumps({**self.metadata, "traceEvents": self.events}).encode()

    def gz(self) -> bytes:
        return gzip.compress(self.data(), 1, mtime=0)

    def columns(self) -> Columns:
        return columns(self.data())


def columns(data: bytes) -> Columns:
    return read(io.BytesIO(data))
