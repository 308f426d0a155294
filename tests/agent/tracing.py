"""What surrounds the traces of one attempt, small: a job's folder, and where traces go and are told of."""

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from chisel_agent.outgoing import OutgoingTrace
from chisel_agent.traces import TraceUploads
from chisel_shared.contract.errors import BadRequest, ChiselError, Unavailable
from chisel_shared.contract.ids import JobId, new_id
from chisel_shared.contract.messages import AttemptRef, Capture
from chisel_shared.contract.traces import TraceState

REF = AttemptRef(job_id=JobId(new_id()), attempt=1)
EVENTS = json.dumps({"traceEvents": [{"name": f"kernel {n}", "ts": n} for n in range(50_000)]}).encode()


class Backend:
    """Where traces go and captures are told: keeps what comes, breaks when told to."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}
        self.kept: dict[str, bytes] = {}
        self.offsets: list[int] = []
        self.cut: int | None = None
        self.refuses: ChiselError | None = None
        self.deaf: ChiselError | None = None
        self.told: list[tuple[Capture, ...]] = []
        self.on_piece: Callable[[], None] = lambda: None

    async def trace_bytes(self, ref: AttemptRef, trace: OutgoingTrace) -> int:
        if self.refuses is not None:
            raise self.refuses
        return len(self.parts.get(trace.digest, b""))

    async def store_trace(self, ref: AttemptRef, trace: OutgoingTrace, offset: int) -> None:
        self.offsets.append(offset)
        data = self.parts.get(trace.digest, b"")[:offset]
        async for piece in trace.pieces(offset):
            data += piece
            self.parts[trace.digest] = data
            self.on_piece()
            if self.cut is not None and len(data) >= self.cut:
                self.cut = None
                raise Unavailable
        if hashlib.sha256(data).hexdigest() != trace.digest or len(data) != trace.size:
            raise BadRequest("another file arrived")
        self.kept[trace.name] = gzip.decompress(data) if trace.raw else data

    async def report(self, ref: AttemptRef, captures: tuple[Capture, ...]) -> None:
        if self.deaf is not None:
            raise self.deaf
        self.told.append(captures)

    @property
    def known(self) -> dict[str, Capture]:
        return {capture.name: capture for page in self.told for capture in page}

    def states(self, name: str) -> list[TraceState]:
        """What was told of a capture, repeats left out."""
        found = [capture.state for page in self.told for capture in page if capture.name == name]
        return [state for number, state in enumerate(found) if number == 0 or found[number - 1] != state]


def uploads(backend: Backend, folder: Path, **more: int) -> TraceUploads:
    return TraceUploads(store=backend, reports=backend, ref=REF, folder=folder, **more)


MARKER = {"name": "train", "function": "m.train", "call": 2, "rank": 1, "pid": 7, "started_at": 5.5}


def begin(folder: Path, stem: str = "train") -> Path:
    """A capture has begun."""
    marker = folder / f".{stem}.open"
    marker.write_text(json.dumps(MARKER))
    return marker


def save(folder: Path, stem: str = "train", data: bytes = EVENTS, sidecar: bytes = b"{}") -> None:
    """A capture is saved, as the SDK does it."""
    (folder / f"{stem}.meta.json").write_bytes(sidecar)
    aside = folder / f".{stem}.7.tmp.json"
    aside.write_bytes(data)
    aside.rename(folder / f"{stem}.json")
    (folder / f".{stem}.open").unlink(missing_ok=True)
