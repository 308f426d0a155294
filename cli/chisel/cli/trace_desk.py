"""Getting what a trace command is about: a summary, or files to read here.

Of a job's trace the server has the summary, and nothing is loaded for it; a file is read here, with numpy. A
trace that has to be here as a file is fetched once and kept (`trace_cache.py`).
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NamedTuple

from chisel import settings
from chisel.cli import trace_sources as sources
from chisel.cli import wording
from chisel.cli.backend import connect
from chisel.cli.render import Screen
from chisel.cli.trace_sources import Local, NoSuchTrace, NotWhole, OfJob, Source
from chisel_shared.contract.errors import Conflict, NotFound, UserError
from chisel_shared.contract.traces import STORED, Reading, TraceState

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is
if TYPE_CHECKING:
    from chisel.client import Client
    from chisel.trace_cache import TraceCache
    from chisel_shared.contract.messages import TraceView
    from chisel_shared.traces.columns import Columns
    from chisel_shared.traces.report import Summary
    from chisel_shared.traces.sidecar import Sidecar

_AT_ONCE_BYTES = 8 << 20
"""Of a trace that is fetched without a word about it."""
_READING_SECONDS = 60.0
"""For so long a summary is waited for that the server is still making."""
_LOOK_SECONDS = 0.3


class NeedsNumpy(UserError):
    """To read a trace file here takes numpy: pip install 'chisel-gpu[trace]'"""


class CannotKeep(UserError):
    """A trace cannot be kept on this machine."""

    exit_code = 2  # 1 is what a comparison says of a regression


class File(NamedTuple):
    """A trace as a file of this machine. `name` is what it is called, `sidecar` what was noted beside it."""

    path: str
    name: str
    sidecar: "Sidecar | None" = None


class Loaded(NamedTuple):
    """A trace that was read here."""

    columns: "Columns"
    summary: "Summary"


@contextmanager
def statuses() -> Iterator[None]:
    """What is not found ends every trace command with 3, and a disk that does not take what is fetched with
    a sentence."""
    try:
        yield
    except NoSuchTrace:
        raise
    except NotFound as error:
        raise NoSuchTrace(str(error)) from error
    except OSError as error:
        where = f"{error.filename} cannot be used" if error.filename else "a file cannot be used"
        raise CannotKeep(f"{where}: {error.strerror or error}") from error


class Desk:
    """One command's way to its traces; it connects when a job is named, not before."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._client: Client | None = None
        self._cache: TraceCache | None = None
        self._used: set[str] = set()

    def __enter__(self) -> "Desk":
        return self

    def __exit__(self, *raised: object) -> None:
        if self._client is not None:
            self._client.close()
        if self._cache is not None:
            self._cache.trim(keep=frozenset(self._used))

    @property
    def client(self) -> "Client":
        if self._client is None:
            self._client = connect(self._screen)
        return self._client

    def traces(self, source: OfJob) -> "list[TraceView]":
        """The traces of a job's newest attempt that has any, in the order they were taken."""
        return sources.of_newest_attempt(self.client.traces(source.job))

    def summary(self, source: Source) -> "tuple[Summary, list[TraceView]]":
        """The summary of what is meant, and the other traces that were meant as well."""
        if isinstance(source, Local):
            return load(local(source.path)).summary, []
        family = sources.named(self.traces(source), source)
        chosen = sources.first(family, source)
        return self._summary(chosen), [trace for trace in family if trace is not chosen]

    def files(self, source: Source) -> list[File]:
        """All that is meant, as files."""
        if isinstance(source, Local):
            return [local(source.path)]
        return [self.file(trace) for trace in sources.named(self.traces(source), source)]

    def one_file(self, source: Source) -> File:
        """The one trace that is meant, as a file."""
        if isinstance(source, Local):
            return local(source.path)
        return self.file(sources.one(self.traces(source), source))

    def file(self, trace: "TraceView") -> File:
        """A trace of a job as a file, compressed; its content is verified."""
        whole(trace)
        if self._cache is None:
            from chisel.trace_cache import TraceCache

            self._cache = TraceCache(os.path.join(settings.cache_folder(), "traces"))
        digest = trace.stored_sha256 or trace.sha256
        path = self._cache.get(digest, f"{trace.name}.gz", lambda folder: self._fetched(trace, folder))
        self._used.add(digest)
        return File(path, trace.name, self._sidecar(trace))

    def _fetched(self, trace: "TraceView", folder: str) -> str:
        size = trace.stored_bytes or trace.size_bytes
        if size > _AT_ONCE_BYTES:
            self._screen.say(f"fetching {trace.name}, {wording.size(size)}", detail=True)
        return self.client.download_trace(trace, folder, gz=True)

    def _sidecar(self, trace: "TraceView") -> "Sidecar | None":
        try:
            return self.client.trace_meta(trace)
        except NotFound:
            return None

    def _summary(self, trace: "TraceView") -> "Summary":
        """What the server read, when it has done so; read here where the server could not."""
        whole(trace)
        deadline = time.monotonic() + _READING_SECONDS
        if trace.reading is Reading.PENDING:
            self._screen.say(f"the server is reading {trace.name}", detail=True)
        while trace.reading is Reading.PENDING and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            now = self.client.traces(trace.job_id)
            trace = next(
                (one for one in now if (one.name, one.attempt) == (trace.name, trace.attempt)), trace
            )
        if trace.reading is Reading.FAILED and has_numpy():
            return load(self.file(trace)).summary
        try:
            return self.client.trace_summary(trace)
        except Conflict as error:
            raise NotWhole(str(error)) from error


def whole(trace: "TraceView") -> None:
    """`NotWhole` for a trace of which the server has nothing."""
    if trace.state in STORED:
        return
    said = {
        TraceState.RECORDING: "is still being recorded",
        TraceState.UPLOADING: "is still on its way: try again in a moment",
        TraceState.LOST: "is lost" + (f": {trace.reason}" if trace.reason else ""),
    }
    raise NotWhole(f"{trace.name} {said.get(trace.state, f'is {trace.state}')}")


def has_numpy() -> bool:
    return find_spec("numpy") is not None


def is_file(path: str) -> bool:
    return os.path.isfile(path)


def local(path: str) -> File:
    """A file of this machine, with the sidecar that lies beside it."""
    from chisel_shared.traces import sidecar, words

    folder, name = os.path.split(path)
    try:
        with open(os.path.join(folder, words.stem(name) + sidecar.SUFFIX), "rb") as file:
            return File(path, name, sidecar.decode(file.read(sidecar.MAX_BYTES + 1)))
    except (OSError, ValueError):  # there is none, or none that can be read; msgspec's errors are ValueErrors
        return File(path, name)


@contextmanager
def reading(file: File) -> Iterator[None]:
    """While a file is read: `NotWhole` when it is no trace, `NeedsNumpy` when nothing here can read one."""
    if not has_numpy():
        raise NeedsNumpy
    from chisel_shared.traces.source import TraceError

    try:
        yield
    except TraceError as error:
        raise NotWhole(f"{file.path} cannot be read: {error}") from error
    except OSError as error:
        raise NoSuchTrace(f"{error.filename or file.path} cannot be opened: {error.strerror}") from error


def columns_of(file: File) -> "Columns":
    with reading(file):
        from chisel_shared.traces.read import read

        return read(file.path)


def load(file: File) -> Loaded:
    """A file and its summary; errors as from `reading`."""
    with reading(file):
        from chisel_shared.traces.read import read
        from chisel_shared.traces.summary import summarize

        columns = read(file.path)
        return Loaded(columns, summarize(columns, name=file.name, sidecar=file.sidecar))


def parse(text: str) -> Source:
    return sources.parse(text, is_file)


def all_loaded(files: Sequence[File]) -> list[Loaded]:
    return [load(file) for file in files]
