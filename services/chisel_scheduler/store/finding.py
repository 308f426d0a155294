"""Which job or agent a user means: the one place where a name becomes a row."""

from typing import Any

from chisel_shared.contract.errors import BadRequest, NotFound
from chisel_shared.contract.ids import LAST, AgentId, ProjectId, UserId, is_id
from chisel_shared.runtime.db import Connection

_MOST_NAMED = 5

# A range, not a pattern: it uses the primary key. '{' follows every character an id may have.
_BY_PREFIX = "select * from jobs where id >= $2 and id < $2 || '{' and project_id = $1 order by id limit $3"

_AGENTS = """
select id, name, state, id = $2 as by_id, name = $1 as by_name from agents
where id = $2 or name = $1 or ($2 <> '' and starts_with(id, $2)) order by last_seen desc
"""

_NEWEST = "select * from jobs where project_id = $1 and user_id = $2 order by seq desc limit 1"


async def find(c: Connection, project_id: ProjectId, name: str, *, asked_by: UserId) -> Any:
    """The row of the job that `name` stands for. `NotFound` when there is none in this project,
    `BadRequest` names the candidates when it is the beginning of several ids."""
    wanted = name.lower()
    if wanted in LAST:
        newest = await c.fetchrow(_NEWEST, project_id, asked_by)
        if newest is None:
            raise NotFound("you have submitted no job yet")
        return newest
    rows = await c.fetch(_BY_PREFIX, project_id, wanted, _MOST_NAMED + 1) if is_id(wanted) else []
    exact = [row for row in rows if row["id"] == wanted]
    if len(rows) == 1 or exact:
        return (exact or rows)[0]
    if not rows:
        raise NotFound(f"there is no job {name[:80]!r} in this project")
    names = ", ".join(row["id"] for row in rows[:_MOST_NAMED])
    more = ", …" if len(rows) > _MOST_NAMED else ""
    raise BadRequest(f"{name!r} is the beginning of several job ids: {names}{more}")


async def find_agent(c: Connection, name: str) -> AgentId:
    """The agent that `name` stands for: an id, else a name, else the beginning of an id. `NotFound` when
    there is none, `BadRequest` names the candidates when there are several."""
    rows = await c.fetch(_AGENTS, name, name.lower())
    by_id = [row for row in rows if row["by_id"]]
    by_name = [row for row in rows if row["by_name"]]
    found = by_id or by_name or rows
    if not found:
        raise NotFound(f"there is no agent {name[:80]!r}: chisel admin agents ls")
    if len(found) > 1:
        names = ", ".join(f"{row['id']} ({row['name']}, {row['state']})" for row in found[:_MOST_NAMED])
        more = ", …" if len(found) > _MOST_NAMED else ""
        meant = "the name of several agents" if by_name else "the beginning of several agents' ids"
        raise BadRequest(f"{name[:80]!r} is {meant}: {names}{more}")
    return AgentId(found[0]["id"])
