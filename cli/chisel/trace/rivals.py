"""Profilers that the script starts itself while one of ours is on.

torch does not refuse a second one: it empties the first one's trace, or the process ends with a segmentation
fault. So ours hears of it just before, through the two functions that every way to start one calls.
"""

from collections.abc import Callable
from typing import Any

_STARTS = ("_prepare_profiler", "_enable_profiler")
"""Of torch.autograd.profiler; private, so each may be missing."""


class Guard:
    """Calls `notice` before a profiler starts, until it is taken off."""

    def __init__(self, torch: Any, notice: Callable[[], None]) -> None:
        self._module = torch.autograd.profiler
        self._notice = notice
        self._originals: dict[str, Any] = {}

    def put_on(self) -> None:
        for name in _STARTS:
            original = getattr(self._module, name, None)
            if original is not None and name not in self._originals:
                self._originals[name] = original
                setattr(self._module, name, self._after_notice(original))

    def take_off(self) -> None:
        while self._originals:
            name, original = self._originals.popitem()
            setattr(self._module, name, original)

    def _after_notice(self, original: Any) -> Any:
        def start(*args: Any, **kwargs: Any) -> Any:
            self._notice()
            return original(*args, **kwargs)

        return start
