"""The outbox: what is still to be said to the bus, in the order it became true."""

from collections.abc import Callable, Sequence
from typing import Any

from chisel_scheduler.store.changes import CHANNEL
from chisel_shared.runtime.db import Connection

_RELAY_LOCK = 0x43_48_53_4C
"""Any number that nothing else in the database locks; "CHSL"."""


async def become_relay(c: Connection) -> bool:
    """Whether this session is now the only one that empties the outbox; it stays so until it ends."""
    return bool(await c.fetchval("select pg_try_advisory_lock($1)", _RELAY_LOCK))


async def listen(c: Connection, on_row: Callable[[], None]) -> None:
    """Call `on_row` whenever a transaction that wrote to the outbox has committed, and when the session
    is lost, so that its end is not found out by waiting."""

    def heard(*_: object) -> None:
        on_row()

    c.add_termination_listener(heard)
    await c.add_listener(CHANNEL, heard)


async def oldest(c: Connection, limit: int) -> Sequence[Any]:
    """The first rows. Deleting is what moves on: a cursor would skip an id that commits late."""
    rows: Sequence[Any] = await c.fetch(
        "select id, subject, message_id, body from outbox order by id limit $1", limit
    )
    return rows


async def delete(c: Connection, ids: Sequence[int]) -> None:
    await c.execute("delete from outbox where id = any($1::bigint[])", list(ids))
