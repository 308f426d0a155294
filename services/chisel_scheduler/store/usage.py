"""What users and projects hold and have had: changed where an attempt opens and where it ends."""

from datetime import datetime
from typing import Any

from chisel_scheduler.fairshare import accrued
from chisel_scheduler.rules import PolicyRules
from chisel_shared.runtime.db import Connection

# Who holds what changes under this lock. A claim takes it before it reads quotas, an end as its last. Several
# attempts of one agent may end in one transaction, in any order of users: with a lock for each row, two such
# transactions could wait for each other.
USAGE_LOCK = "pg_advisory_xact_lock(hashtextextended('chisel-usage', 0))"

HOLD = """
insert into usage as held (kind, id, name, gpus_held, counted_at)
select owner.kind, owner.id, owner.name, $6, $7::timestamptz from jobs, lateral (
    values ('user', jobs.user_id, jobs.user_name), ('project', jobs.project_id, '')
) as owner(kind, id, name)
where jobs.id = $1
on conflict (kind, id) do update set gpus_held = held.gpus_held + $6, name = excluded.name
"""
"""Counts $6 GPUs for whom an attempt of the job $1 opens at $7."""


def decayed_sql(row: str, now: str, half_life: str) -> str:
    """`gpu_seconds` of `row`, decayed up to `now`, as `fairshare.decayed` says; what is next to nothing is
    nothing, because Postgres takes an underflow for an error."""
    seconds = f"extract(epoch from {now}::timestamptz - {row}.counted_at)::float8"
    halved = f"greatest({seconds}, 0) / {half_life}::float8"
    return (
        f"case when {row}.gpu_seconds < 1e-6 or {halved} > 60 then 0"
        f" else {row}.gpu_seconds * power(0.5::float8, {halved}) end"
    )


_RELEASE = f"""
update usage set gpus_held = gpus_held - $3, gpu_seconds = {decayed_sql("usage", "$5", "$6")} + $4::float8,
    counted_at = greatest(counted_at, $5)
where (kind, id) in (('user', $1), ('project', $2))
"""


async def release(c: Connection, ended: Any, *, rules: PolicyRules, now: datetime) -> None:
    """Give back the GPUs of the attempt that `ended`, a row, and count what was had."""
    await c.execute(f"select {USAGE_LOCK}")
    half_life = rules.half_life_seconds
    seconds = (now - ended["claimed_at"]).total_seconds()
    had = accrued(ended["gpu_count"], seconds, half_life_seconds=half_life)
    owners = (ended["user_id"], ended["project_id"])
    await c.execute(_RELEASE, *owners, ended["gpu_count"], had, now, half_life)
