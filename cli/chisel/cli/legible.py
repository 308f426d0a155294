"""Texts of others on the user's screen: names in a trace are its job's, and a terminal does what it is told.

Scripts' own output has `escapes.py`.
"""

from typing import Any, TypeVar

T = TypeVar("T")


def printable(text: str) -> str:
    """`text` in one line, with what could harm a terminal written out."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def harmless(text: str) -> str:
    """`text`, lines and all, with what could harm a terminal written out."""
    return text.translate(_HARMFUL)


def styled(text: str) -> str:
    """The same, but colours stay."""
    if "\x1b" not in text:
        return harmless(text)
    import re

    parts = re.split(r"(\x1b\[[0-9;]*m)", text)
    return "".join(part if at % 2 else harmless(part) for at, part in enumerate(parts))


def legible(found: T) -> T:
    """A report, or several, with nothing but `printable` texts in it."""
    return _legible(found)  # type: ignore[no-any-return]


def _legible(found: Any) -> Any:
    if type(found) is str:
        return printable(found)
    if type(found) in (list, tuple):
        return type(found)(map(_legible, found))
    fields = getattr(found, "__struct_fields__", None)
    if fields is None:
        return found
    # Only now: whoever has a struct has loaded it.
    from msgspec.structs import replace

    return replace(found, **{name: _legible(getattr(found, name)) for name in fields})


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()


_HARMFUL = {
    code: f"\\u{code:04x}"
    for codes in (
        range(0x20),
        range(0x7F, 0xA0),
        (0x200E, 0x200F),
        range(0x202A, 0x202F),
        range(0x2066, 0x206A),
    )
    for code in codes
    if chr(code) not in "\n\t"
}
"""Controls, and what turns the direction of the text behind it; written so that JSON stays what it is."""
