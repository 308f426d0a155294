"""Passwords: what may be one, and argon2id beside the event loop.

One hash takes about 20 ms of a core, and as much for a user who does not exist: the time tells nothing.
"""

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from chisel_shared.contract.errors import BadRequest, Unavailable

T = TypeVar("T")

LEAST_CHARS, MOST_CHARS = 10, 200
_THREADS = 2
_MOST_WAITING = 64
"""More than a second of hashing ahead: whoever comes now is better told to come back."""


def checked(password: str, *, name: str) -> str:
    """`password` if it may be one; `BadRequest` says why not."""
    if len(password) < LEAST_CHARS:
        raise BadRequest(f"a password needs at least {LEAST_CHARS} characters")
    if len(password) > MOST_CHARS:
        raise BadRequest(f"a password may have at most {MOST_CHARS} characters")
    if name and name.lower() in password.lower() and len(password) < len(name) + LEAST_CHARS:
        raise BadRequest("the password is little more than the name")
    if len(set(password)) < 4:
        raise BadRequest("the password repeats itself too much")
    return password


class Passwords:
    """Hashes and verifies, a few at a time."""

    def __init__(self) -> None:
        # OWASP's figures for argon2id; memory in KiB.
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2")
        self._waiting = 0
        self._nobodys = self._hasher.hash(secrets.token_hex(16))

    async def hash(self, password: str) -> str:
        return await self._run(self._hasher.hash, _normal(password))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether `stored` is this password's; as slow when nothing is stored."""
        matches = await self._run(self._matches, stored or self._nobodys, _normal(password[:MOST_CHARS]))
        return matches and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether it was hashed with other figures than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[..., T], *arguments: str) -> T:
        if self._waiting >= _MOST_WAITING:
            raise Unavailable("too many people are signing in right now; try again in a few seconds")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self._waiting -= 1


def _normal(password: str) -> str:
    """One form for what keyboards encode differently."""
    return unicodedata.normalize("NFKC", password)
