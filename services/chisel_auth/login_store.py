"""Every SQL sentence about logins of the command line, and about the keys that come of them."""

from datetime import datetime, timedelta
from typing import Any

from chisel_auth.policy import ADMIN_ACTIONS, USER_ACTIONS
from chisel_auth.tokens import Token, digest, matches
from chisel_shared.contract.errors import Conflict, NotFound, Unauthenticated
from chisel_shared.contract.messages import Identity, KeyView, LoginAnswer, PendingLogin
from chisel_shared.runtime.db import Connection, Database

BOOTSTRAP = "bootstrap"
"""The name of the key that a server begins with."""

_FORGET_OLD = "delete from logins where expires_at < $1"

_ADD = """
insert into logins (id, digest, user_code, machine, client, address, created_at, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (user_code) do nothing returning id
"""

_BY_DEVICE = """
select logins.*, users.is_admin, users.name as user_name, users.project_id, projects.name as project_name
from logins
left join users on users.id = logins.decided_by and users.disabled_at is null
left join projects on projects.id = users.project_id
where logins.id = $1 for update of logins
"""

_POLLED = "update logins set polled_at = $2 where id = $1"

_REDEEMED = "update logins set redeemed_at = $2 where id = $1"

_ADD_KEY = """
insert into api_keys (id, digest, user_id, project_id, scopes, name, created_at, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""

_BY_CODE = "select * from logins where user_code = $1 and expires_at > $2 and allowed is null for update"

_DECIDE = "update logins set allowed = $2, decided_by = $3 where id = $1"

_KEYS = """
select * from api_keys
where user_id = $1 and revoked_at is null and (expires_at is null or expires_at > $2)
order by created_at desc, id limit 200
"""

_REVOKE = """
update api_keys set revoked_at = $3 where id = $1 and user_id = $2 and revoked_at is null returning id
"""

_REVOKE_OWN = "update api_keys set revoked_at = $2 where id = $1"

_IDENTITY = """
select api_keys.*, users.name as user_name, users.is_admin, projects.name as project_name from api_keys
join users on users.id = api_keys.user_id join projects on projects.id = api_keys.project_id
where api_keys.id = $1 and api_keys.revoked_at is null and users.disabled_at is null
    and (api_keys.expires_at is null or api_keys.expires_at > $2)
"""

_EARLY = 0.7
"""A poll that comes after this part of the interval is let pass: clocks and networks jitter."""


class LoginStore:
    """Each verb is one transaction."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def begin(
        self, device: Token, user_code: str, *, machine: str, client: str, address: str,
        now: datetime, seconds: float,
    ) -> bool:  # fmt: skip
        """Whether the login was begun: not when another one shows the same code."""

        async def work(c: Connection) -> bool:
            await c.execute(_FORGET_OLD, now - timedelta(days=1))
            expires = now + timedelta(seconds=seconds)
            values = (device.id, digest(device), user_code, machine, client, address, now, expires)
            return await c.fetchrow(_ADD, *values) is not None

        return await self._database.run(work)

    async def poll(
        self, device: Token, key: Token, *, now: datetime, interval: float, key_seconds: float
    ) -> LoginAnswer:
        """How the login stands; when it was allowed, `key` becomes one, once."""

        async def work(c: Connection) -> LoginAnswer:
            row = await c.fetchrow(_BY_DEVICE, device.id)
            if row is None or not matches(device, row["digest"]) or row["redeemed_at"] is not None:
                return LoginAnswer("expired_token")
            if row["expires_at"] <= now:
                return LoginAnswer("expired_token")
            await c.execute(_POLLED, device.id, now)
            last = row["polled_at"]
            if last is not None and (now - last).total_seconds() < interval * _EARLY:
                return LoginAnswer("slow_down")
            if row["allowed"] is None:
                return LoginAnswer("authorization_pending")
            # Whoever allowed it may have been removed since.
            if not row["allowed"] or row["project_id"] is None:
                return LoginAnswer("access_denied")
            scopes = [*USER_ACTIONS, *(ADMIN_ACTIONS if row["is_admin"] else ())]
            owner = (row["decided_by"], row["project_id"])
            expires = now + timedelta(seconds=key_seconds)
            await c.execute(_ADD_KEY, key.id, digest(key), *owner, scopes, row["machine"], now, expires)
            await c.execute(_REDEEMED, device.id, now)
            return LoginAnswer("done", api_key=key.text, user=row["user_name"], project=row["project_name"])

        return await self._database.run(work)

    async def pending(self, user_code: str, *, now: datetime) -> PendingLogin | None:
        """The login that shows this code and waits."""

        async def work(c: Connection) -> PendingLogin | None:
            row = await c.fetchrow(_BY_CODE, user_code, now)
            return _pending(row, now) if row else None

        return await self._database.run(work)

    async def decide(
        self, user_code: str, user_id: str, *, allowed: bool, now: datetime
    ) -> PendingLogin | None:
        """Allow or refuse it, once; None when there is nothing to decide any more."""

        async def work(c: Connection) -> PendingLogin | None:
            row = await c.fetchrow(_BY_CODE, user_code, now)
            if row is None:
                return None
            await c.execute(_DECIDE, row["id"], allowed, user_id)
            return _pending(row, now)

        return await self._database.run(work)

    async def keys(self, user_id: str, *, now: datetime) -> tuple[KeyView, ...]:
        async def work(c: Connection) -> tuple[KeyView, ...]:
            return tuple(_key(row) for row in await c.fetch(_KEYS, user_id, now))

        return await self._database.run(work)

    async def revoke(self, key_id: str, user_id: str, *, now: datetime) -> None:
        async def work(c: Connection) -> None:
            if await c.fetchrow(_REVOKE, key_id, user_id, now) is None:
                raise NotFound("there is no such key any more")

        await self._database.run(work)

    async def identity(self, token: Token, *, now: datetime) -> Identity | None:
        """Whom the key speaks for; None when it is none or holds no longer."""

        async def work(c: Connection) -> Identity | None:
            row = await c.fetchrow(_IDENTITY, token.id, now)
            if row is None or not matches(token, row["digest"]):
                return None
            return Identity(
                user=row["user_name"],
                project=row["project_name"],
                is_admin=row["is_admin"] and set(ADMIN_ACTIONS) <= set(row["scopes"]),
                key=_key(row),
            )

        return await self._database.run(work)

    async def give_back(self, token: Token, *, now: datetime) -> None:
        """Revoke the key itself. `Conflict` for the one that the server began with."""

        async def work(c: Connection) -> None:
            row = await c.fetchrow(_IDENTITY, token.id, now)
            if row is None or not matches(token, row["digest"]):
                raise Unauthenticated
            if row["name"] == BOOTSTRAP:
                raise Conflict("this is the key that the server itself began with; it stays valid")
            await c.execute(_REVOKE_OWN, token.id, now)

        await self._database.run(work)


def _pending(row: Any, now: datetime) -> PendingLogin:
    return PendingLogin(
        user_code=row["user_code"],
        machine=row["machine"],
        client=row["client"],
        address=row["address"],
        seconds_ago=(now - row["created_at"]).total_seconds(),
    )


def _key(row: Any) -> KeyView:
    expires = row["expires_at"]
    return KeyView(
        id=row["id"],
        name=row["name"],
        created_at=row["created_at"].timestamp(),
        expires_at=expires.timestamp() if expires else None,
    )
