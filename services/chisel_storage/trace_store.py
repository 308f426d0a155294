"""What storage knows about traces: files that are stored, captures that agents report, and readings.

A trace is stored when its file is: that outranks whatever a report says, so a late one cannot take it back.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chisel_shared.contract.files import FileKind, FileMode
from chisel_shared.contract.ids import Digest, JobId, ProjectId
from chisel_shared.contract.messages import Capture, TraceFacts, TraceView
from chisel_shared.contract.traces import Reading, TraceState
from chisel_shared.runtime.db import Connection, Database

MOST_TRIES = 3
"""A reading that was begun so often and never recorded took this service down with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrace:
    """A trace file that is stored; `raw` is the size and the sha256 of what is in it when it is packed."""

    job_id: JobId
    attempt: int
    name: str
    size_bytes: int
    sha256: Digest
    raw: tuple[int, Digest] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A trace that is to be read; `tries` counts this one."""

    job_id: JobId
    attempt: int
    name: str
    sha256: Digest
    tries: int
    sidecar: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What came of reading a trace: a summary, or the reason why there is none."""

    reason: str = ""
    truncated: bool = False
    events: int | None = None
    wall_us: float | None = None
    gpu_busy: float | None = None
    cold: bool | None = None
    finding: str = ""
    summary: bytes | None = None


class TraceStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, trace: StoredTrace, project_id: ProjectId) -> None:
        """It is stored, and is to be read. Of two under one name the later counts."""
        raw_bytes, raw_sha256 = trace.raw or (None, None)
        key = (trace.job_id, trace.attempt, trace.name)

        async def work(connection: Connection) -> None:
            await connection.execute(
                "insert into files (job_id, attempt, path, kind, mode, project_id, size_bytes, sha256,"
                " raw_bytes, raw_sha256) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
                " on conflict (job_id, attempt, kind, path) do update set size_bytes = excluded.size_bytes,"
                " sha256 = excluded.sha256, raw_bytes = excluded.raw_bytes,"
                " raw_sha256 = excluded.raw_sha256",
                *key,
                FileKind.TRACE,
                FileMode.PLAIN,
                project_id,
                trace.size_bytes,
                trace.sha256,
                raw_bytes,
                raw_sha256,
            )
            await connection.execute(
                "insert into readings (job_id, attempt, name, sha256) values ($1, $2, $3, $4)"
                " on conflict (job_id, attempt, name) do update set sha256 = excluded.sha256, read_as = 0,"
                " tries = 0, stored_at = now() where readings.sha256 <> excluded.sha256",
                *key,
                trace.sha256,
            )

        await self._database.run(work)

    async def has(self, trace: StoredTrace) -> bool:
        """Whether this very file is stored under its name."""

        async def work(connection: Connection) -> bool:
            found = await connection.fetchval(
                "select count(*) from files where job_id = $1 and attempt = $2 and path = $3 and kind = $4"
                " and sha256 = $5",
                trace.job_id,
                trace.attempt,
                trace.name,
                FileKind.TRACE,
                trace.sha256,
            )
            return bool(found)

        return await self._database.run(work)

    async def report(self, job_id: JobId, attempt: int, number: int, captures: Iterable[Capture]) -> None:
        """What an agent has seen; an older report changes nothing. With a new sidecar a stored trace is read
        again."""
        rows = [
            (
                job_id, attempt, one.name, number, one.state, one.sent_bytes, one.total_bytes, one.reason,
                one.call, one.rank, one.function, one.started_at, one.sidecar,
            )
            for one in captures
        ]  # fmt: skip

        async def work(connection: Connection) -> None:
            await connection.executemany(
                "with before as (select sidecar from captures where job_id = $1 and attempt = $2"
                " and name = $3), put as (insert into captures (job_id, attempt, name, number, state,"
                " sent_bytes, total_bytes, reason, call, rank, function, started_at, sidecar)"
                " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
                " on conflict (job_id, attempt, name) do update set number = excluded.number,"
                " state = excluded.state, sent_bytes = excluded.sent_bytes,"
                " total_bytes = excluded.total_bytes, reason = excluded.reason,"
                " call = coalesce(excluded.call, captures.call),"
                " rank = coalesce(excluded.rank, captures.rank),"
                " function = coalesce(nullif(excluded.function, ''), captures.function),"
                " started_at = coalesce(excluded.started_at, captures.started_at),"
                " sidecar = case when excluded.sidecar = ''::bytea then captures.sidecar"
                " else excluded.sidecar end"
                " where captures.number < excluded.number returning sidecar)"
                " update readings set read_as = 0, tries = 0 where job_id = $1 and attempt = $2 and name = $3"
                " and (select sidecar from put) is distinct from"
                " coalesce((select sidecar from before), ''::bytea) and exists (select from put)",
                rows,
            )

        await self._database.run(work)

    async def traces(self, job_id: JobId) -> tuple[TraceView, ...]:
        """Whatever is known of a job's traces, by attempt and name."""

        async def work(connection: Connection) -> tuple[TraceView, ...]:
            rows = await connection.fetch(
                "select names.attempt, names.name, f.size_bytes, f.sha256, f.raw_bytes, f.raw_sha256,"
                " c.state, c.sent_bytes, c.total_bytes, c.reason as capture_reason, c.call, c.rank,"
                " c.function, c.started_at, r.read_as, r.reason, r.truncated, r.events, r.wall_us,"
                " r.gpu_busy, r.cold, r.finding, r.summary is not null as summarized"
                " from (select attempt, path as name from files where job_id = $1 and kind = $2"
                " union select attempt, name from captures where job_id = $1) as names"
                " left join files f on f.job_id = $1 and f.kind = $2 and f.attempt = names.attempt"
                " and f.path = names.name"
                " left join captures c on c.job_id = $1 and c.attempt = names.attempt and c.name = names.name"
                " left join readings r on r.job_id = $1 and r.attempt = names.attempt"
                " and r.name = names.name and r.sha256 = f.sha256"
                ' order by names.attempt, names.name collate "C"',
                job_id,
                FileKind.TRACE,
            )
            return tuple(view_of(job_id, dict(row)) for row in rows)

        return await self._database.run(work)

    async def facts(self, job_id: JobId, attempt: int, name: str) -> TraceFacts:
        """The summary of a trace and its sidecar, empty where there is none."""

        async def work(connection: Connection) -> TraceFacts:
            summary = await connection.fetchval(
                "select summary from readings join files using (job_id, attempt, sha256)"
                " where job_id = $1 and attempt = $2 and name = $3 and path = $3 and kind = $4",
                job_id,
                attempt,
                name,
                FileKind.TRACE,
            )
            sidecar = await connection.fetchval(
                "select sidecar from captures where job_id = $1 and attempt = $2 and name = $3",
                job_id,
                attempt,
                name,
            )
            return TraceFacts(summary=summary or b"", sidecar=sidecar or b"")

        return await self._database.run(work)

    async def begin(self, schema: int) -> Due | None:
        """The next trace of which there is no summary of this schema; that it was begun is counted."""

        async def work(connection: Connection) -> Due | None:
            row = await connection.fetchrow(
                "update readings set tries = tries + 1 where (job_id, attempt, name) in"
                " (select job_id, attempt, name from readings where read_as < $1"
                " order by read_as, tries, stored_at limit 1)"
                " returning job_id, attempt, name, sha256, tries",
                schema,
            )
            if row is None:
                return None
            sidecar = await connection.fetchval(
                "select sidecar from captures where job_id = $1 and attempt = $2 and name = $3",
                row["job_id"],
                row["attempt"],
                row["name"],
            )
            return Due(**row, sidecar=sidecar or b"")

        return await self._database.run(work)

    async def leave(self, due: Due) -> None:
        """It was begun and is left for the next, through no fault of its own."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                "update readings set tries = tries - 1"
                " where job_id = $1 and attempt = $2 and name = $3 and sha256 = $4 and tries = $5",
                due.job_id,
                due.attempt,
                due.name,
                due.sha256,
                due.tries,
            )

        await self._database.run(work)

    async def record(self, due: Due, read: Read, schema: int) -> None:
        """What came of `due`; nothing when another file, or another sidecar, has come meanwhile."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                "update readings set read_as = $5, tries = 0, reason = $6, truncated = $7, events = $8,"
                " wall_us = $9, gpu_busy = $10, cold = $11, finding = $12, summary = $13"
                " where job_id = $1 and attempt = $2 and name = $3 and sha256 = $4 and tries = $14",
                due.job_id,
                due.attempt,
                due.name,
                due.sha256,
                schema,
                read.reason,
                read.truncated,
                read.events,
                read.wall_us,
                read.gpu_busy,
                read.cold,
                read.finding,
                read.summary,
                due.tries,
            )

        await self._database.run(work)


def view_of(job_id: JobId, row: dict[str, Any]) -> TraceView:
    """What is known of one trace, as users see it."""
    stored, packed = row["sha256"] is not None, row["raw_sha256"] is not None
    read = row["read_as"] is not None and row["read_as"] > 0
    reading = Reading.NONE
    if stored:
        reading = Reading.PENDING if not read else Reading.DONE if row["summarized"] else Reading.FAILED
    state = TraceState(row["state"] or TraceState.UPLOADING)
    if stored:
        state = TraceState.PARTIAL if row["truncated"] else TraceState.READY
    reason = row["reason"] if stored else row["capture_reason"]
    if state is TraceState.PARTIAL:
        reason = "the file ends in the middle, and what was read is its beginning"
    return TraceView(
        job_id=job_id,
        attempt=row["attempt"],
        name=row["name"],
        size_bytes=(row["raw_bytes"] if packed else row["size_bytes"]) or 0,
        sha256=Digest((row["raw_sha256"] if packed else row["sha256"]) or ""),
        state=state,
        reason=reason or "",
        stored_bytes=row["size_bytes"] if packed else 0,
        stored_sha256=row["sha256"] if packed else "",
        sent_bytes=(not stored and row["sent_bytes"]) or 0,
        total_bytes=(not stored and row["total_bytes"]) or 0,
        call=row["call"],
        rank=row["rank"],
        function=row["function"] or "",
        started_at=row["started_at"],
        reading=reading,
        events=row["events"],
        wall_us=row["wall_us"],
        gpu_busy=row["gpu_busy"],
        cold=row["cold"],
        finding=row["finding"] or "",
    )
