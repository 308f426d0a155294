"""Secrets of projects: set, listed, removed, and opened for the agent that holds a job which wants them."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from chisel_auth.secrets_store import Kept, SecretsStore
from chisel_auth.vault import Vault, vault_of
from chisel_shared.contract.errors import Conflict, NotFound, TooLarge
from chisel_shared.contract.messages import (
    Done,
    ListSecrets,
    OpenedSecrets,
    OpenSecrets,
    RemoveSecret,
    RequireSecrets,
    Secrets,
    SecretView,
    SetSecret,
)
from chisel_shared.contract.variables import check_secret_name, check_secret_value
from chisel_shared.runtime.bus import Bus, Subscription
from chisel_shared.runtime.db import Database
from chisel_shared.runtime.logs import Log

log = Log("chisel.auth.secrets")

MAX_JOB_BYTES = 128 * 1024
"""Of all secrets of one job: what travels to its process in one piece."""


class SecretDesk:
    """Answers about secrets. Values are in memory while they are handled, on disk only sealed."""

    def __init__(self, *, database: Database, key_file: Path | None, clock: Callable[[], datetime]) -> None:
        self._store = SecretsStore(database=database)
        self._key_file = key_file
        self._clock = clock
        self._vault: Vault | None = None

    async def serve(self, bus: Bus) -> list[Subscription]:
        return [
            await bus.serve(SetSecret, self.on_set),
            await bus.serve(ListSecrets, self.on_list),
            await bus.serve(RemoveSecret, self.on_remove),
            await bus.serve(RequireSecrets, self.on_require),
            await bus.serve(OpenSecrets, self.on_open),
        ]

    async def on_set(self, ask: SetSecret) -> SecretView:
        check_secret_name(ask.name)
        check_secret_value(ask.name, ask.value)
        vault = await self._open_vault()
        view = await self._store.put(
            ask.project_id,
            ask.name,
            lambda place: vault.seal(ask.value, place),
            size_bytes=len(ask.value),
            by=ask.set_by,
            now=self._clock(),
        )
        log.info("secret_set", project_id=ask.project_id, name=ask.name, version=view.version, by=ask.set_by)
        return view

    async def on_list(self, ask: ListSecrets) -> Secrets:
        return Secrets(secrets=await self._store.listing(ask.project_id))

    async def on_remove(self, ask: RemoveSecret) -> Done:
        if not await self._store.remove(ask.project_id, ask.name):
            raise NotFound(f"there is no secret {ask.name[:80]} in this project: chisel secret ls")
        log.info("secret_removed", project_id=ask.project_id, name=ask.name)
        return Done()

    async def on_require(self, ask: RequireSecrets) -> Done:
        found = await self._store.named(ask.project_id, ask.names)
        _check_all_there(ask.names, found)
        if sum(kept.size_bytes for kept in found.values()) > MAX_JOB_BYTES:
            raise TooLarge(f"the secrets of one job can have {MAX_JOB_BYTES // 1024} KiB together")
        return Done()

    async def on_open(self, ask: OpenSecrets) -> OpenedSecrets:
        found = await self._store.named(ask.project_id, ask.names)
        _check_all_there(ask.names, found)
        vault = await self._open_vault()
        return OpenedSecrets(
            values={name: vault.open(kept.sealed, kept.place) for name, kept in found.items()}
        )

    async def _open_vault(self) -> Vault:
        if self._key_file is None:
            raise Conflict("this backend keeps no secrets: its operator can set CHISEL_AUTH_SECRETS_KEY_FILE")
        if self._vault is None:
            self._vault = await asyncio.to_thread(vault_of, self._key_file)
        return self._vault


def _check_all_there(names: Iterable[str], found: dict[str, Kept]) -> None:
    missing = sorted(set(names) - found.keys())
    if missing:
        first = missing[0][:80]
        what = f"secret {first}" if len(missing) == 1 else f"secrets {', '.join(missing)[:300]}"
        raise NotFound(f"this project has no {what}: chisel secret set {first}")
