"""Decorated calls inside a recording that is open already."""

from contextlib import suppress
from typing import Any

from chisel.trace.profiler import load_torch


class Span:
    """A named stretch of time inside the recording that is open already."""

    def __init__(self, name: str) -> None:
        self._span: Any = None
        with suppress(Exception):  # a trace without it is still one
            self._span = load_torch().profiler.record_function(f"chisel::{name}")

    def __enter__(self) -> None:
        if self._span is not None:
            try:
                self._span.__enter__()
            except Exception:  # as above
                self._span = None

    def __exit__(self, *raised: object) -> None:
        if self._span is not None:
            with suppress(Exception):
                self._span.__exit__(None, None, None)
