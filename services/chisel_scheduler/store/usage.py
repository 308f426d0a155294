"""What users and projects hold and have had: changed where an attempt opens and where it ends."""

from datetime import datetime
from typing import Any

from chisel_scheduler.fairshare import accrued, decayed
from chisel_scheduler.rules import PolicyRules
from chisel_shared.runtime.db import Connection

# Taken last and held to the end of the transaction. Several attempts of one agent may end in one, in any
# order of users: with a lock for each row, two such transactions could wait for each other.
_LOCK = "select pg_advisory_xact_lock(hashtextextended('chisel-usage', 0))"

_HOLD = """
insert into usage as held (kind, id, name, gpus_held, counted_at)
values ('user', $1, $5, $3, $4), ('project', $2, '', $3, $4)
on conflict (kind, id) do update set gpus_held = held.gpus_held + $3, name = excluded.name
returning gpus_held > (select gpus from shares where (kind, id) = (held.kind, held.id)) as over
"""

_USED = """
select kind, id, gpu_seconds, counted_at from usage where (kind, id) in (('user', $1), ('project', $2))
"""

_RELEASE = """
update usage set gpus_held = gpus_held - $3, gpu_seconds = $4, counted_at = greatest(counted_at, $5)
where kind = $1 and id = $2
"""


class Exceeded(Exception):
    """A quota would be exceeded that was not when the choice was made: another pool was faster."""


async def hold(c: Connection, opened: Any, gpus: int, *, now: datetime) -> None:
    """Count GPUs for whom an attempt of the job of `opened`, a row, opens. `Exceeded` when that is more
    than they may have; the transaction must not be committed then."""
    owners = (opened["user_id"], opened["project_id"])
    await c.execute(_LOCK)
    if any(row["over"] for row in await c.fetch(_HOLD, *owners, gpus, now, opened["user_name"])):
        raise Exceeded


async def release(c: Connection, ended: Any, *, rules: PolicyRules, now: datetime) -> None:
    """Give back the GPUs of the attempt that `ended`, a row, and count what was had."""
    await c.execute(_LOCK)
    half_life = rules.half_life_seconds
    seconds = (now - ended["claimed_at"]).total_seconds()
    had = accrued(ended["gpu_count"], seconds, half_life_seconds=half_life)
    for row in await c.fetch(_USED, ended["user_id"], ended["project_id"]):
        elapsed = (now - row["counted_at"]).total_seconds()
        before = decayed(row["gpu_seconds"], elapsed, half_life_seconds=half_life)
        await c.execute(_RELEASE, row["kind"], row["id"], ended["gpu_count"], before + had, now)
