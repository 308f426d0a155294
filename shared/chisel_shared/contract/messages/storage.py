"""What is asked of the storage service."""

import msgspec

from chisel_shared.contract.files import FileMode
from chisel_shared.contract.ids import AgentId, Digest, JobId, ProjectId
from chisel_shared.contract.subjects import Done, Request, said_on
from chisel_shared.contract.traces import Reading, TraceState


class FileView(msgspec.Struct, frozen=True):
    """A stored file of an attempt. `path` is relative to the folder it came from, parts joined by `/`."""

    job_id: JobId
    attempt: int
    path: str
    mode: FileMode
    size_bytes: int
    sha256: Digest


class Files(msgspec.Struct, frozen=True):
    """By path. Too long for the bus: it travels by HTTP."""

    files: tuple[FileView, ...]


class Outputs(msgspec.Struct, frozen=True):
    """What an attempt wrote into `./outputs`. `count` is how many files there will be: right after the
    end some may still be on their way. `left_out` says what will not come, a line for each reason."""

    job_id: JobId
    attempt: int
    ended: bool
    count: int
    left_out: str
    files: tuple[FileView, ...]


class TraceView(msgspec.Struct, frozen=True):
    """A trace of an attempt: recorded, on its way, stored or lost. `size_bytes` and `sha256` are of the
    trace file itself, 0 and empty until it is stored; `stored_bytes` and `stored_sha256` of the gzip file
    it is kept and sent as, 0 and empty where it is kept as it is.

    `call`, `rank`, `function` and `started_at` are what the capture said of itself. What storage read off
    the file is there with `reading` at `done`: the number of `events`, the length of the recorded call, the
    part of it in which a GPU was busy (between 0 and 1), whether it was the first of its process, and the
    first finding in a line.
    """

    job_id: JobId
    attempt: int
    name: str
    """The file name, `{trace_name}.json`."""
    size_bytes: int
    sha256: Digest
    state: TraceState = TraceState.READY
    reason: str = ""
    """Why it is lost, cut or cannot be read."""
    stored_bytes: int = 0
    stored_sha256: str = ""
    sent_bytes: int = 0
    """Of `total_bytes`, while it is uploading."""
    total_bytes: int = 0
    call: int | None = None
    rank: int | None = None
    function: str = ""
    started_at: float | None = None
    reading: Reading = Reading.NONE
    events: int | None = None
    wall_us: float | None = None
    gpu_busy: float | None = None
    cold: bool | None = None
    finding: str = ""


class Traces(msgspec.Struct, frozen=True):
    traces: tuple[TraceView, ...]


@said_on("rpc.storage.traces")
class ListTraces(Request[Traces], frozen=True):
    """The traces of a job, by attempt and name. The asker has checked whose job it is."""

    job_id: JobId


class Capture(msgspec.Struct, frozen=True):
    """What an agent has seen of one capture: it is recorded, on its way with `sent_bytes` of `total_bytes`
    sent, or lost for a `reason`. `sidecar` is the JSON beside the trace, empty when it was told before."""

    name: str
    state: TraceState
    sent_bytes: int = 0
    total_bytes: int = 0
    reason: str = ""
    call: int | None = None
    rank: int | None = None
    function: str = ""
    started_at: float | None = None
    sidecar: bytes = b""


@said_on("rpc.storage.{agent_id}.captures")
class ReportCaptures(Request[Done], frozen=True):
    """What has changed among the captures of an attempt. Told again until answered; a report with a lower
    `number` than one before changes nothing, and no report takes a stored trace back. `Forbidden` when the
    attempt is another agent's."""

    agent_id: AgentId
    job_id: JobId
    attempt: int
    number: int
    captures: tuple[Capture, ...]


class TraceFacts(msgspec.Struct, frozen=True):
    """JSON of a `chisel_shared.traces.report.Summary` and of a `chisel_shared.traces.sidecar.Sidecar`,
    empty where there is none."""

    summary: bytes = b""
    sidecar: bytes = b""


@said_on("rpc.storage.trace")
class GetTraceFacts(Request[TraceFacts], frozen=True):
    """What is known of one trace besides its view."""

    job_id: JobId
    attempt: int
    name: str


class BundlePresence(msgspec.Struct, frozen=True):
    """`max_bytes` and `max_entries` are what the server takes in one bundle; 0: it does not say."""

    present: bool
    max_bytes: int = 0
    max_entries: int = 0


@said_on("rpc.storage.has-bundle")
class HasBundle(Request[BundlePresence], frozen=True):
    """Whether this project has stored this bundle: its manifest and every pack of it."""

    project_id: ProjectId
    digest: Digest
