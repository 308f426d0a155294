"""Logins of the command line, in the form of RFC 8628: a command shows a code, a person who is signed in
allows it, the command gets a key. And the keys that come of it: listed, named, given back."""

import secrets
from collections.abc import Callable
from datetime import datetime

from chisel_auth import throttle, tokens
from chisel_auth.account_desk import AccountDesk
from chisel_auth.account_store import AccountStore
from chisel_auth.login_store import LoginStore
from chisel_shared.contract.errors import NotFound, Unauthenticated, Unavailable
from chisel_shared.contract.messages import (
    ApiKeys,
    BeginLogin,
    DecideLogin,
    Done,
    GetIdentity,
    GetLogin,
    Identity,
    ListKeys,
    LoginAnswer,
    LoginBegun,
    PendingLogin,
    PollLogin,
    RevokeKey,
    RevokeOwnKey,
)
from chisel_shared.runtime.bus import Bus, Subscription
from chisel_shared.runtime.logs import Log

log = Log("chisel.auth.logins")

LOGIN_SECONDS = 600
POLL_SECONDS = 2
# No vowels, so that no code is a word, and nothing that is read as something else: 35 bits, of which
# a person may guess ten in five minutes.
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_HALF = 4
_MOST_CHARS = 64


class LoginDesk:
    """Answers about logins and the keys they made."""

    def __init__(
        self, *, store: LoginStore, accounts: AccountStore, people: AccountDesk, key_days: int,
        clock: Callable[[], datetime],
    ) -> None:  # fmt: skip
        self._store = store
        self._accounts = accounts
        self._people = people
        self._key_seconds = key_days * 86_400
        self._clock = clock

    async def serve(self, bus: Bus) -> list[Subscription]:
        return [
            await bus.serve(BeginLogin, self.on_begin),
            await bus.serve(PollLogin, self.on_poll),
            await bus.serve(GetLogin, self.on_pending),
            await bus.serve(DecideLogin, self.on_decide),
            await bus.serve(ListKeys, self.on_keys),
            await bus.serve(RevokeKey, self.on_revoke),
            await bus.serve(GetIdentity, self.on_identity),
            await bus.serve(RevokeOwnKey, self.on_give_back),
        ]

    async def on_begin(self, ask: BeginLogin) -> LoginBegun:
        now = self._clock()
        await self._accounts.count(throttle.login(ask.address), now=now)
        machine, client = _shown(ask.machine) or "a machine without a name", _shown(ask.client)
        for _ in range(5):
            device, user_code = tokens.make(tokens.Kind.DEVICE), _new_code()
            if await self._store.begin(
                device,
                user_code,
                machine=machine,
                client=client,
                address=ask.address,
                now=now,
                seconds=LOGIN_SECONDS,
            ):
                return LoginBegun(device.text, user_code, LOGIN_SECONDS, POLL_SECONDS)
        raise Unavailable

    async def on_poll(self, ask: PollLogin) -> LoginAnswer:
        device = tokens.parse(ask.device_code)
        if device is None or device.kind is not tokens.Kind.DEVICE:
            return LoginAnswer("expired_token")
        key = tokens.make(tokens.Kind.USER)
        answer = await self._store.poll(
            device, key, now=self._clock(), interval=POLL_SECONDS, key_seconds=self._key_seconds
        )
        if answer.status == "done":
            log.info("key_made", key_id=key.id, user=answer.user)
        return answer

    async def on_pending(self, ask: GetLogin) -> PendingLogin:
        person, now = await self._people.whose(ask.session), self._clock()
        tries = throttle.code(person.id)
        await self._accounts.count(tries, now=now)
        found = await self._store.pending(_normal(ask.user_code), now=now)
        if found is None:
            raise _no_such_code(ask.user_code)
        await self._accounts.forget(tries[0])
        return found

    async def on_decide(self, ask: DecideLogin) -> PendingLogin:
        person, now = await self._people.whose(ask.session), self._clock()
        await self._accounts.count(throttle.code(person.id), now=now)
        found = await self._store.decide(_normal(ask.user_code), person.id, allowed=ask.allowed, now=now)
        if found is None:
            raise _no_such_code(ask.user_code)
        log.info("login_decided", user=person.name, machine=found.machine, allowed=ask.allowed)
        return found

    async def on_keys(self, ask: ListKeys) -> ApiKeys:
        person = await self._people.whose(ask.session)
        return ApiKeys(keys=await self._store.keys(person.id, now=self._clock()))

    async def on_revoke(self, ask: RevokeKey) -> Done:
        person = await self._people.whose(ask.session)
        await self._store.revoke(ask.key_id, person.id, now=self._clock())
        log.info("key_revoked", key_id=ask.key_id, user=person.name)
        return Done()

    async def on_identity(self, ask: GetIdentity) -> Identity:
        token = tokens.parse(ask.token)
        found = None
        if token is not None and token.kind is tokens.Kind.USER:
            found = await self._store.identity(token, now=self._clock())
        if found is None:
            raise Unauthenticated
        return found

    async def on_give_back(self, ask: RevokeOwnKey) -> Done:
        token = tokens.parse(ask.token)
        if token is None or token.kind is not tokens.Kind.USER:
            raise Unauthenticated
        await self._store.give_back(token, now=self._clock())
        log.info("key_given_back", key_id=token.id)
        return Done()


def _new_code() -> str:
    letters = "".join(secrets.choice(_LETTERS) for _ in range(2 * _HALF))
    return f"{letters[:_HALF]}-{letters[_HALF:]}"


def _normal(text: str) -> str:
    """A code as it is stored, however it was typed."""
    letters = "".join(letter for letter in text.upper() if letter.isalnum())[: 2 * _HALF + 1]
    return f"{letters[:_HALF]}-{letters[_HALF:]}"


def _no_such_code(text: str) -> NotFound:
    return NotFound(
        f"no login waits with the code {_shown(text)[:12]}: it may have expired or been used;"
        " run `chisel login` again"
    )


def _shown(text: str) -> str:
    """What a stranger calls itself, fit to be shown to a person."""
    return "".join(c for c in text if c.isprintable()).strip()[:_MOST_CHARS]
