"""How often something may be tried, and what counts as one and the same who tries. Pure."""

import hashlib
import ipaddress
from typing import NamedTuple

from chisel_shared.contract.errors import TooMany


class Limit(NamedTuple):
    """At most `number` tries of one subject within `seconds` of the first."""

    number: int
    seconds: int


class Try(NamedTuple):
    """One try, as one of the subjects that it counts for."""

    subject: bytes
    limit: Limit


SIGN_IN_OF_ACCOUNT_FROM_ADDRESS = Limit(5, 60)
SIGN_IN_FROM_ADDRESS = Limit(30, 300)
SIGN_IN_OF_ACCOUNT = Limit(50, 600)
"""Wide, because it also shuts the owner out while somebody else guesses from many addresses."""
LOGIN_FROM_ADDRESS = Limit(20, 60)
CODE_OF_USER = Limit(10, 300)
INVITE_FROM_ADDRESS = Limit(20, 300)


def sign_in(name: str, address: str) -> tuple[Try, ...]:
    """The subjects of a sign-in, the narrowest first."""
    account, place = name.strip().lower(), neighbourhood(address)
    return (
        Try(_subject("sign-in", account, place), SIGN_IN_OF_ACCOUNT_FROM_ADDRESS),
        Try(_subject("sign-in-from", place), SIGN_IN_FROM_ADDRESS),
        Try(_subject("sign-in-of", account), SIGN_IN_OF_ACCOUNT),
    )


def login(address: str) -> tuple[Try, ...]:
    return (Try(_subject("login", neighbourhood(address)), LOGIN_FROM_ADDRESS),)


def invite(address: str) -> tuple[Try, ...]:
    return (Try(_subject("invite", neighbourhood(address)), INVITE_FROM_ADDRESS),)


def code(user_id: str) -> tuple[Try, ...]:
    return (Try(_subject("code", user_id), CODE_OF_USER),)


def neighbourhood(address: str) -> str:
    """Whoever has one IPv6 address has its whole /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def refuse(seconds_left: float) -> TooMany:
    """The error for a try over its limit."""
    left = max(1, round(seconds_left))
    wait = f"{left} s" if left < 120 else f"{round(left / 60)} minutes"
    return TooMany(f"too many attempts; try again in {wait}")


def _subject(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()
