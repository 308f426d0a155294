"""What headings and tables say, in the terminal as on the web page; `wording.py` is for sentences."""

import re

from chisel_shared.traces.report import Summary, TraceInfo
from chisel_shared.traces.wording import duration, short_kernel, times

_UNITS = (("µs", 1.0), ("ms", 1e3), ("s", 1e6))
_BYTES = (("kB", 1e3), ("MB", 1e6), ("GB", 1e9))
_TORCH = re.compile(r"^(\d+\.\d+(?:\.\d+)?)")
_TELLING = re.compile(r"\w*Functor\w*|\w+_kernel_cuda|\w+_kernel_impl\w*|\w+KernelImpl")
"""Names in template arguments that say what is computed."""
_CALL = re.compile(r"^(?P<base>.+?)(?:\.rank(?P<rank>\d+)|\.pid(?P<pid>\d+))?(?:\.(?P<call>\d+))?$")


def scale(us: float) -> tuple[str, float]:
    """The unit to write `us` in, and how many µs it has: for a column of times, of the largest."""
    for unit, divisor in _UNITS:
        if round(abs(us) / divisor, 1) < 1000:
            return unit, divisor
    return _UNITS[-1]


def time(us: float) -> str:
    """`812 µs`, `2.19 ms`, `1.21 s`."""
    return duration(us) if us else "0"


def signed(us: float) -> str:
    """A difference of times, with its sign."""
    sign = "+" if us > 0 else "-" if us < 0 else "±"
    return f"{sign}{time(abs(us))}"


def size(count: float) -> str:
    """`999 B`, `71.46 kB`, `2.71 GB`."""
    if abs(count) < 1000:
        return f"{count:,.0f} B"
    unit, divisor = next((one for one in _BYTES if round(abs(count) / one[1], 2) < 1000), _BYTES[-1])
    return f"{count / divisor:,.2f} {unit}"


def share(part: float) -> str:
    return f"{part:.1%}".replace("%", " %")


def change(part: float | None) -> str:
    """A relative change with its sign; empty where there is nothing to compare with."""
    if part is None:
        return ""
    return f"{'-' if part < 0 else '+'}{abs(part):.1%}".replace("%", " %")


count = times
"""`1 kernel`, `2,000 kernels`."""


def stem(name: str) -> str:
    """A trace's name without what its file format adds."""
    return name.removesuffix(".gz").removesuffix(".json")


def base(name: str) -> tuple[str, int | None, int]:
    """What a file name says: the name that the script gave, the rank, the call."""
    found = _CALL.match(stem(name))
    if found is None:
        return stem(name), None, 1
    rank, call = found["rank"], found["call"]
    return found["base"], None if rank is None else int(rank), 1 if call is None else int(call)


def facts(info: TraceInfo) -> list[str]:
    """Which trace this is and what it was taken on, part by part."""
    name, rank, call = base(info.name)
    call = info.call if info.sidecar else call
    rank = rank if info.rank is None else info.rank
    said = [name, f"call {call}" + (" (cold)" if info.cold else "")]
    if rank is not None:
        said.append(f"rank {rank}" + (f" of {info.world_size}" if info.world_size else ""))
    torch = _TORCH.match(info.torch)
    said += [info.gpu.removeprefix("NVIDIA ")] if info.gpu else []
    said += [f"torch {torch[1]}"] if torch else []
    return [*said, f"{info.events:,} events"]


def busy(summary: Summary) -> list[tuple[str, float]]:
    """What makes the busy time, in µs."""
    gpu = summary.gpu
    parts = [
        ("compute", gpu.compute_us),
        ("exposed copy", gpu.exposed_copy_us),
        ("exposed comm", gpu.exposed_comm_us),
    ]
    return [part for part in parts if part[1]] or parts[:1]


def idle(summary: Summary) -> list[tuple[str, float]]:
    """What makes the idle time, in µs."""
    idle = summary.idle
    parts = [
        ("waiting for the CPU", idle.host_us),
        ("launch latency", idle.launch_us),
        ("unknown", idle.unknown_us),
    ]
    return [part for part in parts if part[1]]


def kernel(name: str) -> str:
    """A kernel's short name, with what tells one elementwise kernel, or one reduction, from another."""
    if name.startswith(("Memcpy", "Memset")):
        return name
    short = short_kernel(name)
    if "elementwise" not in short and "reduce" not in short:
        return short
    inner = name.partition("<")[2]
    told = (found for found in _TELLING.findall(inner) if not found.startswith("gpu_kernel_impl"))
    first = next(told, "")
    return f"{short}<{first}>" if first else short


def cut(text: str, width: int) -> str:
    """`text` in at most `width` characters; of what is too long the middle is left out."""
    if len(text) <= width or width < 4:
        return text
    tail = (width - 1) // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
