"""Why two runs may not be comparable: said above every comparison, never silently accepted."""

from collections.abc import Callable, Iterable, Sequence

from chisel_shared.traces.report import TraceInfo

_CLOCKS_APART = 0.05
_WANTED = {"application_clocks"}
"""Clocks that an operator has set; when they differ, `_clocks` says so."""

Infos = Sequence[TraceInfo]


def warnings(a: Infos, b: Infos) -> tuple[str, ...]:
    """A sentence for each difference between the sides, most telling first."""
    said = [
        _differs("the GPU", a, b, lambda info: info.gpu),
        _differs("the number of ranks", a, b, lambda info: str(info.world_size or 1)),
        _differs("what was recorded", a, b, lambda info: " ".join(info.options) or "the default"),
        _differs("torch", a, b, lambda info: info.torch),
        _differs("CUDA", a, b, lambda info: info.cuda),
        _differs("the driver", a, b, lambda info: info.driver),
        _cold(a, b),
        _clocks(a, b),
        *_each("ends in the middle: it was cut", a, b, lambda info: info.truncated),
        *_each("was taken while its GPU was throttled", a, b, _throttled),
        *_each("shared its GPU with other processes", a, b, _shared),
        *_each("ended early", a, b, _cut_short),
        *_each("is of a call that raised an error", a, b, _failed),
    ]
    return tuple(sentence for sentence in said if sentence)


def _differs(what: str, a: Infos, b: Infos, value: Callable[[TraceInfo], str]) -> str:
    """Empty also where a side does not say."""
    left, right = _values(a, value), _values(b, value)
    if not left or not right or left == right:
        return ""
    return f"{what} differs: {', '.join(left)} in A, {', '.join(right)} in B"


def _values(infos: Infos, value: Callable[[TraceInfo], str]) -> list[str]:
    return sorted({value(info) for info in infos} - {""})


def _cold(a: Infos, b: Infos) -> str:
    cold_a, cold_b = (any(info.cold for info in side) for side in (a, b))
    if cold_a and cold_b:
        return "both sides have a first call, with its initialisation and compilation"
    if cold_a or cold_b:
        side = "A" if cold_a else "B"
        return f"only {side} has a first call, with its initialisation and compilation"
    return ""


def _clocks(a: Infos, b: Infos) -> str:
    left, right = _mean_clock(a), _mean_clock(b)
    if left is None or right is None or abs(right - left) <= _CLOCKS_APART * left:
        return ""
    return f"the GPU's clock differs: {left:.0f} MHz in A, {right:.0f} MHz in B"


def _mean_clock(infos: Infos) -> float | None:
    clocks = [
        clock
        for info in infos
        for gpu in (info.sidecar.gpus if info.sidecar else ())
        for clock in (gpu.sm_clock_mhz, gpu.sm_clock_end_mhz)
        if clock
    ]
    return sum(clocks) / len(clocks) if clocks else None


def _each(what: str, a: Infos, b: Infos, holds: Callable[[TraceInfo], bool]) -> Iterable[str]:
    for side, infos in (("A", a), ("B", b)):
        names = [info.name for info in infos if holds(info)]
        if names:
            yield f"{side}: {', '.join(names)} {what}"


def _throttled(info: TraceInfo) -> bool:
    return info.sidecar is not None and any(set(gpu.throttled) - _WANTED for gpu in info.sidecar.gpus)


def _shared(info: TraceInfo) -> bool:
    return info.sidecar is not None and any(gpu.neighbours for gpu in info.sidecar.gpus)


def _cut_short(info: TraceInfo) -> bool:
    complete = ("return", "exception", "closed", "steps")
    return info.sidecar is not None and info.sidecar.ended_by not in complete


def _failed(info: TraceInfo) -> bool:
    return info.sidecar is not None and bool(info.sidecar.error)
