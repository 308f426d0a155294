"""Every SQL sentence about secrets. What it stores is sealed; it never sees a value."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chisel_auth.vault import Place, Sealed
from chisel_shared.contract.errors import TooLarge
from chisel_shared.contract.ids import ProjectId
from chisel_shared.contract.messages import SecretView
from chisel_shared.runtime.db import Connection, Database

MAX_SECRETS = 500
"""Of one project."""

# One at a time in a project: whoever is second must see the first one's version.
_LOCK = "select id from projects where id = $1 for update"

_VERSION = "select version from secrets where project_id = $1 and name = $2"

_COUNT = "select count(*) from secrets where project_id = $1"

_SET = """
insert into secrets (project_id, name, version, key_id, sealed, size_bytes, set_at, set_by)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (project_id, name) do update set version = $3, key_id = $4, sealed = $5, size_bytes = $6,
    set_at = $7, set_by = $8
returning *
"""

_LIST = "select * from secrets where project_id = $1 order by name"

_NAMED = "select * from secrets where project_id = $1 and name = any($2::text[])"

_REMOVE = "delete from secrets where project_id = $1 and name = $2 returning name"


@dataclass(frozen=True, slots=True)
class Kept:
    """A secret as it lies in the table."""

    place: Place
    sealed: Sealed
    size_bytes: int


class SecretsStore:
    """Secrets of projects; each verb is one transaction."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def put(
        self,
        project_id: ProjectId,
        name: str,
        seal: Callable[[Place], Sealed],
        *,
        size_bytes: int,
        by: str,
        now: datetime,
    ) -> SecretView:
        """Set `name` to what `seal` makes for its place. `TooLarge` when the project has too many."""

        async def work(c: Connection) -> SecretView:
            await c.fetchrow(_LOCK, project_id)
            version = await c.fetchval(_VERSION, project_id, name)
            if version is None and await c.fetchval(_COUNT, project_id) >= MAX_SECRETS:
                raise TooLarge(f"a project can have {MAX_SECRETS} secrets: remove one, chisel secret rm NAME")
            place = Place(project_id=project_id, name=name, version=(version or 0) + 1)
            sealed = seal(place)
            row = await c.fetchrow(
                _SET, project_id, name, place.version, sealed.key_id, sealed.data, size_bytes, now, by
            )
            return _view(row)

        return await self._database.run(work)

    async def listing(self, project_id: ProjectId) -> tuple[SecretView, ...]:
        async def work(c: Connection) -> tuple[SecretView, ...]:
            return tuple(_view(row) for row in await c.fetch(_LIST, project_id))

        return await self._database.run(work)

    async def named(self, project_id: ProjectId, names: Sequence[str]) -> dict[str, Kept]:
        """Those of `names` that the project has."""

        async def work(c: Connection) -> dict[str, Kept]:
            rows = await c.fetch(_NAMED, project_id, list(names))
            return {row["name"]: _kept(row) for row in rows}

        return await self._database.run(work)

    async def remove(self, project_id: ProjectId, name: str) -> bool:
        """Whether there was one."""

        async def work(c: Connection) -> bool:
            return await c.fetchval(_REMOVE, project_id, name) is not None

        return await self._database.run(work)


def _view(row: Any) -> SecretView:
    return SecretView(
        name=row["name"], version=row["version"], set_at=row["set_at"].timestamp(), set_by=row["set_by"]
    )


def _kept(row: Any) -> Kept:
    place = Place(project_id=row["project_id"], name=row["name"], version=row["version"])
    return Kept(place, Sealed(row["key_id"], row["sealed"]), row["size_bytes"])
