"""Gathering the facts: from Postgres, storage's files, the agents' folders, the witnesses, the history."""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from chisel.local.jobs import leftovers
from tests.chaos import books
from tests.chaos.facts import Attempt, Blob, Facts, Followed, JobFacts, Life, Overdue, Stored
from tests.chaos.history import boottime
from tests.chaos.plan import Job, Plan
from tests.chaos.witness import lives

_STEP_BYTES = 1 << 20
_EXPECTED_DEATHS = ("nats", "postgres")
"""They may end by themselves on a full disk; ours may not."""


PLACES = "places.json"
PROBE = "probe"
"""The name of the job that brings the script of all others, and does nothing."""


class Places(msgspec.Struct, frozen=True):
    """Where a campaign's system is."""

    database: str
    nats: str
    nats_user: str
    nats_password: str
    system: str
    """Its folder: storage, logs and agents are below."""


def collect(folder: Path) -> Facts:
    """The facts about the campaign in `folder`, whose system is at rest and still runs."""
    return asyncio.run(_Collection(folder).facts())


class _Collection:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places = msgspec.json.decode((folder / PLACES).read_bytes(), type=Places)
        self._system = Path(self._places.system)
        self._plan = msgspec.json.decode((folder / "plan.json").read_bytes(), type=Plan)
        text = (folder / "history.jsonl").read_text()
        self._history: dict[str, list[dict[str, Any]]] = {}
        self._told: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for line in text.splitlines():
            entry = json.loads(line)
            self._history.setdefault(entry["what"], []).append(entry)
            self._told.setdefault((entry["what"], entry.get("job", "")), []).append(entry)
        self._shift = time.time() - boottime()

    async def facts(self) -> Facts:
        connection = await asyncpg.connect(self._places.database)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                rows = await books.read(connection, self._shift)
        finally:
            await connection.close()
        said = await books.said(self._places, [row["id"] for row in rows.jobs])
        jobs = self._plan.jobs
        planned = {job.name for job in jobs} | {PROBE}
        by_name: dict[str, Mapping[str, Any]] = {row["name"]: row for row in rows.jobs}
        wiped = self._wiped_at()
        return Facts(
            times=self._plan.times,
            at_rest=bool(self._of("at rest")),
            jobs=tuple(self._job(job, by_name.get(job.name), rows, said, wiped) for job in jobs),
            strangers=tuple(row["name"] for row in rows.jobs if row["name"] not in planned),
            blobs=tuple(self._blobs(rows)),
            agents=rows.agents,
            outbox=rows.outbox,
            alive=tuple(self._alive(jobs)),
            overdue=tuple(
                Overdue(job=one["job"], attempt=one["attempt"], overdue=one["overdue"], calm=one["calm"])
                for one in self._of("overdue")
            ),
            unwatched=frozenset(hit for entry in self._of("healed") for hit in entry["hit"]),
            full_disks=any(
                entry["kind"] == "disk full" and entry["target"].startswith("agent:")
                for entry in self._of("fault")
            ),
            complaints=tuple(self._complaints()),
            leaked=tuple(holding(self._system, self._plan.canary.encode())),
        )

    def _of(self, what: str) -> list[dict[str, Any]]:
        return self._history.get(what, [])

    def _told_about(self, job: Job, what: str) -> list[dict[str, Any]]:
        return self._told.get((what, job.name), [])

    def _wiped_at(self) -> float:
        """Since when the event stream has lost nothing, by the clock of the books."""
        healed = [entry["at"] for entry in self._of("healed") if entry["kind"] == "wipe"]
        (began,) = [entry["boottime"] for entry in self._of("began")][-1:] or [0.0]
        return began + max(healed) if healed else 0.0

    def _job(
        self,
        job: Job,
        row: Mapping[str, Any] | None,
        rows: books.Rows,
        said: Mapping[str, int],
        wiped: float,
    ) -> JobFacts:
        accepted = tuple(entry["id"] for entry in self._told_about(job, "accepted"))
        witnessed = self._lives(job)
        if row is None:
            return JobFacts(plan=job, accepted=accepted, lives=witnessed)
        ending = json.loads(row["ending"]) if row["ending"] else {}
        events = rows.events.get(row["id"], ())
        return JobFacts(
            plan=job,
            accepted=accepted,
            found=row["id"],
            state=row["state"],
            attempt=row["attempt"],
            reason=ending.get("reason", ""),
            exit_code=ending.get("exit_code"),
            signal=ending.get("signal"),
            ended=row["ended"],
            version=row["version"],
            said_version=said.get(row["id"], 0) if events and events[-1].committed > wiped else None,
            cancelled=row["cancelled"],
            events=events,
            attempts=tuple(self._attempt(job, found) for found in rows.attempts.get(row["id"], ())),
            lives=witnessed,
            followed=tuple(
                Followed(status=entry["status"], size=entry["size"], sha256=entry["sha256"])
                for entry in self._told_about(job, "followed")
            ),
            files=rows.files.get(row["id"], ()),
            traces=rows.traces.get(row["id"], ()),
        )

    def _lives(self, job: Job) -> tuple[Life, ...]:
        try:
            with (self._folder / "witness" / job.name).open() as lines:
                return lives(lines)
        except FileNotFoundError:
            return ()

    def _attempt(self, job: Job, found: books.Found) -> Attempt:
        kept = {}
        for stream, size in found.kept.items():
            path = self._storage / "outputs" / found.job[:2] / f"{found.job}.{found.attempt.number}.{stream}"
            expected = hashlib.sha256(job.script.printed(stream, size)).hexdigest()
            kept[stream] = Stored(size=size, sha256=_sha256(path, size), expected=expected)
        return msgspec.structs.replace(found.attempt, stored=kept)

    @property
    def _storage(self) -> Path:
        return self._system / "storage"

    def _blobs(self, rows: books.Rows) -> Iterable[Blob]:
        """What the books say is stored, and what clients were told is."""
        for key, digest in rows.blobs:
            yield Blob(name=key, sha256=digest, found=_sha256(self._storage / key))
        known = {digest for _, digest in rows.blobs}
        for entry in self._of("stored"):
            if entry["digest"] not in known:
                yield Blob(name=f"an upload of {entry['size']} bytes", sha256=entry["digest"], found="")

    def _alive(self, jobs: Iterable[Job]) -> Iterable[str]:
        for agent in self._plan.agents:
            for process in leftovers(self._system / f"agent-{agent}"):
                yield f"process {process.pid} of {agent}"
        for job in jobs:
            for life in self._lives(job):
                born = _born(life.pid)
                if born is not None and born <= life.first + 0.02:
                    yield f"process {life.pid} of {job.name}"

    def _complaints(self) -> Iterable[str]:
        for entry in self._of("died"):
            if entry["target"] not in _EXPECTED_DEATHS:
                yield f"{entry['target']} ended by itself: {entry['tail'][-500:]}"
        for entry in (*self._of("user failed"), *self._of("refused")):
            yield json.dumps(entry)
        for log in sorted((self._system / "logs").glob("*.log")):
            for line in log.read_text(errors="replace").splitlines():
                if '"level": "error"' in line:
                    yield f"{log.stem}: {line[:600]}"
        for log in sorted(self._system.glob("agent-*/shims.log")):
            for line in log.read_text(errors="replace").splitlines():
                yield f"{log.parent.name}'s shims: {line[:300]}"


def holding(folder: Path, word: bytes) -> Iterable[str]:
    """The files below `folder` that hold `word`: logs, books, spools, whatever a service has written."""
    for above, _, names in os.walk(folder):
        for name in names:
            path = Path(above, name)
            try:
                if path.is_file() and not path.is_symlink() and _has(path, word):
                    yield str(path.relative_to(folder))
            except OSError:
                continue  # it is gone by now


def _has(path: Path, word: bytes) -> bool:
    with path.open("rb") as file:
        before = b""
        while data := file.read(_STEP_BYTES):
            if word in before + data:
                return True
            before = data[-len(word) :]
    return False


def _sha256(path: Path, size: int | None = None) -> str:
    """Of the first `size` bytes of a file, of all by default; "" where there is none so long."""
    digest, left = hashlib.sha256(), size
    try:
        with path.open("rb") as file:
            while left is None or left:
                data = file.read(_STEP_BYTES if left is None else min(left, _STEP_BYTES))
                if not data:
                    break
                digest.update(data)
                left = None if left is None else left - len(data)
    except FileNotFoundError:
        return digest.hexdigest() if size == 0 else ""
    return "" if left else digest.hexdigest()


def _born(pid: int) -> float | None:
    """When a process started, on the clock of the witnesses; None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0] == b"Z" else int(fields[19]) / os.sysconf("SC_CLK_TCK")
