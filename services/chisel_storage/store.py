"""What storage knows about its bytes: the schema `storage`, and every SQL sentence about it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chisel_shared.contract.files import FileKind, FileMode
from chisel_shared.contract.ids import Digest, JobId, ProjectId
from chisel_shared.contract.messages import FileView
from chisel_shared.runtime.db import Connection, Database

SCHEMA = "storage"
MIGRATIONS = Path(__file__).with_name("sql")


@dataclass(frozen=True, slots=True)
class Archived:
    """How much of an attempt's output is safe; `sealed` when that is all of it."""

    stdout: int = 0
    stderr: int = 0
    sealed: bool = False

    def offsets(self) -> dict[str, int]:
        return {"stdout": self.stdout, "stderr": self.stderr}


class Store:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def ping(self) -> None:
        await self._database.ping()

    async def add_bundle(
        self, project_id: ProjectId, digest: Digest, size_bytes: int, packs: Sequence[Digest]
    ) -> None:
        """A manifest of `size_bytes` that needs `packs`, whether they are there or not."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                "insert into bundles (project_id, digest, size_bytes) values ($1, $2, $3)"
                " on conflict do nothing",
                project_id,
                digest,
                size_bytes,
            )
            await connection.execute(
                "insert into bundle_packs (project_id, bundle, pack)"
                " select $1, $2, unnest($3::text[]) on conflict do nothing",
                project_id,
                digest,
                packs,
            )

        await self._database.run(work)

    async def packs_of(self, project_id: ProjectId, bundle: Digest) -> tuple[Digest, ...] | None:
        """The packs a project's bundle needs; None when it has no such bundle."""

        async def work(connection: Connection) -> tuple[Digest, ...] | None:
            packs = await connection.fetchval(
                "select array(select pack from bundle_packs where project_id = $1 and bundle = $2)"
                " from bundles where project_id = $1 and digest = $2",
                project_id,
                bundle,
            )
            return None if packs is None else tuple(packs)

        return await self._database.run(work)

    async def add_pack(self, project_id: ProjectId, digest: Digest, size_bytes: int) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(
                "insert into packs (project_id, digest, size_bytes) values ($1, $2, $3)"
                " on conflict do nothing",
                project_id,
                digest,
                size_bytes,
            )

        await self._database.run(work)

    async def known_packs(self, project_id: ProjectId, packs: Sequence[Digest]) -> frozenset[Digest]:
        """Those of `packs` that the project has."""

        async def work(connection: Connection) -> frozenset[Digest]:
            rows = await connection.fetch(
                "select digest from packs where project_id = $1 and digest = any($2::text[])",
                project_id,
                packs,
            )
            return frozenset(row["digest"] for row in rows)

        return await self._database.run(work)

    async def put_file(self, file: FileView, kind: FileKind, project_id: ProjectId) -> None:
        """Of two uploads under one name the later counts: an agent repeats what it is not sure of."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                "insert into files (job_id, attempt, kind, path, mode, project_id, size_bytes, sha256)"
                " values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (job_id, attempt, kind, path)"
                " do update set mode = excluded.mode, size_bytes = excluded.size_bytes,"
                " sha256 = excluded.sha256",
                file.job_id,
                file.attempt,
                kind,
                file.path,
                file.mode,
                project_id,
                file.size_bytes,
                file.sha256,
            )

        await self._database.run(work)

    async def files(self, job_id: JobId, attempt: int, kind: FileKind) -> tuple[FileView, ...]:
        async def work(connection: Connection) -> tuple[FileView, ...]:
            rows = await connection.fetch(
                "select job_id, attempt, path, mode, size_bytes, sha256 from files"
                ' where job_id = $1 and attempt = $2 and kind = $3 order by path collate "C"',
                job_id,
                attempt,
                kind,
            )
            return tuple(FileView(**{**row, "mode": FileMode(row["mode"])}) for row in rows)

        return await self._database.run(work)

    async def archived(self, job_id: JobId, attempt: int) -> Archived:
        async def work(connection: Connection) -> Archived:
            row = await connection.fetchrow(
                "select stdout_bytes as stdout, stderr_bytes as stderr, sealed from outputs"
                " where job_id = $1 and attempt = $2",
                job_id,
                attempt,
            )
            return Archived(**dict(row)) if row else Archived()

        return await self._database.run(work)

    async def record(self, job_id: JobId, attempt: int, archived: Archived) -> None:
        """So much is on the disk. What was sealed stays so."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                "insert into outputs (job_id, attempt, stdout_bytes, stderr_bytes, sealed)"
                " values ($1, $2, $3, $4, $5) on conflict (job_id, attempt) do update"
                " set stdout_bytes = excluded.stdout_bytes, stderr_bytes = excluded.stderr_bytes,"
                " sealed = excluded.sealed, updated_at = now() where not outputs.sealed",
                job_id,
                attempt,
                archived.stdout,
                archived.stderr,
                archived.sealed,
            )

        await self._database.run(work)

    async def sealed(self, attempts: Iterable[tuple[JobId, int]]) -> set[tuple[JobId, int]]:
        """Those of `attempts` whose output is archived whole."""
        asked = list(attempts)

        async def work(connection: Connection) -> set[tuple[JobId, int]]:
            rows = await connection.fetch(
                "select job_id, attempt from outputs join unnest($1::text[], $2::int[])"
                " as asked (job_id, attempt) using (job_id, attempt) where sealed",
                [job_id for job_id, _ in asked],
                [attempt for _, attempt in asked],
            )
            return {(JobId(row["job_id"]), row["attempt"]) for row in rows}

        return await self._database.run(work)
