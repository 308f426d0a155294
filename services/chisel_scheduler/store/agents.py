"""Agents: who is there, who was, and how much room each has."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from chisel_scheduler.explain import Place, agent_state
from chisel_shared.contract.errors import Stale
from chisel_shared.contract.ids import AgentId, SessionId
from chisel_shared.contract.messages import AgentView, Cordon, Hello, Renew
from chisel_shared.runtime.db import Connection, Database

_MOST_LISTED = 1_000
_KEEP_SESSIONS = timedelta(days=1)
"""Far longer than any message may be under way."""

_HELLO = """
insert into agents (id, session, name, pool, gpu_model, gpus_total, free_since, state, last_seen)
values ($1, $2, $3, $4, $5, $6, $7, 'online', $7)
on conflict (id) do update set session = $2, name = $3, pool = $4, gpu_model = $5, gpus_total = $6,
    free_since = case when agents.session = $2 then agents.free_since else $7 end,
    state = 'online', draining = false, last_seen = greatest(agents.last_seen, $7)
"""

_SEEN = """
update agents set last_seen = greatest(last_seen, $3), state = 'online', draining = coalesce($4, draining)
where id = $1 and session = $2
returning *
"""

_QUARANTINE = """
update agents set gpus_quarantined = $2, quarantine = $3,
    free_since = case when $2 < gpus_quarantined then $4 else free_since end
where id = $1
"""

# The one that could start the job soonest: large enough and taking jobs, then large enough; then one with
# room that is kept for no other job, then the emptiest.
_BEST = """
select * from agents where pool = $1 and gpu_model = $2
order by (gpus_total >= $3 and takes_jobs) desc, gpus_total >= $3 desc,
    (gpus_free >= $3 and id <> all($4::text[])) desc, gpus_free desc, last_seen desc
limit 1
"""

# The largest of each model is all a sentence needs.
_PLACES = """
select distinct on (gpu_model) * from agents where pool = $1 order by gpu_model, gpus_total desc
"""

_LISTING = """
select agents.*, (
    select count(*)::int from attempts where agent_id = agents.id and ended_at is null
) as jobs
from agents
"""

_UNREACHABLE = """
update agents set state = 'unreachable' where state = 'online' and last_seen < $1
"""

# One that drained and then fell silent was stopped on purpose.
_OFFLINE = """
update agents set state = 'offline'
where state = 'unreachable' and (last_seen < $1 or (draining and gpus_held = 0))
"""

# A machine that is away for repair for longer still comes back cordoned.
_FORGET = "delete from agents where last_seen < $1 and gpus_held = 0 and cordoned_at is null"

_SILENT_WITH_JOBS = """
select distinct agents.id from agents
join attempts on attempts.agent_id = agents.id and attempts.ended_at is null
join jobs on jobs.id = attempts.job_id and not jobs.unreachable
where agents.state <> 'online'
"""


async def lock_agent(c: Connection, agent_id: AgentId) -> Any | None:
    """The agent's row, locked until the transaction ends; None when nobody knows it."""
    return await c.fetchrow("select * from agents where id = $1 for update", agent_id)


async def seen(
    c: Connection, agent_id: AgentId, session: SessionId, *, now: datetime, draining: bool | None = None
) -> Any:
    """Note a word from the agent and lock its row. `Stale` unless the session is its newest."""
    row = await c.fetchrow(_SEEN, agent_id, session, now, draining)
    if row is None:
        raise Stale("this session is not the agent's newest: say hello again")
    return row


async def open_session(c: Connection, hello: Hello, *, now: datetime) -> None:
    """Make the session of `hello` the agent's newest and lock its row. `Stale` for an old one."""
    row = await lock_agent(c, hello.agent_id)
    if row is None or row["session"] != hello.session:
        fresh = await c.fetchval(
            "insert into sessions (agent_id, session, started_at) values ($1, $2, $3)"
            " on conflict do nothing returning true",
            hello.agent_id,
            hello.session,
            now,
        )
        if not fresh:
            raise Stale("a newer session of this agent has begun")
        await c.execute(
            "delete from sessions where agent_id = $1 and started_at < $2",
            hello.agent_id,
            now - _KEEP_SESSIONS,
        )
    await c.execute(
        _HELLO,
        hello.agent_id,
        hello.session,
        hello.name,
        hello.pool,
        hello.gpu_model,
        hello.gpus_total,
        now,
    )


async def note_quarantine(c: Connection, row: Any, ask: Renew, *, now: datetime) -> bool:
    """Keep what the agent of `row`, which is locked, says about its quarantined GPUs; whether it is new."""
    told = (min(max(ask.gpus_quarantined, 0), row["gpus_total"]), ask.quarantine)
    if told == (row["gpus_quarantined"], row["quarantine"]):
        return False
    await c.execute(_QUARANTINE, row["id"], *told, now)
    return True


async def view_of(c: Connection, agent_id: AgentId) -> AgentView:
    """A known agent as users see it."""
    return _view(await c.fetchrow(f"{_LISTING} where id = $1", agent_id))


async def best_place(
    c: Connection, pool: str, gpu_model: str, gpu_count: int, *, kept: Sequence[AgentId] = ()
) -> tuple[AgentId, Place] | None:
    """The agent of that model nearest to starting a job of that size, if possible none of `kept`; None when
    there is none at all."""
    row = await c.fetchrow(_BEST, pool, gpu_model, gpu_count, list(kept))
    return (row["id"], _place(row)) if row else None


async def names(c: Connection, agents: Sequence[AgentId]) -> dict[AgentId, str]:
    """What these are called."""
    rows = await c.fetch("select id, name from agents where id = any($1::text[])", list(agents))
    return {row["id"]: row["name"] for row in rows}


async def places(c: Connection, pool: str) -> Sequence[Place]:
    """The largest agent of each model."""
    return [_place(row) for row in await c.fetch(_PLACES, pool)]


class Agents:
    """Agents as a whole, each question in one transaction."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def listing(self) -> tuple[AgentView, ...]:
        """Every known agent by name."""

        async def work(c: Connection) -> tuple[AgentView, ...]:
            rows = await c.fetch(f"{_LISTING} order by name, id limit $1", _MOST_LISTED)
            return tuple(_view(row) for row in rows)

        return await self._database.run(work)

    async def session_of(self, agent_id: AgentId) -> SessionId | None:
        """The newest session of an agent; None when nobody knows it."""

        async def work(c: Connection) -> SessionId | None:
            return await c.fetchval("select session from agents where id = $1", agent_id)  # type: ignore[no-any-return]

        return await self._database.run(work)

    async def note_silence(
        self, *, unreachable_before: datetime, offline_before: datetime, forget_before: datetime
    ) -> None:
        """Let agents not heard of since then change their state."""

        async def work(c: Connection) -> None:
            await c.execute(_FORGET, forget_before)
            await c.execute(_UNREACHABLE, unreachable_before)
            await c.execute(_OFFLINE, offline_before)

        await self._database.run(work)

    async def silent_with_jobs(self) -> list[AgentId]:
        """Agents out of contact that hold jobs whose owners have not been told."""

        async def work(c: Connection) -> list[AgentId]:
            return [row["id"] for row in await c.fetch(_SILENT_WITH_JOBS)]

        return await self._database.run(work)


def _state(row: Any) -> str:
    return agent_state(
        row["state"],
        stopping=row["draining"],
        cordoned=row["cordoned_at"] is not None,
        drain=row["drain"],
        gpus_held=row["gpus_held"],
    )


def _place(row: Any) -> Place:
    return Place(
        name=row["name"],
        gpu_model=row["gpu_model"],
        gpus_total=row["gpus_total"],
        gpus_free=row["gpus_free"],
        state=_state(row),
        gpus_quarantined=row["gpus_quarantined"],
        by=row["cordoned_by"],
        reason=row["cordon_reason"],
    )


def _view(row: Any) -> AgentView:
    return AgentView(
        id=row["id"],
        name=row["name"],
        pool=row["pool"],
        gpu_model=row["gpu_model"],
        gpus_total=row["gpus_total"],
        gpus_free=row["gpus_free"],
        state=_state(row),
        last_seen=row["last_seen"].timestamp(),
        jobs=row["jobs"],
        gpus_quarantined=row["gpus_quarantined"],
        quarantine=row["quarantine"],
        cordon=_cordon(row) if row["cordoned_at"] is not None else None,
    )


def _cordon(row: Any) -> Cordon:
    deadline = row["drain_deadline"]
    return Cordon(
        by=row["cordoned_by"],
        since=row["cordoned_at"].timestamp(),
        reason=row["cordon_reason"],
        drain=row["drain"],
        deadline=deadline.timestamp() if deadline is not None else None,
    )
