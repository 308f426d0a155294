"""Connecting to a host of several addresses: the first that answers wins, and none holds up the others.

After RFC 8305: the families take turns, and an address that has not answered for a moment gets a rival.
"""

import errno
import os
import selectors
import socket
import time
from itertools import chain, zip_longest
from typing import Any

_HEAD_START_SECONDS = 0.25
_UNDER_WAY = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EWOULDBLOCK))


def first(found: "list[Any]", *, seconds: float) -> socket.socket:
    """A socket to the first of these addresses that answers; the first error when none does."""
    deadline = time.monotonic() + seconds
    waiting, errors = _in_turn(found), list[OSError]()
    with selectors.DefaultSelector() as selector:
        try:
            rival_at = 0.0
            while waiting or selector.get_map():
                now = time.monotonic()
                if now >= deadline:
                    break
                if waiting and (now >= rival_at or not selector.get_map()):
                    try:
                        selector.register(_begun(waiting.pop(0)), selectors.EVENT_WRITE)
                    except OSError as error:
                        errors.append(error)
                        continue
                    rival_at = now + _HEAD_START_SECONDS
                until = min(deadline, rival_at) if waiting else deadline
                for key, _ in selector.select(max(0.0, until - now)):
                    rival_at = 0.0
                    assert isinstance(key.fileobj, socket.socket)
                    selector.unregister(key.fileobj)
                    number = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not number:
                        key.fileobj.settimeout(seconds)
                        return key.fileobj
                    key.fileobj.close()
                    errors.append(OSError(number, os.strerror(number)))
            raise errors[0] if errors else TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        finally:
            for key in list(selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()


def _in_turn(found: "list[Any]") -> "list[Any]":
    """The same addresses, the two families taking turns; the system's first stays first."""
    families = dict.fromkeys(one[0] for one in found)
    columns = ([one for one in found if one[0] == family] for family in families)
    return [one for one in chain(*zip_longest(*columns)) if one is not None]


def _begun(one: Any) -> socket.socket:
    """A socket that is being connected."""
    family, kind, protocol, _, there = one
    begun = socket.socket(family, kind, protocol)
    try:
        begun.setblocking(False)
        number = begun.connect_ex(there)
        if number not in _UNDER_WAY:
            raise OSError(number, os.strerror(number))
    except BaseException:
        begun.close()
        raise
    return begun
