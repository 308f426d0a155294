"""Numbers and names as a sentence says them."""

import re

_WRAPPERS = {"Kernel", "Kernel2", "device_kernel"}
"""Of CUTLASS."""
_FIRST_ARGUMENT = re.compile(r"[<>,]")


def percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.0995 else f"{share * 100:.1f} %"


def duration(us: float) -> str:
    """With three digits that matter."""
    value, unit = us, "µs"
    if us >= 1e6:
        value, unit = us / 1e6, "s"
    elif us >= 1e3:
        value, unit = us / 1e3, "ms"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def times(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def short_kernel(name: str) -> str:
    """A kernel's name without return type, template arguments and parameters; of a wrapper's, which all
    have one name, the first argument."""
    if name.startswith(("Memcpy ", "Memset ")):
        return name
    depth = 0
    kept = []
    for letter in name.removeprefix("void "):
        if letter in "<({":
            depth += 1
        elif letter in ">)}":
            depth = max(0, depth - 1)
        elif not depth:
            kept.append(letter)
    short = "".join(kept).strip().removesuffix("::").rpartition("::")[2].strip()
    if short in _WRAPPERS and "<" in name:
        return _FIRST_ARGUMENT.split(name.partition("<")[2], maxsplit=1)[0].rpartition("::")[2] or short
    return short or name
