"""Every SQL sentence about accounts, invitations, browsers' sessions and how often something was tried."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chisel_auth.throttle import Try, refuse
from chisel_auth.tokens import Token, digest, matches
from chisel_shared.contract.errors import Conflict, NotFound
from chisel_shared.contract.ids import new_id
from chisel_shared.contract.messages import Owner, UserView
from chisel_shared.runtime.db import Connection, Database

_TRY = """
insert into attempts as a (subject, began_at, number) values ($1, $2, 1)
on conflict (subject) do update set
    number = case when a.began_at > $3 then a.number + 1 else 1 end,
    began_at = case when a.began_at > $3 then a.began_at else $2 end
returning number, began_at
"""

_FORGET_TRY = "delete from attempts where subject = $1"

_FORGET_OLD_TRIES = "delete from attempts where began_at < $1"

_ACCOUNT = "select id, name, password, is_admin from users where name = $1 and disabled_at is null"

_SET_PASSWORD = "update users set password = $2 where id = $1"

_ADD_SIGN_IN = "insert into sign_ins (id, digest, user_id, expires_at) values ($1, $2, $3, $4)"

_FORGET_OLD_SIGN_INS = "delete from sign_ins where expires_at < $1"

_SIGN_IN = """
select sign_ins.digest, users.id, users.name, users.is_admin from sign_ins
join users on users.id = sign_ins.user_id
where sign_ins.id = $1 and sign_ins.expires_at > $2 and users.disabled_at is null
"""

_END_SIGN_IN = "delete from sign_ins where id = $1"

_INVITE = """
select * from invites where id = $1 and used_at is null and (expires_at is null or expires_at > $2)
"""

_ADD_INVITE = """
insert into invites (id, digest, name, is_admin, project_id, created_at, expires_at)
values ($1, $2, $3, $4, $5, $6, $7) on conflict (id) do nothing
"""

_USE_INVITE = "update invites set used_at = $2 where id = $1 and used_at is null returning id"

_WITHDRAW_INVITES = "update invites set used_at = $2 where name = $1 and used_at is null returning id"

# The account of somebody who was removed and invited again keeps its id, and with it its jobs.
_OPEN_ACCOUNT = """
insert into users (id, name, password, is_admin, project_id) values ($1, $2, $3, $4, $5)
on conflict (name) do update set password = $3, is_admin = $4, project_id = $5, disabled_at = null
where users.disabled_at is not null
returning id
"""

# One change of who is an admin at a time: two that remove each other must not both succeed.
_LOCK_ADMINS = "select id from users where is_admin and disabled_at is null order by id for update"

_HAS_ADMIN = """
select exists (
    select from users where is_admin and password is not null and disabled_at is null
) as found
"""

_USER_OF = "select id, name from users where name = $1"

_PROJECT_OF = "select id, name from projects where name = $1"

_DISABLE = "update users set disabled_at = $2 where name = $1 and disabled_at is null returning id, is_admin"

_REVOKE_KEYS = "update api_keys set revoked_at = $2 where user_id = $1 and revoked_at is null"

_END_SIGN_INS = "delete from sign_ins where user_id = $1"

_PROJECT = """
insert into projects (id, name) values ($1, $2) on conflict (name) do update set name = excluded.name
returning id
"""

_HOME = """
select projects.name from users join projects on projects.id = users.project_id where users.name = $1
"""

_USERS = """
select users.name, projects.name as project, users.is_admin,
    (
        select count(*) from api_keys
        where user_id = users.id and revoked_at is null and (expires_at is null or expires_at > $1)
    ) as keys
from users left join projects on projects.id = users.project_id
where users.disabled_at is null order by users.name
"""

_OPEN_INVITES = """
select distinct on (invites.name) invites.name, projects.name as project, invites.is_admin from invites
join projects on projects.id = invites.project_id
where invites.name is not null and used_at is null and expires_at > $1
order by invites.name, invites.created_at desc
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Somebody who may sign in. `password` is a hash, None when there is none to match."""

    id: str
    name: str
    is_admin: bool
    password: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """What an open invitation gives. Without a name the invited chooses."""

    id: str
    name: str | None
    is_admin: bool
    project_id: str


class AccountStore:
    """Each verb is one transaction."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def count(self, tries: Iterable[Try], *, now: datetime) -> None:
        """Count one try for each subject; `TooMany` when one of them is over its limit. Counted before
        the try is made, so that a thousand at once are a thousand."""

        async def work(c: Connection) -> float:
            longest = 0.0
            for one in tries:
                window = timedelta(seconds=one.limit.seconds)
                row = await c.fetchrow(_TRY, one.subject, now, now - window)
                if row["number"] > one.limit.number:
                    longest = max(longest, (row["began_at"] + window - now).total_seconds())
            await c.execute(_FORGET_OLD_TRIES, now - timedelta(days=1))
            return longest

        wait = await self._database.run(work)
        if wait:
            raise refuse(wait)

    async def forget(self, one: Try) -> None:
        """The try succeeded: those before it were slips of the keyboard."""

        async def work(c: Connection) -> None:
            await c.execute(_FORGET_TRY, one.subject)

        await self._database.run(work)

    async def account(self, name: str) -> Account | None:
        async def work(c: Connection) -> Account | None:
            row = await c.fetchrow(_ACCOUNT, name)
            return _account(row, password=row["password"]) if row else None

        return await self._database.run(work)

    async def set_password(self, user_id: str, hashed: str) -> None:
        async def work(c: Connection) -> None:
            await c.execute(_SET_PASSWORD, user_id, hashed)

        await self._database.run(work)

    async def add_sign_in(self, session: Token, user_id: str, *, now: datetime, seconds: float) -> None:
        async def work(c: Connection) -> None:
            expires = now + timedelta(seconds=seconds)
            await c.execute(_FORGET_OLD_SIGN_INS, now)
            await c.execute(_ADD_SIGN_IN, session.id, digest(session), user_id, expires)

        await self._database.run(work)

    async def signed_in(self, session: Token, *, now: datetime) -> Account | None:
        """Whose session it is; None when it is over."""

        async def work(c: Connection) -> Account | None:
            row = await c.fetchrow(_SIGN_IN, session.id, now)
            return _account(row) if row and matches(session, row["digest"]) else None

        return await self._database.run(work)

    async def end_sign_in(self, session: Token, *, now: datetime) -> None:
        async def work(c: Connection) -> None:
            row = await c.fetchrow(_SIGN_IN, session.id, now)
            if row and matches(session, row["digest"]):
                await c.execute(_END_SIGN_IN, session.id)

        await self._database.run(work)

    async def has_admin(self) -> bool:
        """Whether anybody could sign in and invite others."""

        async def work(c: Connection) -> bool:
            return bool((await c.fetchrow(_HAS_ADMIN))["found"])

        return await self._database.run(work)

    async def ensure_first_invite(self, token: Token, *, project: str, now: datetime) -> None:
        """Let the bearer of `token` become the first admin. A used one stays so."""

        async def work(c: Connection) -> None:
            project_id = await c.fetchval(_PROJECT, new_id(), project)
            await c.execute(_ADD_INVITE, token.id, digest(token), None, True, project_id, now, None)

        await self._database.run(work)

    async def invite(
        self, token: Token, *, name: str, project: str, is_admin: bool, by: str, now: datetime, seconds: float
    ) -> None:
        """Invite `name`; earlier invitations of the same name hold no longer."""

        async def work(c: Connection) -> None:
            if await c.fetchrow(_ACCOUNT, name):
                raise Conflict(
                    f"there is an account {name} already; for a new password: chisel admin users rm {name},"
                    " then add it again, which keeps its jobs"
                )
            wanted = project or await c.fetchval(_HOME, by)
            project_id = await c.fetchval(_PROJECT, new_id(), wanted)
            await c.execute(_WITHDRAW_INVITES, name, now)
            expires = now + timedelta(seconds=seconds)
            await c.execute(_ADD_INVITE, token.id, digest(token), name, is_admin, project_id, now, expires)

        await self._database.run(work)

    async def invitation(self, token: Token, *, now: datetime) -> Invite | None:
        async def work(c: Connection) -> Invite | None:
            row = await c.fetchrow(_INVITE, token.id, now)
            if row is None or not matches(token, row["digest"]):
                return None
            return Invite(
                id=row["id"], name=row["name"], is_admin=row["is_admin"], project_id=row["project_id"]
            )

        return await self._database.run(work)

    async def accept(self, invite: Invite, name: str, hashed: str, *, now: datetime) -> Account:
        """The new account. `NotFound` when somebody else used the invitation meanwhile, `Conflict` when
        the name is taken: then it holds still."""

        async def work(c: Connection) -> Account:
            if await c.fetchrow(_USE_INVITE, invite.id, now) is None:
                raise NotFound("this invitation has been used already")
            values = (new_id(), name, hashed, invite.is_admin, invite.project_id)
            row = await c.fetchrow(_OPEN_ACCOUNT, *values)
            if row is None:
                raise Conflict(f"the name {name} is taken: choose another")
            return Account(id=row["id"], name=name, is_admin=invite.is_admin)

        return await self._database.run(work)

    async def users(self, *, now: datetime) -> tuple[UserView, ...]:
        async def work(c: Connection) -> tuple[UserView, ...]:
            active = [
                UserView(
                    name=row["name"],
                    project=row["project"] or "",
                    is_admin=row["is_admin"],
                    state="active",
                    keys=row["keys"],
                )
                for row in await c.fetch(_USERS, now)
            ]
            invited = [
                UserView(name=row["name"], project=row["project"], is_admin=row["is_admin"], state="invited")
                for row in await c.fetch(_OPEN_INVITES, now)
            ]
            return (*active, *invited)

        return await self._database.run(work)

    async def owner(self, name: str, *, is_project: bool) -> Owner | None:
        """The user or project of this name; None when there is none."""

        async def work(c: Connection) -> Owner | None:
            row = await c.fetchrow(_PROJECT_OF if is_project else _USER_OF, name)
            return Owner(id=row["id"], name=row["name"]) if row else None

        return await self._database.run(work)

    async def remove(self, name: str, *, now: datetime) -> None:
        """End an account or an invitation. `NotFound`, or `Conflict` for the last admin."""

        async def work(c: Connection) -> None:
            admins = await c.fetch(_LOCK_ADMINS)
            row = await c.fetchrow(_DISABLE, name, now)
            if row is None:
                if not await c.fetch(_WITHDRAW_INVITES, name, now):
                    raise NotFound(f"there is no account {name[:40]}: chisel admin users ls")
                return
            if row["is_admin"] and len(admins) == 1:
                raise Conflict(f"{name} is the only admin: add another one first")
            await c.execute(_REVOKE_KEYS, row["id"], now)
            await c.execute(_END_SIGN_INS, row["id"])

        await self._database.run(work)


def _account(row: Any, *, password: str | None = None) -> Account:
    return Account(id=row["id"], name=row["name"], is_admin=row["is_admin"], password=password)
