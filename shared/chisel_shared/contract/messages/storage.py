"""What is asked of the storage service."""

import msgspec

from chisel_shared.contract.ids import Digest, JobId, ProjectId
from chisel_shared.contract.subjects import Request, said_on


class TraceView(msgspec.Struct, frozen=True):
    """A saved trace file."""

    job_id: JobId
    attempt: int
    name: str
    """The file name, `{trace_name}.json`."""
    size_bytes: int
    sha256: Digest


class Traces(msgspec.Struct, frozen=True):
    traces: tuple[TraceView, ...]


@said_on("rpc.storage.traces")
class ListTraces(Request[Traces], frozen=True):
    """The traces of a job, by attempt and name. The asker has checked whose job it is."""

    job_id: JobId


class BundlePresence(msgspec.Struct, frozen=True):
    present: bool


@said_on("rpc.storage.has-bundle")
class HasBundle(Request[BundlePresence], frozen=True):
    """Whether this project has stored this bundle."""

    project_id: ProjectId
    digest: Digest
