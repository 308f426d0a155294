"""What the text of an option means. Each reader returns the value or raises `UsageError` with a sentence
that names what would do."""

from chisel_shared.contract.gpus import counts

ON_INTERRUPT = ("ask", "cancel", "detach")

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class UsageError(Exception):
    """The command line makes no sense; the message says why and what would."""


def gpu(text: str) -> int:
    """The number of GPUs `text` asks for; the error names those a job can have."""
    if text.isascii() and text.isdecimal() and int(text) in counts():
        return int(text)
    *most, last = (str(count) for count in counts())
    raise UsageError(f"a job can have {', '.join(most)} or {last} GPUs, not {text}")


def duration(text: str) -> float:
    """Seconds of `1h30m`, `90m`, `45s`, `1d`, `01:30:00` or plain seconds."""
    seconds = _clock(text) if ":" in text else _units(text)
    if not seconds:
        raise UsageError(f"{text!r} is not a duration: write it like 1h30m, 45s or 01:30:00")
    return float(seconds)


def _clock(text: str) -> int:
    """Seconds of `HH:MM:SS`; 0 for anything else."""
    parts = text.split(":")
    if len(parts) != 3 or not all(_is_number(part) and len(part) >= 2 for part in parts):
        return 0
    hours, minutes, seconds = map(int, parts)
    return hours * 3_600 + minutes * 60 + seconds if minutes < 60 and seconds < 60 else 0


def _units(text: str) -> int:
    """Seconds of `1d2h3m4s`, larger units first, each once; 0 for anything else."""
    if _is_number(text):
        return int(text)
    total, rest = 0, text
    for unit, seconds in _UNITS.items():
        number, found, behind = rest.partition(unit)
        if found:
            if not _is_number(number):
                return 0
            total, rest = total + int(number) * seconds, behind
    return 0 if rest else total


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def count(text: str) -> int:
    """A whole number, 0 or more."""
    if text.isascii() and text.isdecimal():
        return int(text)
    raise UsageError(f"a whole number is expected, not {text}")


def integer(text: str) -> int:
    """A whole number, which may be negative."""
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdecimal():
        return int(text)
    raise UsageError(f"a whole number is expected, not {text}")


def on_interrupt(text: str) -> str:
    if text in ON_INTERRUPT:
        return text
    raise UsageError(
        f"an interrupt can mean {', '.join(ON_INTERRUPT[:-1])} or {ON_INTERRUPT[-1]}, not {text}"
    )


def switch(text: str) -> bool:
    """What a switch says that is not on the command line."""
    lowered = text.lower()
    if lowered in _TRUE or lowered in _FALSE:
        return lowered in _TRUE
    raise UsageError(f"true or false is expected, not {text}")


def is_text(word: str) -> bool:
    """Whether a word of a command line is UTF-8, or has bytes that are none."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def text(text: str) -> str:
    if is_text(text):
        return text
    raise UsageError(f"{text!r} is not UTF-8 text")


def cause(text: str) -> str:
    """What lets a job run again; the error names those there are."""
    from chisel_shared.contract.errors import BadRequest
    from chisel_shared.contract.retries import check_cause

    try:
        return check_cause(text)
    except BadRequest as error:
        raise UsageError(str(error)) from error


READERS = {
    "cause": cause,
    "count": count,
    "duration": duration,
    "gpu": gpu,
    "integer": integer,
    "on_interrupt": on_interrupt,
    "text": text,
}
"""By the `kind` of an option in the table."""
