"""What the gateway of these tests does, as plain attributes: a test says in one line what happens."""

from dataclasses import dataclass, field

from chisel_shared.contract import frames
from chisel_shared.contract.files import FileMode
from chisel_shared.contract.job import EndReason, JobEnd
from chisel_shared.contract.messages import TraceView

Piece = tuple[str, bytes]


@dataclass
class Script:
    """What the gateway does. Counters such as `cut_after` are used up as connections come."""

    pieces: list[Piece] = field(default_factory=list)
    end: JobEnd | None = field(default_factory=lambda: JobEnd(reason=EndReason.EXIT, exit_code=0))
    """None: the job runs until it is cancelled."""
    cancelled_end: JobEnd = field(default_factory=lambda: JobEnd(reason=EndReason.USER))
    ignores_cancels: bool = False
    starts: bool = True
    """False: the job stays in the queue."""
    attempt: int = 1
    cut_after: list[int] = field(default_factory=list)
    """One connection each: drop it, without a goodbye, after so many bytes of output."""
    skip: list[int] = field(default_factory=list)
    """One connection each: leave out so many bytes, as a defect would."""
    failures: list[frames.Failure] = field(default_factory=list)
    """Answers to the next submissions."""
    forget_accepted: int = 0
    """So many submissions are committed, but their connection drops before the answer."""
    refuse: list[int] = field(default_factory=list)
    """HTTP statuses for the next WebSocket requests."""
    cut_uploads: int = 0
    """So many uploads are dropped half-way."""
    reject_upload: int = 0
    """HTTP status for uploads, sent before their body is read; 0 accepts them."""
    forgets_bundles: bool = False
    max_bytes: int = 0
    max_entries: int = 0
    waiting: str = ""
    queue: list[str] = field(default_factory=list)
    """Other reasons to wait, told one after the other without a new version of the job."""
    chunk: int = 64 * 1024
    begins: dict[str, int] = field(default_factory=lambda: {"stdout": 0, "stderr": 0})
    """Where output begins for whoever asks for its last lines or for what is new."""
    time: float = 0.0
    silent: bool = False
    """Accept connections and never say anything."""
    traces: dict[str, bytes] = field(default_factory=dict)
    damage_traces: bool = False
    packs_traces: bool = False
    """Traces are stored and sent as gzip files."""
    trace_views: list[tuple[TraceView, ...]] = field(default_factory=list)
    """What the next questions for traces are answered with; the last one stays."""
    outputs: dict[str, tuple[FileMode, bytes]] = field(default_factory=dict)
    missing_outputs: int = 0
    """So many files are announced and never stored."""
    cut_downloads: list[int] = field(default_factory=list)
    """One download each: drop it after so many bytes of the file."""
    damage_downloads: int = 0
    """So many downloads have another last byte."""
