"""Operators' wishes about agents: checked, stored, logged, and said to the pool."""

from collections.abc import Callable
from datetime import datetime

from chisel_scheduler import validation
from chisel_scheduler.store.cordons import Cordons
from chisel_shared.contract.messages import AgentView, CordonAgent, DrainAgent, UncordonAgent, Wake
from chisel_shared.runtime.bus import Bus, Subscription
from chisel_shared.runtime.logs import Log

log = Log("chisel.scheduler.cordons")


class CordonDesk:
    def __init__(self, *, cordons: Cordons, bus: Bus, clock: Callable[[], datetime]) -> None:
        self._cordons, self._bus, self._clock = cordons, bus, clock

    async def serve(self) -> list[Subscription]:
        return [
            await self._bus.serve(CordonAgent, self.on_cordon),
            await self._bus.serve(DrainAgent, self.on_drain),
            await self._bus.serve(UncordonAgent, self.on_uncordon),
        ]

    async def on_cordon(self, ask: CordonAgent) -> AgentView:
        validation.check_reason(ask.reason)
        agent = await self._cordons.cordon(ask, now=self._clock())
        log.info("agent_cordoned", agent_id=agent.id, name=agent.name, by=ask.requested_by, reason=ask.reason)
        return agent

    async def on_drain(self, ask: DrainAgent) -> AgentView:
        validation.check_drain(ask)
        agent = await self._cordons.drain(ask, now=self._clock())
        log.info(
            "agent_drained",
            agent_id=agent.id,
            name=agent.name,
            by=ask.requested_by,
            reason=ask.reason,
            jobs=agent.jobs,
            deadline_seconds=ask.deadline_seconds,
        )
        return agent

    async def on_uncordon(self, ask: UncordonAgent) -> AgentView:
        agent = await self._cordons.uncordon(ask, now=self._clock())
        log.info("agent_uncordoned", agent_id=agent.id, name=agent.name, by=ask.requested_by)
        await self._bus.publish(Wake(pool=agent.pool))
        return agent
