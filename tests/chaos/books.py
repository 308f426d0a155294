"""What the books say: Postgres, and the stream that repeats it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import nats
import nats.errors
import nats.js.errors

from tests.chaos.facts import Agent, Attempt, Event

if TYPE_CHECKING:
    from tests.chaos.collect import Places

_JOBS = """
select id, spec->>'app_name' as name, state, version, attempt, ending, cancel_requested_at is not null
    or cancel_requested_by is not null as cancelled, extract(epoch from ended_at)::float8 - $1 as ended
from scheduler.jobs order by seq
"""
_EVENTS = """
select job_id, version, attempt, event, state,
    extract(epoch from pg_xact_commit_timestamp(xmin))::float8 - $1 as committed
from scheduler.job_events order by job_id, version
"""
_ATTEMPTS = """
select attempts.job_id, attempt, agents.name, gpu_count, ended_by, ending,
    extract(epoch from claimed_at)::float8 - $1 as claimed,
    extract(epoch from lease_until)::float8 - $1 as lease_until,
    extract(epoch from ended_at)::float8 - $1 as ended,
    archived_at is not null and coalesce(outputs.sealed, false) as archived,
    coalesce(stdout_bytes, 0) as stdout, coalesce(stderr_bytes, 0) as stderr, outputs.job_id as kept
from scheduler.attempts
left join scheduler.agents on agents.id = attempts.agent_id
left join storage.outputs using (job_id, attempt)
order by attempts.job_id, attempt
"""
_AGENTS = """
select name, gpus_total, gpus_held, coalesce((
    select sum(gpu_count) from scheduler.attempts
    where attempts.agent_id = agents.id and attempts.ended_at is null
), 0) as open from scheduler.agents order by name
"""
_FILES = """
select job_id, attempt, kind, sha256, coalesce(raw_sha256, sha256) as content
from storage.files order by job_id, attempt, path
"""
_PACKS = "select 'packs' as folder, project_id, digest from storage.packs"
_BUNDLES = "select 'bundles' as folder, project_id, digest from storage.bundles"
_FOLDERS = {"trace": "traces", "output": "files"}


@dataclass(frozen=True, slots=True)
class Found:
    """An attempt as the books have it, and how many bytes of each stream storage counts."""

    job: str
    attempt: Attempt
    kept: dict[str, int]


@dataclass(slots=True)
class Rows:
    jobs: list[Any]
    agents: tuple[Agent, ...]
    outbox: int
    events: dict[str, tuple[Event, ...]] = field(default_factory=dict)
    attempts: dict[str, tuple[Found, ...]] = field(default_factory=dict)
    files: dict[str, tuple[tuple[int, str], ...]] = field(default_factory=dict)
    """By job: the attempt and the sha256 of each output it left."""
    traces: dict[str, tuple[tuple[int, str], ...]] = field(default_factory=dict)
    blobs: list[tuple[str, str]] = field(default_factory=list)
    """Where everything lies that storage promised to keep, and its sha256."""


async def read(connection: Any, shift: float) -> Rows:
    """All of it, in the caller's transaction; times are moved by `shift` from the epoch."""
    rows = Rows(
        jobs=await connection.fetch(_JOBS, shift),
        agents=tuple(
            Agent(name=row["name"], total=row["gpus_total"], held=row["gpus_held"], open=row["open"])
            for row in await connection.fetch(_AGENTS)
        ),
        outbox=await connection.fetchval("select count(*) from scheduler.outbox"),
    )
    for row in await connection.fetch(_EVENTS, shift):
        fields = {key: value for key, value in row.items() if key != "job_id"}
        rows.events[row["job_id"]] = (*rows.events.get(row["job_id"], ()), Event(**fields))
    for row in await connection.fetch(_ATTEMPTS, shift):
        attempt = Attempt(
            number=row["attempt"],
            agent=row["name"] or "?",
            gpus=row["gpu_count"],
            claimed=row["claimed"],
            lease_until=row["lease_until"],
            ended=row["ended"],
            ended_by=row["ended_by"] or "",
            reason=msgspec.json.decode(row["ending"])["reason"] if row["ending"] else "",
            archived=row["archived"],
        )
        kept = {"stdout": row["stdout"], "stderr": row["stderr"]} if row["kept"] else {}
        found = Found(row["job_id"], attempt, kept)
        rows.attempts[row["job_id"]] = (*rows.attempts.get(row["job_id"], ()), found)
    for row in await connection.fetch(_FILES):
        job, attempt, digest = row["job_id"], row["attempt"], row["sha256"]
        rows.blobs.append((f"{_FOLDERS[row['kind']]}/{job}/{attempt}/{digest}", digest))
        kept = rows.files if row["kind"] == "output" else rows.traces
        kept[job] = (*kept.get(job, ()), (attempt, row["content"]))
    for sentence in (_PACKS, _BUNDLES):
        for row in await connection.fetch(sentence):
            digest = row["digest"]
            rows.blobs.append((f"{row['folder']}/{row['project_id']}/{digest[:2]}/{digest}", digest))
    return rows


async def said(places: "Places", jobs: list[str]) -> dict[str, int]:
    """The newest version of each job that the event stream has; jobs it does not know are left out."""
    client = await nats.connect(places.nats, user=places.nats_user, password=places.nats_password)
    stream = client.jetstream(timeout=5)
    found = {}
    try:
        for job in jobs:
            try:
                last = await stream.get_last_msg("EV", f"ev.job.{job}", direct=True)
            except nats.js.errors.NotFoundError:
                continue
            if last.data:
                found[job] = int(msgspec.json.decode(last.data)["job"]["version"])
    finally:
        await client.close()
    return found
