"""JSON that strict readers refuse and some writers leave: NaN, control characters, lone surrogates."""

import json
import math
import re
from typing import Any

import msgspec

DECODER = json.JSONDecoder(strict=False)
UNREADABLE = (ValueError, RecursionError)
"""What decoders raise for what they do not take."""

_UNFINISHED = re.compile(r"[-+.\w\\]*+\s*+\Z")


def decoded(data: bytes) -> Any:
    """One of `UNREADABLE` for what is no JSON even so."""
    try:
        return msgspec.json.decode(data)
    except UNREADABLE:
        return _encodable(DECODER.decode(data.decode(errors="replace")))


def _encodable(value: Any) -> Any:
    """Without lone surrogates and numbers that are none: they could not be written anywhere."""
    if isinstance(value, dict):
        return {text(key): _encodable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_encodable(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return text(value) if isinstance(value, str) else value


def encoded(value: Any) -> bytes:
    """As strict JSON."""
    return json.dumps(_encodable(value)).encode()


def ends_in(whole: str, error: Exception) -> bool:
    """Whether it was only the end of the text that kept a value from being whole."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or _UNFINISHED.match(whole, error.pos) is not None


def number(value: object, default: float) -> float:
    """Of what should be one; `default` for what is none."""
    try:
        return float(value) if isinstance(value, int | float | str) else default
    except (ValueError, OverflowError):
        return default


def text(value: object) -> str:
    """Without lone surrogates."""
    return "" if value is None else str(value).encode(errors="replace").decode()


def identity(value: object) -> int | str | None:
    return value if isinstance(value, int | None) else text(value)
