"""Admins' wishes about quotas and weights: checked, stored, logged, and said to the pool."""

from collections.abc import Callable
from datetime import datetime

from chisel_scheduler import validation
from chisel_scheduler.store.shares import Shares
from chisel_shared.contract.messages import Done, ListQuotas, Quotas, QuotaView, RemoveQuota, SetQuota, Wake
from chisel_shared.runtime.bus import Bus, Subscription
from chisel_shared.runtime.logs import Log

log = Log("chisel.scheduler.quotas")


class QuotaDesk:
    """`pool` is woken by every change: what waited for a quota may start."""

    def __init__(self, *, shares: Shares, bus: Bus, pool: str, clock: Callable[[], datetime]) -> None:
        self._shares, self._bus, self._pool, self._clock = shares, bus, pool, clock

    async def serve(self) -> list[Subscription]:
        return [
            await self._bus.serve(ListQuotas, self.on_list),
            await self._bus.serve(SetQuota, self.on_set),
            await self._bus.serve(RemoveQuota, self.on_remove),
        ]

    async def on_list(self, ask: ListQuotas) -> Quotas:
        return Quotas(quotas=await self._shares.listing(now=self._clock()))

    async def on_set(self, ask: SetQuota) -> QuotaView:
        validation.check_quota(ask)
        view = await self._shares.set(ask, now=self._clock())
        log.info("quota_set", kind=ask.kind, name=ask.name, gpus=view.gpus, weight=view.weight, by=ask.set_by)
        await self._bus.publish(Wake(pool=self._pool))
        return view

    async def on_remove(self, ask: RemoveQuota) -> Done:
        await self._shares.remove(ask)
        log.info("quota_removed", kind=ask.kind, name=ask.name, by=ask.removed_by)
        await self._bus.publish(Wake(pool=self._pool))
        return Done()
