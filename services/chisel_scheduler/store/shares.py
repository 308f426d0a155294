"""What admins have set for users and projects."""

from datetime import datetime
from typing import Any

import msgspec

from chisel_scheduler.fairshare import decayed
from chisel_scheduler.rules import PolicyRules
from chisel_shared.contract.errors import NotFound
from chisel_shared.contract.messages import QuotaView, RemoveQuota, SetQuota
from chisel_shared.runtime.db import Connection, Database

_MOST_LISTED = 2_000

_LISTING = f"""
select kind, coalesce(shares.name, usage.name) as name, shares.gpus, coalesce(shares.weight, 1) as weight,
    coalesce(usage.gpus_held, 0) as gpus_held, coalesce(usage.gpu_seconds, 0) as gpu_seconds, usage.counted_at
from shares full join usage using (kind, id)
where shares.id is not null or usage.name <> ''
order by kind desc, name limit {_MOST_LISTED}
"""

_ONE = """
select kind, name, shares.gpus, shares.weight, coalesce(usage.gpus_held, 0) as gpus_held,
    coalesce(usage.gpu_seconds, 0) as gpu_seconds, usage.counted_at
from (select kind, id, name, gpus, weight from shares where kind = $1 and id = $2) shares
left join (select kind, id, gpus_held, gpu_seconds, counted_at from usage) usage using (kind, id)
"""

_ENSURE = """
insert into shares (kind, id, name) values ($1, $2, $3)
on conflict (kind, id) do update set name = excluded.name
"""

_SET_GPUS = "update shares set gpus = $3 where kind = $1 and id = $2"

_SET_WEIGHT = "update shares set weight = $3 where kind = $1 and id = $2"

_REMOVE = "delete from shares where kind = $1 and id = $2 returning id"


class Shares:
    """Each verb is one transaction."""

    def __init__(self, *, database: Database, rules: PolicyRules) -> None:
        self._database, self._rules = database, rules

    async def listing(self, *, now: datetime) -> tuple[QuotaView, ...]:
        """Users and then projects, by name."""

        async def work(c: Connection) -> tuple[QuotaView, ...]:
            return tuple(self._view(row, now) for row in await c.fetch(_LISTING))

        return await self._database.run(work)

    async def set(self, ask: SetQuota, *, now: datetime) -> QuotaView:
        async def work(c: Connection) -> QuotaView:
            await c.execute(_ENSURE, ask.kind, ask.id, ask.name)
            if ask.gpus is not msgspec.UNSET:
                await c.execute(_SET_GPUS, ask.kind, ask.id, ask.gpus)
            if ask.weight is not msgspec.UNSET:
                await c.execute(_SET_WEIGHT, ask.kind, ask.id, ask.weight)
            return self._view(await c.fetchrow(_ONE, ask.kind, ask.id), now)

        return await self._database.run(work)

    async def remove(self, ask: RemoveQuota) -> None:
        async def work(c: Connection) -> None:
            if await c.fetchrow(_REMOVE, ask.kind, ask.id) is None:
                raise NotFound(f"nothing is set for {ask.kind} {ask.name}: chisel admin quota ls")

        await self._database.run(work)

    def _view(self, row: Any, now: datetime) -> QuotaView:
        elapsed = (now - row["counted_at"]).total_seconds() if row["counted_at"] is not None else 0.0
        had = decayed(row["gpu_seconds"], elapsed, half_life_seconds=self._rules.half_life_seconds)
        return QuotaView(
            kind=row["kind"],
            name=row["name"],
            gpus=row["gpus"],
            weight=row["weight"],
            gpus_held=row["gpus_held"],
            gpu_hours=had / 3600,
        )
