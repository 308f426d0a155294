"""Identifiers: what may appear in a subject, a path or a URL, and how one is made."""

import re
from typing import NewType

JobId = NewType("JobId", str)
AgentId = NewType("AgentId", str)
SessionId = NewType("SessionId", str)
UserId = NewType("UserId", str)
ProjectId = NewType("ProjectId", str)
Digest = NewType("Digest", str)
"""A sha256 in 64 lower-case hexadecimal digits."""

# Crockford's base 32: no i, l, o, u, so an id read aloud or copied by hand stays itself.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


def new_id(length: int = 10) -> str:
    """A random id of `length` characters, 5 bits each (10 characters: one in 10^15 to meet another)."""
    import secrets  # only services make ids; loading it costs a client more than anything else here

    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def is_id(text: str) -> bool:
    """Whether `text` may stand as one token of a subject and one part of a path."""
    return _ID.fullmatch(text) is not None


LAST = ("@last", "last")
"""Stand for the newest job of whoever asks. No id begins with "last": the alphabet has no l."""


def is_job_name(text: str) -> bool:
    """Whether `text` may name a job: an id, the beginning of one, or one of `LAST`."""
    return is_id(text) or text in LAST


def is_digest(text: str) -> bool:
    """Whether `text` has the form of a sha256, the only form in which content is ever named."""
    return _DIGEST.fullmatch(text) is not None


def is_file_name(text: str) -> bool:
    """Whether `text` is a plain file name: no separator, no leading dot, nothing to escape."""
    return _FILE_NAME.fullmatch(text) is not None
