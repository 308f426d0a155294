"""Auth as a service: two questions, and two secrets that a single machine needs to begin with."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chisel_auth import policy, tokens
from chisel_auth.account_desk import AccountDesk
from chisel_auth.account_store import AccountStore
from chisel_auth.login_desk import LoginDesk
from chisel_auth.login_store import LoginStore
from chisel_auth.passwords import Passwords
from chisel_auth.secret_desk import SecretDesk
from chisel_auth.settings import AuthSettings
from chisel_auth.store import Keys
from chisel_auth.token_file import ensure
from chisel_shared.contract.errors import BadRequest, Unauthenticated, Unavailable
from chisel_shared.contract.messages import AgentCredentials, Authorize, JoinAgent, Principal
from chisel_shared.runtime.bus import Bus, NatsBus
from chisel_shared.runtime.db import Database, open_database
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.service import Service, serve

log = Log("chisel.auth")

LOCAL_USER, LOCAL_PROJECT = "local", "default"
_MAX_AGENT_NAME_CHARS = 64
_RETRY_SECONDS = 0.2

Clock = Callable[[], datetime]


class Auth(Service):
    """Says who a token is and whether it may; lets agents join."""

    def __init__(
        self, *, settings: AuthSettings, bus: Bus, keys: Keys, secrets: SecretDesk, people: AccountDesk,
        logins: LoginDesk, clock: Clock,
    ) -> None:  # fmt: skip
        self._settings, self._bus, self._keys, self._clock = settings, bus, keys, clock
        self._secrets, self._people, self._logins = secrets, people, logins
        self._subscriptions: list[Any] = []

    async def run(self, ready: asyncio.Event) -> None:
        await self._bootstrap()
        self._subscriptions = [
            await self._bus.serve(Authorize, self.on_authorize),
            await self._bus.serve(JoinAgent, self.on_join),
            *await self._secrets.serve(self._bus),
            *await self._people.serve(self._bus),
            *await self._logins.serve(self._bus),
        ]
        await self._until_answered(self._bus.flush)
        ready.set()
        await asyncio.Event().wait()

    async def drain(self) -> None:
        """Leave the groups, so that other replicas answer; a request cut off here is repeated."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()

    async def on_authorize(self, ask: Authorize) -> Principal:
        token = tokens.parse(ask.token)
        principal = await self._keys.principal(token, now=self._clock()) if token else None
        if principal is None:
            raise Unauthenticated
        policy.authorize(principal, ask.action)
        return principal

    async def on_join(self, ask: JoinAgent) -> AgentCredentials:
        token = tokens.parse(ask.token)
        joining = await self._keys.joining(token, now=self._clock()) if token else None
        if joining is None:
            raise Unauthenticated
        if not ask.name or len(ask.name) > _MAX_AGENT_NAME_CHARS or not ask.name.isprintable():
            raise BadRequest(f"an agent's name must be 1 to {_MAX_AGENT_NAME_CHARS} printable characters")
        key = tokens.make(tokens.Kind.AGENT)
        agent_id = await self._keys.add_agent(ask.name, key, joining)
        log.info("agent_joined", agent_id=agent_id, name=ask.name, pool=joining.pool)
        return AgentCredentials(
            agent_id=agent_id,
            key=key.text,
            nats_url=self._settings.agent_nats_url or self._settings.nats_url,
            nats_user=self._settings.agent_nats_user,
            nats_password=self._settings.agent_nats_password,
            pool=joining.pool,
        )

    async def _bootstrap(self) -> None:
        """Make or adopt the secrets a single machine begins with; files first, so that a crash in
        between leaves a file that the next start adopts."""
        settings = self._settings
        if settings.bootstrap_key_file is not None:
            key = await asyncio.to_thread(ensure, settings.bootstrap_key_file, tokens.Kind.USER)
            await self._until_answered(
                lambda: self._keys.ensure_user_key(key, user=LOCAL_USER, project=LOCAL_PROJECT)
            )
        if settings.join_token_file is not None:
            join = await asyncio.to_thread(ensure, settings.join_token_file, tokens.Kind.JOIN)
            await self._until_answered(lambda: self._keys.ensure_join_token(join, pool=settings.agent_pool))
        await self._until_answered(self._people.bootstrap)

    async def _until_answered(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Repeat `ask` while the other side is away: starting must survive what running survives."""
        while True:
            try:
                await ask()
                return
            except Unavailable as error:
                log.warning("not_ready", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)


async def build(settings: AuthSettings, stack: AsyncExitStack) -> Auth:
    """Every part, by name and in order."""
    bus = await stack.enter_async_context(
        NatsBus.connect(
            settings.nats_url, name="auth", user=settings.nats_user, password=settings.nats_password
        )
    )
    database = await stack.enter_async_context(
        open_database(
            settings.database_url,
            connections=settings.database_connections,
            schema="auth",
            migrations=Path(__file__).parent / "sql",
        )
    )

    return assemble(settings=settings, bus=bus, database=database, clock=lambda: datetime.now(UTC))


def assemble(*, settings: AuthSettings, bus: Bus, database: Database, clock: Clock) -> Auth:
    """The service on what it stands on."""
    accounts = AccountStore(database=database)
    people = AccountDesk(
        store=accounts,
        passwords=Passwords(),
        admin_token_file=settings.admin_token_file,
        project=LOCAL_PROJECT,
        clock=clock,
    )
    return Auth(
        settings=settings,
        bus=bus,
        keys=Keys(database=database),
        secrets=SecretDesk(database=database, key_file=settings.secrets_key_file, clock=clock),
        people=people,
        logins=LoginDesk(
            store=LoginStore(database=database),
            accounts=accounts,
            people=people,
            key_days=settings.login_key_days,
            clock=clock,
        ),
        clock=clock,
    )


def main() -> None:
    """Be auth until told to stop."""
    serve("auth", AuthSettings, build)
