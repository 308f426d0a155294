"""Secrets as the gateway asks for them: a real bus, a real database."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from chisel_auth.settings import AuthSettings
from chisel_shared.contract.errors import BadRequest, Conflict, NotFound, TooLarge
from chisel_shared.contract.ids import ProjectId
from chisel_shared.contract.messages import (
    Authorize,
    Done,
    ListSecrets,
    OpenSecrets,
    RemoveSecret,
    Request,
    RequireSecrets,
    SecretView,
    SetSecret,
)
from chisel_shared.contract.variables import MAX_SECRET_BYTES
from chisel_shared.runtime.bus import NatsBus
from tests.auth.test_service import execute, running, secret, settings

__all__ = ["settings"]

VALUE = b"canary \xff\n=\xc3\xa9"


async def project_of(bus: NatsBus, auth: AuthSettings) -> ProjectId:
    caller = await bus.request(Authorize(token=secret(auth.bootstrap_key_file), action="secrets:write"))
    assert caller.project_id is not None
    return caller.project_id


async def put(bus: NatsBus, project: ProjectId, name: str, value: bytes = VALUE) -> SecretView:
    return await bus.request(SetSecret(project_id=project, set_by="ada", name=name, value=value))


async def opened(bus: NatsBus, project: ProjectId, *names: str) -> dict[str, bytes]:
    return (await bus.request(OpenSecrets(project_id=project, names=names))).values


async def names_of(bus: NatsBus, project: ProjectId) -> list[tuple[str, int]]:
    found = (await bus.request(ListSecrets(project_id=project))).secrets
    return [(view.name, view.version) for view in found]


@pytest.fixture
def keeping(settings: AuthSettings, tmp_path: Path) -> AuthSettings:
    return settings.model_copy(update={"secrets_key_file": tmp_path / "secrets-key"})


async def test_a_secret_is_kept_rotated_and_removed(
    keeping: AuthSettings, bus: NatsBus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(keeping):
        project = await project_of(bus, keeping)
        view = await put(bus, project, "TOKEN")
        assert (view.name, view.version, view.set_by) == ("TOKEN", 1, "ada")
        assert await opened(bus, project, "TOKEN") == {"TOKEN": VALUE}
        assert (await put(bus, project, "TOKEN", b"canary 2")).version == 2
        await put(bus, project, "A")
        assert await names_of(bus, project) == [("A", 1), ("TOKEN", 2)]
    async with running(keeping):  # the key outlives the process
        assert await opened(bus, project, "TOKEN", "A") == {"TOKEN": b"canary 2", "A": VALUE}
        assert await bus.request(RemoveSecret(project_id=project, name="TOKEN")) == Done()
        with pytest.raises(NotFound):
            await bus.request(RemoveSecret(project_id=project, name="TOKEN"))
        with pytest.raises(NotFound, match="TOKEN"):
            await opened(bus, project, "A", "TOKEN")
    rows = await execute(keeping, "select * from secrets")
    assert "canary" not in repr([tuple(row) for row in rows])
    assert "canary" not in "".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)


async def test_another_project_has_its_own(keeping: AuthSettings, bus: NatsBus) -> None:
    async with running(keeping):
        project, other = await project_of(bus, keeping), ProjectId("other")
        await execute(keeping, "insert into projects (id, name) values ('other', 'other')")
        await put(bus, project, "TOKEN")
        asked: list[Request[Any]] = [
            RequireSecrets(project_id=other, names=("TOKEN",)),
            OpenSecrets(project_id=other, names=("TOKEN",)),
            RemoveSecret(project_id=other, name="TOKEN"),
        ]
        for ask in asked:
            with pytest.raises(NotFound):
                await bus.request(ask)
        assert await names_of(bus, other) == []
        await put(bus, other, "TOKEN", b"theirs")
        assert await opened(bus, project, "TOKEN") == {"TOKEN": VALUE}
        # Whoever can write the table cannot move a value to a project of his own either.
        await execute(
            keeping,
            "update secrets set (sealed, key_id) ="
            " (select sealed, key_id from secrets where project_id <> 'other') where project_id = 'other'",
        )
        with pytest.raises(Conflict):
            await opened(bus, other, "TOKEN")


async def test_what_a_job_asks_for_is_checked_before_it_is_queued(
    keeping: AuthSettings, bus: NatsBus
) -> None:
    async with running(keeping):
        project = await project_of(bus, keeping)
        for name in ("A", "B", "C"):
            await put(bus, project, name, b"x" * MAX_SECRET_BYTES)
        assert await bus.request(RequireSecrets(project_id=project, names=("A", "B"))) == Done()
        with pytest.raises(TooLarge, match="128 KiB"):
            await bus.request(RequireSecrets(project_id=project, names=("A", "B", "C")))
        with pytest.raises(NotFound, match=r"no secret D: chisel secret set D"):
            await bus.request(RequireSecrets(project_id=project, names=("A", "D")))
        with pytest.raises(NotFound, match=r"no secrets D, E"):
            await bus.request(RequireSecrets(project_id=project, names=("E", "A", "D")))


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("", VALUE, BadRequest),
        ("1A", VALUE, BadRequest),
        ("A-B", VALUE, BadRequest),
        ("É", VALUE, BadRequest),
        ("A" * 201, VALUE, BadRequest),
        ("A\n", VALUE, BadRequest),
        ("A", b"", BadRequest),
        ("A", b"canary\0", BadRequest),
        ("A", b"canary" * 10_000, TooLarge),
    ],
)
async def test_what_cannot_be_kept(
    keeping: AuthSettings, bus: NatsBus, name: str, value: bytes, kind: type[Exception]
) -> None:
    async with running(keeping):
        project = await project_of(bus, keeping)
        with pytest.raises(kind) as raised:
            await put(bus, project, name, value)
        assert "canary" not in str(raised.value)
        assert await names_of(bus, project) == []


async def test_many_at_once_leave_one_that_opens(keeping: AuthSettings, bus: NatsBus) -> None:
    async with running(keeping):
        project = await project_of(bus, keeping)
        views = await asyncio.gather(*(put(bus, project, "TOKEN", b"v%d" % n) for n in range(10)))
        assert sorted(view.version for view in views) == list(range(1, 11))
        last = next(n for n, view in enumerate(views) if view.version == 10)
        assert await opened(bus, project, "TOKEN") == {"TOKEN": b"v%d" % last}


async def test_without_a_key_file_none_are_kept(settings: AuthSettings, bus: NatsBus) -> None:
    async with running(settings):
        with pytest.raises(Conflict, match="CHISEL_AUTH_SECRETS_KEY_FILE"):
            await put(bus, await project_of(bus, settings), "TOKEN")
