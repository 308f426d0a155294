"""What a capture tells beside its events: in the trace file, and in the sidecar."""

import os
import platform
from typing import Any, Protocol

from chisel.trace import naming
from chisel.trace.capture import Options

_MAX_TEXT = 1000


class Described(Protocol):
    """A decorated function."""

    title: str
    name: str
    function: str
    file: str
    options: Options


class Facts:
    """Of one capture."""

    def __init__(self, torch: Any, target: Described) -> None:
        self._torch = torch
        self._target = target

    def marks(self, call: int, ended_by: str, error: str) -> dict[str, str]:
        """What the trace says about its call, as JSON. torch writes strings as they are: no escapes."""
        own_rank, _ = naming.rank()
        what = error or (ended_by if ended_by == "foreign-profiler" else "")
        return {
            "trace": f'"{self._target.name}"',
            "call": str(call),
            "rank": "null" if own_rank is None else str(own_rank),
            "pid": str(os.getpid()),
            "ended_by": f'"{ended_by}"',
            "error": f'"{naming.safe_name(what)}"' if what else "null",
        }

    def sidecar(
        self, *, call: int, started_at: float, seconds: float, ended_by: str, error: str
    ) -> dict[str, object]:
        """The sidecar as `chisel_shared.traces.sidecar` defines it, but for the GPUs and what saving adds."""
        target, options = self._target, self._target.options
        own_rank, world_size = naming.rank()
        version = getattr(self._torch, "version", None)
        return {
            "schema": 1,
            "trace": target.title[:_MAX_TEXT],
            "function": target.function[:_MAX_TEXT],
            "file": target.file[:_MAX_TEXT],
            "call": call,
            "rank": own_rank,
            "world_size": world_size,
            "pid": os.getpid(),
            "host": platform.node(),
            "started_at": started_at,
            "seconds": seconds,
            "ended_by": ended_by,
            "error": error,
            "options": {
                "record_shapes": options.record_shapes,
                "profile_memory": options.profile_memory,
                "with_stack": options.with_stack,
                "all_threads": options.all_threads,
            },
            "torch": str(getattr(self._torch, "__version__", "")),
            "cuda": str(getattr(version, "cuda", None) or getattr(version, "hip", None) or ""),
            "python": platform.python_version(),
        }
