"""How a message is declared: the class is the subject, the payload and the reply type.

A `{token}` of a subject is a field of the class, checked at import, so publisher and subscriber cannot
disagree and nobody types a subject. What is said lies in `messages/`.
"""

import re
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar, get_args

import msgspec

_TOKEN = re.compile(r"\{(\w+)\}")

MESSAGES: dict[str, type["Message"]] = {}
"""Every message by its subject template, for the reference page and the routing test."""


class Message(msgspec.Struct, frozen=True):
    """Said to whoever listens; `SUBJECT` is its template."""

    SUBJECT: ClassVar[str] = ""

    def subject(self) -> str:
        """The concrete subject of this message."""
        return _TOKEN.sub(lambda m: str(getattr(self, m[1])), self.SUBJECT)


R = TypeVar("R")


class Request(Message, Generic[R], frozen=True):
    """Asked of one member of a group, which answers with an `R` or an error of the one tree."""


class Done(msgspec.Struct, frozen=True):
    """The answer of a request that has nothing to tell but that it is committed."""


M = TypeVar("M", bound=Message)


def said_on(template: str) -> Callable[[type[M]], type[M]]:
    """Class decorator: gives a message its subject; a token that is no field is refused at import."""

    def bind(cls: type[M]) -> type[M]:
        for token in _TOKEN.findall(template):
            if token not in cls.__struct_fields__:
                raise TypeError(f"{cls.__name__} has no field {token!r} for its subject {template!r}")
        if template in MESSAGES:
            raise TypeError(f"{template!r} belongs to {MESSAGES[template].__name__}")
        cls.SUBJECT = template
        MESSAGES[template] = cls
        return cls

    return bind


def pattern(cls: type[Message], **bound: str) -> str:
    """The subject to subscribe to: unbound tokens become `*`."""
    return _TOKEN.sub(lambda m: bound.get(m[1], "*"), cls.SUBJECT)


def tokens(cls: type[Message], subject: str) -> dict[str, str]:
    """The values a concrete `subject` gives to the tokens of `cls`."""
    parts = zip(cls.SUBJECT.split("."), subject.split("."), strict=True)
    return {part[1:-1]: value for part, value in parts if part.startswith("{")}


def reply_type(cls: type[Request[R]]) -> type[R]:
    """The type of the answer to `cls`."""
    for base in cls.__orig_bases__:  # type: ignore[attr-defined]
        for arg in get_args(base):
            return arg  # type: ignore[no-any-return]
    raise TypeError(f"{cls.__name__} does not say what it is answered with")
