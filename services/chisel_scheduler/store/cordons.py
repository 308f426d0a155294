"""What operators say about agents, beside what agents say themselves: cordon, drain, uncordon, and what a
drain's deadline ends."""

from datetime import datetime, timedelta

from chisel_scheduler.store.agents import lock_agent, view_of
from chisel_scheduler.store.changes import evict
from chisel_scheduler.store.finding import find_agent
from chisel_shared.contract.ids import AgentId
from chisel_shared.contract.job import JobView
from chisel_shared.contract.messages import AgentView, CordonAgent, DrainAgent, UncordonAgent
from chisel_shared.runtime.db import Connection, Database

_CORDON = """
update agents set cordoned_at = coalesce(cordoned_at, $2), cordoned_by = $3,
    cordon_reason = case when $4 = '' then cordon_reason else $4 end, drain = $5, drain_deadline = $6
where id = $1
"""

_UNCORDON = """
update agents set cordoned_at = null, cordoned_by = '', cordon_reason = '', drain = false,
    drain_deadline = null, free_since = case when cordoned_at is null then free_since else $2 end
where id = $1
"""

_DUE = """
select id from agents where drain_deadline <= $1 and exists (
    select from attempts join jobs on jobs.id = attempts.job_id
    where attempts.agent_id = agents.id and attempts.ended_at is null and attempts.evicted_at is null
        and jobs.cancel_requested_at is null
)
"""

# What runs on an agent and nobody has asked to end.
_RUNS = """
select attempts.job_id, attempts.attempt
from jobs join attempts on attempts.job_id = jobs.id
where attempts.agent_id = $1 and attempts.ended_at is null and attempts.evicted_at is null
    and jobs.cancel_requested_at is null
order by jobs.id for update of jobs
"""


class Cordons:
    """Each wish is one transaction and answers with the agent as it is then."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def cordon(self, ask: CordonAgent, *, now: datetime) -> AgentView:
        """Close an agent; a drain of it is called off."""
        return await self._close(ask, drain=False, deadline=None, now=now)

    async def drain(self, ask: DrainAgent, *, now: datetime) -> AgentView:
        """Close an agent so that it becomes empty, by the deadline if there is one."""
        seconds = ask.deadline_seconds
        deadline = now + timedelta(seconds=seconds) if seconds is not None else None
        return await self._close(ask, drain=True, deadline=deadline, now=now)

    async def uncordon(self, ask: UncordonAgent, *, now: datetime) -> AgentView:
        """Open an agent again."""

        async def work(c: Connection) -> AgentView:
            agent_id = await find_agent(c, ask.agent)
            await c.execute(_UNCORDON, agent_id, now)
            return await view_of(c, agent_id)

        return await self._database.run(work)

    async def due(self, now: datetime) -> list[AgentId]:
        """Agents whose drain is over its deadline while something runs on them that nobody has ended."""

        async def work(c: Connection) -> list[AgentId]:
            return [row["id"] for row in await c.fetch(_DUE, now)]

        return await self._database.run(work)

    async def evict(self, agent_id: AgentId, *, now: datetime) -> list[JobView]:
        """Let what still runs on an agent end, if its drain is over its deadline. The agent hears of it with
        its next renewal at the latest."""

        async def work(c: Connection) -> list[JobView]:
            agent = await lock_agent(c, agent_id)
            deadline = agent["drain_deadline"] if agent is not None else None
            if agent is None or deadline is None or deadline > now:
                return []
            by, reason = agent["cordoned_by"], agent["cordon_reason"]
            changed = [
                await evict(c, row["job_id"], row["attempt"], by=by, reason=reason, now=now)
                for row in await c.fetch(_RUNS, agent_id)
            ]
            return [job for job in changed if job]

        return await self._database.run(work)

    async def _close(
        self, ask: CordonAgent | DrainAgent, *, drain: bool, deadline: datetime | None, now: datetime
    ) -> AgentView:
        async def work(c: Connection) -> AgentView:
            agent_id = await find_agent(c, ask.agent)
            await c.execute(_CORDON, agent_id, now, ask.requested_by, ask.reason, drain, deadline)
            return await view_of(c, agent_id)

        return await self._database.run(work)
