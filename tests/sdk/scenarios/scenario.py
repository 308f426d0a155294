"""What scripts do with `capture_trace`: each runs as a process of its own, with the real torch.

A script prints what it computes; it must print and exit alike where it is traced and where it is not.
"""

from dataclasses import dataclass, field

BEFORE = """
import asyncio, concurrent.futures, functools, gc, inspect, os, signal, subprocess, sys, threading, time
import torch
import chisel
from chisel import capture_trace
DEVICE = os.environ["SCENARIO_DEVICE"]
x = torch.ones(8, 8, device=DEVICE)
"""

BARE = BEFORE.replace("import torch\n", "").rpartition("x =")[0]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`traces`: the stem of each trace that is saved, and how its capture ended."""

    code: str
    traces: dict[str, str] = field(default_factory=dict)
    status: int = 0
    traced_status: int | None = None
    """Where it differs."""
    before: str = BEFORE
    says: str = ""
    """Part of what stands on stderr."""
    holds: tuple[str, ...] = ("aten::mm",)
    """Names in every trace."""
    left: tuple[str, ...] = ()
    """Hidden files that stay."""
    folder: str = "traces"
    errors: int | None = None
    """Lines on stderr of ours; at most two a trace without this."""
