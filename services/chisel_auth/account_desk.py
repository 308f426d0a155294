"""People: how they get an account, sign in on the page, and are removed."""

import asyncio
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from chisel_auth import throttle, tokens
from chisel_auth.account_store import Account, AccountStore
from chisel_auth.passwords import Passwords, checked
from chisel_auth.token_file import ensure
from chisel_shared.contract.errors import BadRequest, NotFound, Unauthenticated
from chisel_shared.contract.messages import (
    AcceptInvite,
    Done,
    FindOwner,
    GetInvite,
    GetSignIn,
    Invited,
    InviteUser,
    InviteView,
    ListUsers,
    Owner,
    RemoveUser,
    SignedIn,
    SignIn,
    SignOut,
    Users,
)
from chisel_shared.runtime.bus import Bus, Subscription
from chisel_shared.runtime.logs import Log

log = Log("chisel.auth.accounts")

SIGN_IN_SECONDS = 12 * 3600
INVITE_SECONDS = 3 * 24 * 3600
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?")
_MOST_NAME_CHARS = 32
_WRONG = "name and password do not match"
_NO_INVITE = "this invitation is not valid: it was used, has expired or was withdrawn"


class AccountDesk:
    """Answers about people. `admin_token_file` holds the first admin's invitation until there is one."""

    def __init__(
        self, *, store: AccountStore, passwords: Passwords, admin_token_file: Path | None, project: str,
        clock: Callable[[], datetime],
    ) -> None:  # fmt: skip
        self._store = store
        self._passwords = passwords
        self._admin_token_file = admin_token_file
        self._project = project
        self._clock = clock

    async def serve(self, bus: Bus) -> list[Subscription]:
        return [
            await bus.serve(SignIn, self.on_sign_in),
            await bus.serve(GetSignIn, self.on_signed_in),
            await bus.serve(SignOut, self.on_sign_out),
            await bus.serve(GetInvite, self.on_get_invite),
            await bus.serve(AcceptInvite, self.on_accept),
            await bus.serve(ListUsers, self.on_list),
            await bus.serve(InviteUser, self.on_invite),
            await bus.serve(RemoveUser, self.on_remove),
            await bus.serve(FindOwner, self.on_find_owner),
        ]

    async def bootstrap(self) -> None:
        """While nobody could sign in, a file holds the token with which the first admin can."""
        file = self._admin_token_file
        if file is None:
            return
        if await self._store.has_admin():
            await asyncio.to_thread(file.unlink, missing_ok=True)
            return
        token = await asyncio.to_thread(ensure, file, tokens.Kind.INVITE)
        await self._store.ensure_first_invite(token, project=self._project, now=self._clock())

    async def on_sign_in(self, ask: SignIn) -> SignedIn:
        now, name = self._clock(), ask.name.strip().lower()
        tries = throttle.sign_in(name, ask.address)
        await self._store.count(tries, now=now)
        account = await self._store.account(name) if len(name) <= _MOST_NAME_CHARS else None
        stored = account.password if account else None
        if not await self._passwords.verify(ask.password, stored) or account is None or stored is None:
            log.warning("sign_in_refused", address=ask.address)
            raise Unauthenticated(_WRONG)
        await self._store.forget(tries[0])
        if self._passwords.is_outdated(stored):
            await self._store.set_password(account.id, await self._passwords.hash(ask.password))
        return await self._signed_in(account, address=ask.address)

    async def on_signed_in(self, ask: GetSignIn) -> SignedIn:
        account = await self.whose(ask.session)
        return SignedIn(session="", user=account.name, is_admin=account.is_admin)

    async def on_sign_out(self, ask: SignOut) -> Done:
        session = tokens.parse(ask.session)
        if session is not None and session.kind is tokens.Kind.SIGN_IN:
            await self._store.end_sign_in(session, now=self._clock())
        return Done()

    async def on_get_invite(self, ask: GetInvite) -> InviteView:
        now, token = self._clock(), tokens.parse(ask.token)
        invite = await self._store.invitation(token, now=now) if token else None
        if invite is None:
            await self._store.count(throttle.invite(ask.address), now=now)
            raise NotFound(_NO_INVITE)
        return InviteView(name=invite.name or "", is_admin=invite.is_admin)

    async def on_accept(self, ask: AcceptInvite) -> SignedIn:
        now, token = self._clock(), tokens.parse(ask.token)
        invite = await self._store.invitation(token, now=now) if token else None
        if invite is None:
            await self._store.count(throttle.invite(ask.address), now=now)
            raise NotFound(_NO_INVITE)
        name = invite.name or _checked_name(ask.name)
        hashed = await self._passwords.hash(checked(ask.password, name=name))
        account = await self._store.accept(invite, name, hashed, now=now)
        log.info("account_opened", user=name, is_admin=account.is_admin, address=ask.address)
        if account.is_admin and self._admin_token_file is not None:
            await asyncio.to_thread(self._admin_token_file.unlink, missing_ok=True)
        return await self._signed_in(account, address=ask.address)

    async def on_list(self, ask: ListUsers) -> Users:
        return Users(users=await self._store.users(now=self._clock()))

    async def on_invite(self, ask: InviteUser) -> Invited:
        name, token = _checked_name(ask.name), tokens.make(tokens.Kind.INVITE)
        if ask.project:
            _checked_name(ask.project, what="project")
        await self._store.invite(
            token,
            name=name,
            project=ask.project,
            is_admin=ask.is_admin,
            by=ask.invited_by,
            now=self._clock(),
            seconds=INVITE_SECONDS,
        )
        log.info("user_invited", user=name, is_admin=ask.is_admin, by=ask.invited_by)
        return Invited(token=token.text, name=name, expires_in_seconds=INVITE_SECONDS)

    async def on_remove(self, ask: RemoveUser) -> Done:
        await self._store.remove(ask.name, now=self._clock())
        log.info("user_removed", user=ask.name, by=ask.removed_by)
        return Done()

    async def on_find_owner(self, ask: FindOwner) -> Owner:
        found = await self._store.owner(ask.name.strip().lower(), is_project=ask.is_project)
        if found is None:
            what = "project" if ask.is_project else "account"
            raise NotFound(f"there is no {what} {ask.name[:40]}: chisel admin users ls")
        return found

    async def whose(self, session: str) -> Account:
        """Who is signed in with this session; `Unauthenticated` when nobody is."""
        token = tokens.parse(session)
        account = None
        if token is not None and token.kind is tokens.Kind.SIGN_IN:
            account = await self._store.signed_in(token, now=self._clock())
        if account is None:
            raise Unauthenticated("nobody is signed in here any more: sign in again")
        return account

    async def _signed_in(self, account: Account, *, address: str) -> SignedIn:
        session = tokens.make(tokens.Kind.SIGN_IN)
        await self._store.add_sign_in(session, account.id, now=self._clock(), seconds=SIGN_IN_SECONDS)
        log.info("signed_in", user=account.name, address=address)
        return SignedIn(session=session.text, user=account.name, is_admin=account.is_admin)


def _checked_name(text: str, *, what: str = "name") -> str:
    name = text.strip().lower()
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"a {what} has 1 to {_MOST_NAME_CHARS} small letters, digits, dots, dashes or underscores,"
            " and begins and ends with a letter or digit"
        )
    return name
