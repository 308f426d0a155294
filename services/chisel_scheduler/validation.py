"""What users and agents may say. Pure: `BadRequest` has a sentence that names the field.

Nothing is taken on trust from the client, because the API has other callers.
"""

import math

import msgspec

from chisel_shared.contract.errors import BadRequest
from chisel_shared.contract.gpus import GPUType, counts
from chisel_shared.contract.ids import is_digest, is_id
from chisel_shared.contract.job import JobSpec
from chisel_shared.contract.messages import AttemptDone, CancelJob, DrainAgent, Hello, Renew, SetQuota
from chisel_shared.contract.retries import MAX_CAUSES, MAX_LEASE_SECONDS, MIN_LEASE_SECONDS, check_cause
from chisel_shared.contract.stops import MAX_REASON_CHARS, check_stop
from chisel_shared.contract.variables import MAX_ENV_BYTES, MAX_SECRETS, check_name, check_secret, check_value

MAX_ARGUMENTS, MAX_ARGV_BYTES = 4_096, 48 * 1024
MAX_PATH_CHARS = 1_024
MAX_NAME_CHARS = 200
MAX_PRIORITY = 100
MAX_RETRIES = 100
MAX_TIME_LIMIT_SECONDS = 366 * 86_400.0
MAX_AGENT_NAME_CHARS = 64
MAX_AGENT_GPUS = 1_024
MAX_QUOTA_GPUS = 1_000_000
MIN_WEIGHT, MAX_WEIGHT = 0.01, 100.0
MAX_DETAIL_CHARS = 8_192
MAX_QUARANTINE_CHARS = 200
MAX_DEADLINE_SECONDS = 366 * 86_400.0


def check(spec: JobSpec) -> GPUType:
    """The GPUs of a spec that an agent could carry out; `BadRequest` when it is none."""
    gpu = _gpu(spec.gpu)
    _name("app_name", spec.app_name)
    _argv(spec.argv)
    if spec.exact_argv:
        _exact_argv(spec)
    if not is_digest(spec.bundle):
        raise BadRequest("bundle must be a sha256 in 64 lower-case hexadecimal digits")
    _path("workdir", spec.workdir)
    if spec.requirements is not None:
        _path("requirements", spec.requirements)
    _env(spec.env)
    _secrets(spec)
    if not -MAX_PRIORITY <= spec.priority <= MAX_PRIORITY:
        raise BadRequest(f"priority must be between -{MAX_PRIORITY} and {MAX_PRIORITY}, not {spec.priority}")
    if not 0 <= spec.retries <= MAX_RETRIES:
        raise BadRequest(f"retries must be between 0 and {MAX_RETRIES}, not {spec.retries}")
    if len(spec.retry_on) > MAX_CAUSES:
        raise BadRequest(f"retry_on may name {MAX_CAUSES} causes, not {len(spec.retry_on)}")
    for cause in spec.retry_on:
        check_cause(cause)
    lease = spec.lease_seconds
    if lease is not None and not (MIN_LEASE_SECONDS <= lease <= MAX_LEASE_SECONDS):
        raise BadRequest(
            f"lease_seconds must be from {MIN_LEASE_SECONDS:.0f} to {MAX_LEASE_SECONDS:.0f}, not {lease:g}"
        )
    if not spec.retries and (spec.retry_on or lease is not None):
        raise BadRequest("retry_on and lease_seconds mean something only for a job with retries")
    limit = spec.time_limit_seconds
    if limit is not None and not (math.isfinite(limit) and 0 < limit <= MAX_TIME_LIMIT_SECONDS):
        raise BadRequest(f"time_limit_seconds must be above 0 and at most {MAX_TIME_LIMIT_SECONDS:.0f}")
    return gpu


def check_key(key: str) -> None:
    """An idempotency key is any short printable text."""
    _name("idempotency_key", key)


def check_cancel(ask: CancelJob) -> None:
    """How a job is to end, and why, as people will read it."""
    check_stop(ask.stop)
    check_reason(ask.reason)


def check_reason(reason: str) -> None:
    """Why somebody does something, as other people will read it; it may be empty."""
    if len(reason) > MAX_REASON_CHARS or not (reason.isprintable() or not reason):
        raise BadRequest(f"the reason may have {MAX_REASON_CHARS} printable characters")


def check_drain(ask: DrainAgent) -> None:
    """Why an agent is emptied and by when."""
    check_reason(ask.reason)
    seconds = ask.deadline_seconds
    if seconds is not None and not (math.isfinite(seconds) and 0 <= seconds <= MAX_DEADLINE_SECONDS):
        raise BadRequest(f"deadline_seconds must be between 0 and {MAX_DEADLINE_SECONDS:.0f}")


def check_quota(ask: SetQuota) -> None:
    """A limit that jobs can be compared with and a weight that levels can be divided by."""
    if ask.kind not in ("user", "project"):
        raise BadRequest("kind must be user or project")
    if isinstance(ask.gpus, int) and not 0 <= ask.gpus <= MAX_QUOTA_GPUS:
        raise BadRequest(f"gpus must be between 0 and {MAX_QUOTA_GPUS:,}, not {ask.gpus}")
    if isinstance(ask.weight, float) and not MIN_WEIGHT <= ask.weight <= MAX_WEIGHT:
        raise BadRequest(f"weight must be between {MIN_WEIGHT:g} and {MAX_WEIGHT:g}, not {ask.weight:g}")
    if ask.gpus is msgspec.UNSET and ask.weight is msgspec.UNSET:
        raise BadRequest("nothing to set: give gpus, weight or both")


def _gpu(value: str) -> GPUType:
    for entry in GPUType:
        if entry.value == value:
            return entry
    model, _, count = value.rpartition(":")
    if counts(model) and count.isdecimal():
        offered = ", ".join(map(str, counts(model)))
        raise BadRequest(f"a job can have {offered} {model} GPUs, not {count[:20]}")
    known = ", ".join(f'"{entry.value}"' for entry in GPUType)
    raise BadRequest(f"gpu must be one of {known}, not {value[:80]!r}")


def _name(field: str, value: str) -> None:
    if not value or len(value) > MAX_NAME_CHARS or not value.isprintable():
        raise BadRequest(f"{field} must be 1 to {MAX_NAME_CHARS} printable characters")


def _argv(argv: tuple[str, ...]) -> None:
    if len(argv) < 2 or argv[0] != "python":
        raise BadRequest('argv must be "python" and what it is to run')
    if len(argv) > MAX_ARGUMENTS or sum(len(part.encode()) + 1 for part in argv) > MAX_ARGV_BYTES:
        raise BadRequest(f"argv has more than {MAX_ARGUMENTS} arguments or {MAX_ARGV_BYTES // 1024} KiB")
    if any("\0" in part for part in argv):
        raise BadRequest("argv must not contain NUL characters")


def _exact_argv(spec: JobSpec) -> None:
    if tuple(part.decode(errors="replace") for part in spec.exact_argv) != spec.argv:
        raise BadRequest("exact_argv must be what argv shows, in bytes")


def _path(field: str, value: str) -> None:
    parts = value.split("/")
    if not value or len(value) > MAX_PATH_CHARS or not value.isprintable():
        raise BadRequest(f"{field} must be 1 to {MAX_PATH_CHARS} printable characters")
    if value.startswith("/") or ".." in parts:
        raise BadRequest(f"{field} must be a path inside the bundle, without a leading / and without ..")


def _env(env: dict[str, str]) -> None:
    if sum(len(name.encode()) + len(value.encode()) + 2 for name, value in env.items()) > MAX_ENV_BYTES:
        raise BadRequest(f"env is larger than {MAX_ENV_BYTES // 1024} KiB")
    for name, value in env.items():
        check_name(name)
        check_value(name, value)


def _secrets(spec: JobSpec) -> None:
    if len(spec.secrets) > MAX_SECRETS:
        raise BadRequest(f"a job can have {MAX_SECRETS} secrets, not {len(spec.secrets)}")
    for variable, secret in spec.secrets.items():
        check_secret(variable, secret)
        if variable in spec.env:
            raise BadRequest(f"{variable} is given twice: as a variable and as a secret")


def check_agent(hello: Hello) -> None:
    """What an agent says about itself goes into sentences and subjects."""
    for field, value in (("name", hello.name), ("gpu_model", hello.gpu_model)):
        if not value or len(value) > MAX_AGENT_NAME_CHARS or not value.isprintable():
            raise BadRequest(f"{field} must be 1 to {MAX_AGENT_NAME_CHARS} printable characters")
    for field, value in (("agent_id", hello.agent_id), ("pool", hello.pool), ("session", hello.session)):
        if not is_id(value):
            raise BadRequest(f"{field} must be lower-case letters, digits and hyphens")
    if not 0 <= hello.gpus_total <= MAX_AGENT_GPUS:
        raise BadRequest(f"gpus_total must be between 0 and {MAX_AGENT_GPUS}")


def bounded(done: AttemptDone) -> AttemptDone:
    """The same, with no more detail than every view of the job can carry; its end tells most."""
    detail = done.end.detail[-MAX_DETAIL_CHARS:]
    return msgspec.structs.replace(done, end=msgspec.structs.replace(done.end, detail=detail))


def legible(renew: Renew) -> Renew:
    """The same, with a sentence about quarantined GPUs that a table can show."""
    said = "".join(char if char.isprintable() else " " for char in renew.quarantine)
    return msgspec.structs.replace(renew, quarantine=said[:MAX_QUARANTINE_CHARS])
