"""Every SQL sentence of auth."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chisel_auth.policy import ADMIN_ACTIONS, AGENT_ACTIONS, BROWSER_ACTIONS, USER_ACTIONS
from chisel_auth.tokens import Kind, Token, digest, matches
from chisel_shared.contract.ids import AgentId, new_id
from chisel_shared.contract.messages import Principal
from chisel_shared.runtime.db import Connection, Database

_USER_KEY = """
select api_keys.digest, api_keys.project_id, api_keys.scopes, users.id, users.name, users.is_admin
from api_keys join users on users.id = api_keys.user_id
where api_keys.id = $1 and api_keys.revoked_at is null and users.disabled_at is null
    and (api_keys.expires_at is null or api_keys.expires_at > $2)
"""

_BROWSER = """
select sign_ins.digest, users.project_id, users.id, users.name from sign_ins
join users on users.id = sign_ins.user_id
where sign_ins.id = $1 and sign_ins.expires_at > $2 and users.disabled_at is null
"""

_AGENT_KEY = "select digest, id, name from agents where key_id = $1 and revoked_at is null"

_JOIN_TOKEN = """
select digest, pool from join_tokens
where id = $1 and revoked_at is null and (expires_at is null or expires_at > $2)
"""

_ADD_AGENT = """
insert into agents (id, name, pool, key_id, digest, joined_with) values ($1, $2, $3, $4, $5, $6)
"""

_ADD_KEY = """
insert into api_keys (id, digest, user_id, project_id, scopes, name) values ($1, $2, $3, $4, $5, $6)
on conflict (id) do nothing
"""

_ADD_JOIN_TOKEN = """
insert into join_tokens (id, digest, pool) values ($1, $2, $3) on conflict (id) do nothing
"""

# The update changes nothing; it makes the row of an earlier or parallel start come back.
_ENSURE_USER = """
insert into users (id, name) values ($1, $2) on conflict (name) do update set name = excluded.name
returning id
"""

_ENSURE_PROJECT = """
insert into projects (id, name) values ($1, $2) on conflict (name) do update set name = excluded.name
returning id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """What a valid join token gives."""

    token_id: str
    pool: str


class Keys:
    """Users' keys, agents' keys and join tokens; each verb is one transaction."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def principal(self, token: Token, *, now: datetime) -> Principal | None:
        """Whoever holds `token` now; None when it is unknown, expired, revoked or no key."""

        async def work(c: Connection) -> Principal | None:
            match token.kind:
                case Kind.USER:
                    return _user(token, await c.fetchrow(_USER_KEY, token.id, now))
                case Kind.SIGN_IN:
                    return _browser(token, await c.fetchrow(_BROWSER, token.id, now))
                case Kind.AGENT:
                    return _agent(token, await c.fetchrow(_AGENT_KEY, token.id))
                case _:
                    return None

        return await self._database.run(work)

    async def joining(self, token: Token, *, now: datetime) -> Joining | None:
        """What `token` lets an agent join; None when it lets it join nothing."""

        async def work(c: Connection) -> Joining | None:
            row = await c.fetchrow(_JOIN_TOKEN, token.id, now)
            if token.kind is not Kind.JOIN or row is None or not matches(token, row["digest"]):
                return None
            return Joining(token_id=token.id, pool=row["pool"])

        return await self._database.run(work)

    async def add_agent(self, name: str, key: Token, joining: Joining) -> AgentId:
        """A new agent with `key`, and its id."""

        async def work(c: Connection) -> AgentId:
            agent_id = AgentId(new_id())
            await c.execute(_ADD_AGENT, agent_id, name, joining.pool, key.id, digest(key), joining.token_id)
            return agent_id

        return await self._database.run(work)

    async def ensure_user_key(self, token: Token, *, user: str, project: str) -> None:
        """Let `token` be a key of `user` in `project`, both made if absent. A revoked key stays so."""

        async def work(c: Connection) -> None:
            user_id = await c.fetchval(_ENSURE_USER, new_id(), user)
            project_id = await c.fetchval(_ENSURE_PROJECT, new_id(), project)
            await c.execute(
                _ADD_KEY, token.id, digest(token), user_id, project_id, list(USER_ACTIONS), "bootstrap"
            )

        await self._database.run(work)

    async def ensure_join_token(self, token: Token, *, pool: str) -> None:
        """Let agents join `pool` with `token`. A revoked one stays so."""

        async def work(c: Connection) -> None:
            await c.execute(_ADD_JOIN_TOKEN, token.id, digest(token), pool)

        await self._database.run(work)


def _user(token: Token, row: Any | None) -> Principal | None:
    if row is None or not matches(token, row["digest"]):
        return None
    return Principal(
        kind="user",
        id=row["id"],
        name=row["name"],
        project_id=row["project_id"],
        scopes=tuple(scope for scope in row["scopes"] if row["is_admin"] or scope not in ADMIN_ACTIONS),
    )


def _browser(token: Token, row: Any | None) -> Principal | None:
    if row is None or not matches(token, row["digest"]):
        return None
    who = {"id": row["id"], "name": row["name"], "project_id": row["project_id"]}
    return Principal(kind="user", **who, scopes=BROWSER_ACTIONS)


def _agent(token: Token, row: Any | None) -> Principal | None:
    if row is None or not matches(token, row["digest"]):
        return None
    return Principal(kind="agent", id=row["id"], name=row["name"], scopes=AGENT_ACTIONS)
