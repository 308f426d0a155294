"""Environment variables of a job: what a name is, and which of them are Chisel's to set. Pure."""

import re

from chisel_shared.contract.errors import BadRequest, TooLarge

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}", re.ASCII)

OWN_PREFIX = "CHISEL_"
OWN = frozenset({"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "MASTER_ADDR", "MASTER_PORT", "VIRTUAL_ENV"})
"""What the agent sets after everything else, because only it knows."""

ASKED_FOR = frozenset({"CHISEL_TRACE_STACKS"})
"""What a job is asked to do by a variable of ours: `chisel python --trace-stacks`."""

EXTENDED = frozenset({"PATH", "PYTHONPATH"})
"""A job may bring its own; the agent puts its part before it."""

MAX_ENV_BYTES = 32 * 1024
"""Of all names and values that are no secrets: they travel with the job's description."""
MAX_SECRET_BYTES = 48 * 1024
"""Of one value: it travels in one message."""
MAX_SECRETS = 64
"""Of one job."""


def is_name(text: str) -> bool:
    """Whether `text` can name a variable, and a secret."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> None:
    """`BadRequest` says why a user may not set the variable `name`."""
    if not is_name(name):
        raise BadRequest(
            f"{name[:80]!r} cannot name a variable: letters, digits and _ can, at most 200, no digit first"
        )
    if name in OWN or (name.startswith(OWN_PREFIX) and name not in ASKED_FOR):
        raise BadRequest(f"{name} is set by Chisel in every job: choose another name")


def check_secret_name(name: str) -> None:
    """`BadRequest` unless `name` could also name a variable."""
    if not is_name(name):
        raise BadRequest(
            f"{name[:80]!r} cannot name a secret: letters, digits and _ can, at most 200, no digit first"
        )


def check_secret_value(name: str, value: bytes) -> None:
    """`BadRequest` or `TooLarge` says why `value` cannot be kept as the secret `name`."""
    if not value:
        raise BadRequest(f"the value of {name} is empty, which is no secret: give it one")
    if b"\0" in value:
        raise BadRequest(f"the value of {name} has a NUL byte, which no variable can hold")
    if len(value) > MAX_SECRET_BYTES:
        raise TooLarge(f"a secret can have {MAX_SECRET_BYTES // 1024} KiB, {name} has more")


def check_secret(variable: str, secret: str) -> None:
    """`BadRequest` says why a job may not find the secret `secret` in `variable`."""
    check_name(variable)
    if variable in EXTENDED:
        raise BadRequest(f"{variable} is no place for a secret: the agent composes it and keeps it on disk")
    check_secret_name(secret)


def check_value(name: str, value: str) -> None:
    """`BadRequest` says why no process can be given `value`; which is never told, it may be secret."""
    if "\0" in value:
        raise BadRequest(f"the value of {name} has a NUL character, which no variable can hold")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"the value of {name} is not UTF-8 text") from None
