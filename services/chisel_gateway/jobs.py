"""What sessions and HTTP handlers ask about jobs, checked at the door."""

from chisel_gateway.calls import PATIENCE_SECONDS, ask
from chisel_shared.contract.errors import BadRequest, Forbidden, NotFound
from chisel_shared.contract.frames import STREAM_NUMBERS, Follow
from chisel_shared.contract.ids import Digest, ProjectId, UserId, is_digest, is_job_name
from chisel_shared.contract.job import JobSpec, JobView
from chisel_shared.contract.messages import (
    BundlePresence,
    CancelJob,
    GetJob,
    GetSpec,
    HasBundle,
    Jobs,
    ListJobs,
    Principal,
    SubmitJob,
    Submitted,
    Why,
    WhyJob,
)
from chisel_shared.contract.outputs import MAX_TAIL_LINES
from chisel_shared.contract.stops import Stop
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.failpoints import failpoint

MAX_LISTED = 500
_MAX_KEY_CHARS = 200


def project_of(principal: Principal) -> ProjectId:
    """The project the caller works in."""
    if principal.project_id is None:
        raise Forbidden("this key belongs to no project")
    return principal.project_id


def checked_digest(text: str) -> Digest:
    if not is_digest(text):
        raise BadRequest("bundles and packs are named by their sha256 in 64 lower-case hexadecimal digits")
    return Digest(text)


def checked_follow(frame: Follow) -> Follow:
    position = frame.position
    if not 0 <= position.attempt < 1 << 31 or not all(
        0 <= offset < 1 << 62 for offset in (position.stdout, position.stderr)
    ):
        raise BadRequest("a position is an attempt and two numbers of bytes")
    if frame.tail is not None and not 0 <= frame.tail <= MAX_TAIL_LINES:
        raise BadRequest(f"at most the last {MAX_TAIL_LINES} lines can be asked for")
    if frame.since is not None and not abs(frame.since) < 1e12:
        raise BadRequest("a time is a number of seconds")
    if not set(frame.streams) <= set(STREAM_NUMBERS):
        raise BadRequest("a job's output is stdout and stderr")
    return frame


class JobDesk:
    """Jobs, as the gateway asks for them on a caller's behalf."""

    def __init__(self, *, bus: Bus) -> None:
        self._bus = bus

    async def has_bundle(
        self, caller: Principal, digest: str, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> BundlePresence:
        asked = HasBundle(project_id=project_of(caller), digest=checked_digest(digest))
        return await ask(self._bus, asked, patience_seconds=patience_seconds)

    async def submit(
        self, caller: Principal, spec: JobSpec, key: str, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> Submitted:
        """Queue a job whose bundle is stored; committed when this returns. May be repeated with `key`."""
        if not 0 < len(key) <= _MAX_KEY_CHARS or not key.isprintable():
            raise BadRequest(f"an idempotency key is 1 to {_MAX_KEY_CHARS} printable characters")
        asked = SubmitJob(
            project_id=project_of(caller),
            user_id=UserId(caller.id),
            idempotency_key=key,
            spec=spec,
            user_name=caller.name,
        )
        submitted = await ask(self._bus, asked, patience_seconds=patience_seconds)
        failpoint("submit.answered")
        return submitted

    async def get(self, caller: Principal, job_id: str) -> JobView:
        """A job of the caller's project, by its id or an unambiguous beginning of it."""
        asked = GetJob(project_id=project_of(caller), job_id=_known(job_id), asked_by=UserId(caller.id))
        return await ask(self._bus, asked)

    async def cancel(
        self, caller: Principal, job_id: str, *, stop: Stop | None = None, reason: str = ""
    ) -> JobView:
        asked = CancelJob(
            project_id=project_of(caller),
            job_id=_known(job_id),
            requested_by=caller.name or caller.id,
            asked_by=UserId(caller.id),
            stop=stop or Stop(),
            reason=reason,
        )
        return await ask(self._bus, asked)

    async def why(self, caller: Principal, job_id: str) -> Why:
        """Where a job stands in the queue, and what it waits for."""
        asked = WhyJob(project_id=project_of(caller), job_id=_known(job_id), asked_by=UserId(caller.id))
        return await ask(self._bus, asked)

    async def rerun(self, caller: Principal, job_id: str, key: str) -> Submitted:
        """Queue a job with the spec of another, for whoever asks."""
        asked = GetSpec(project_id=project_of(caller), job_id=_known(job_id), asked_by=UserId(caller.id))
        spec = await ask(self._bus, asked)
        if not (await self.has_bundle(caller, spec.bundle)).present:
            raise NotFound(f"the files of job {job_id} are not stored any more: submit it with chisel python")
        return await self.submit(caller, spec, key)

    async def list(self, caller: Principal, *, unfinished: bool, limit: int) -> Jobs:
        if not 1 <= limit <= MAX_LISTED:
            raise BadRequest(f"limit must be between 1 and {MAX_LISTED}")
        asked = ListJobs(
            project_id=project_of(caller), unfinished=unfinished, limit=limit, asked_by=UserId(caller.id)
        )
        return await ask(self._bus, asked)


def _known(job_id: str) -> str:
    if not is_job_name(job_id):
        raise NotFound(f"there is no job {job_id[:60]!r}")
    return job_id
