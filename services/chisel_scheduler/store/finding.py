"""Which job a user means: the one place where a name becomes a row."""

from typing import Any

from chisel_shared.contract.errors import BadRequest, NotFound
from chisel_shared.contract.ids import LAST, ProjectId, UserId, is_id
from chisel_shared.runtime.db import Connection

_MOST_NAMED = 5

# A range, not a pattern: it uses the primary key. '{' follows every character an id may have.
_BY_PREFIX = "select * from jobs where id >= $2 and id < $2 || '{' and project_id = $1 order by id limit $3"

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
