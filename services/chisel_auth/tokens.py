"""Tokens: `chsl_<kind>_<12 characters of id><32 random characters><6 of checksum>`. Pure.

The prefix lets scanners find a leaked one, the checksum lets anybody tell a mistyped one without
asking, and the id finds its row. The random part has 190 bits, so a plain SHA-256 of the whole is all
that is stored: a slow hash protects what people choose, not this.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from enum import StrEnum

from chisel_shared.contract.ids import new_id


class Kind(StrEnum):
    USER = "usr"
    """An API key of a user in a project."""
    AGENT = "agt"
    """The key of one agent."""
    JOIN = "join"
    """What an agent shows once to become one."""
    INVITE = "inv"
    """What a person shows once to get an account."""
    SIGN_IN = "web"
    """A browser's session."""
    DEVICE = "dev"
    """What a command shows while it waits for a person to allow its login."""


_ID_CHARS = 12
_SECRET_CHARS = 32
_CHECKSUM_CHARS = 6
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_FORM = re.compile(
    rf"chsl_(?P<kind>{'|'.join(Kind)})_(?P<id>[0-9a-z]{{{_ID_CHARS}}})"
    rf"[0-9A-Za-z]{{{_SECRET_CHARS},96}}(?P<checksum>[0-9A-Za-z]{{{_CHECKSUM_CHARS}}})"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A well-formed token. Only `text` is secret; it stays out of every repr."""

    kind: Kind
    id: str
    text: str = field(repr=False)


def make(kind: Kind) -> Token:
    """A new token nobody else has."""
    token_id = new_id(_ID_CHARS)
    body = f"chsl_{kind}_{token_id}" + "".join(secrets.choice(_BASE62) for _ in range(_SECRET_CHARS))
    return Token(kind, token_id, body + checksum(body))


def parse(text: str) -> Token | None:
    """The token `text` is, or None when it cannot be one: no database need be asked."""
    found = _FORM.fullmatch(text)
    if found is None or checksum(text[:-_CHECKSUM_CHARS]) != found["checksum"]:
        return None
    return Token(Kind(found["kind"]), found["id"], text)


def checksum(body: str) -> str:
    """CRC-32 of everything before it, in base 62."""
    number = zlib.crc32(body.encode())
    digits = ""
    for _ in range(_CHECKSUM_CHARS):
        number, digit = divmod(number, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits


def digest(token: Token) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(token.text.encode()).digest()


def matches(token: Token, stored: bytes) -> bool:
    """Whether `stored` is this token's digest, in a time that tells nothing."""
    return hmac.compare_digest(digest(token), stored)
