"""What is known of the captures of one attempt, told to storage whenever it changes.

A trace that is stored needs no telling: storage knows. Everything else is told again until it is
acknowledged, at most once a second while the job runs.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from chisel_agent import capture_folder
from chisel_agent.capture_folder import CaptureFolder, Facts
from chisel_agent.records import append_line
from chisel_shared.contract.errors import ChiselError
from chisel_shared.contract.messages import AttemptRef, Capture
from chisel_shared.contract.traces import STORED, TraceState
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.captures")

_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 5.0
_PAGE_BYTES = 256 << 10
"""Of sidecars in one message, which as base64 must stay well below what the bus takes."""
_PAGE_CAPTURES = 200

GIVEN_UP = "it could not be saved: what the job wrote to stderr says why"


class Reports(Protocol):
    async def report(self, ref: AttemptRef, captures: tuple[Capture, ...]) -> None:
        """One try. `Unavailable` and the like when another may help."""


_NO_FACTS = Facts()


@dataclass(slots=True)
class _Known:
    facts: Facts = _NO_FACTS
    state: TraceState = TraceState.RECORDING
    sent: int = 0
    total: int = 0
    reason: str = ""
    sidecar: bytes = b""
    """To be told with the next report."""
    changes: int = 0


class Captures:
    """`record` remembers which captures there were: of one that was given up nothing else is left."""

    def __init__(self, *, reports: Reports, ref: AttemptRef, folder: CaptureFolder, record: Path) -> None:
        self._reports = reports
        self._ref = ref
        self._folder = folder
        self._record = record
        self._known = self._read()
        self._untold: dict[str, None] = {}
        self._changed = asyncio.Event()
        self._telling = asyncio.Lock()

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def lost(self) -> int:
        return sum(known.state is TraceState.LOST for known in self._known.values())

    def in_state(self, state: TraceState) -> tuple[str, ...]:
        return tuple(name for name, known in self._known.items() if known.state is state)

    def told(self, name: str) -> bool:
        """Whether storage knows all that we know of it."""
        return name not in self._untold

    def takes(self, name: str) -> bool:
        """Whether it is one of the first captures of its attempt: a job that makes new ones for ever fills
        neither our memory nor storage's tables."""
        return name in self._known or len(self._known) < capture_folder.MOST_CAPTURES

    # What is seen

    def recording(self, name: str) -> None:
        """Its marker is there. What a marker says may come a moment after it."""
        known = self._known.get(name)
        if known is not None and known.facts != _NO_FACTS:
            return
        facts = self._folder.facts(name)
        if known is None or (facts is not None and facts != known.facts):
            self._known[name] = _Known(facts=facts or _NO_FACTS)
            self._write(name, facts or _NO_FACTS)
            self._change(name)

    def uploading(self, name: str, *, sent: int = 0, total: int = 0) -> None:
        """Its file is whole, and so much of it has gone."""
        known = self._known.get(name)
        if known is None or known.state is not TraceState.UPLOADING:
            facts = known.facts if known else _NO_FACTS
            known = self._known[name] = _Known(facts, TraceState.UPLOADING, sidecar=self._sidecar(name))
            self._change(name)
        if (known.sent, known.total) != (sent, total):
            known.sent, known.total = sent, total
            self._change(name)

    def stored(self, name: str) -> None:
        known = self._known.setdefault(name, _Known())
        if known.state is not TraceState.READY:
            known.state = TraceState.READY
            # Of what an agent before us stored nobody knows whether its sidecar was told.
            if not known.sidecar:
                known.sidecar = self._sidecar(name)
            if known.sidecar:
                self._change(name)

    def lose(self, name: str, reason: str) -> None:
        known = self._known.setdefault(name, _Known())
        if (known.state, known.reason) != (TraceState.LOST, reason):
            known.state, known.reason = TraceState.LOST, reason
            self._change(name)

    # What is told

    async def tell_on(self) -> None:
        """Tell what changes, until cancelled."""
        pause = _PAUSE_SECONDS
        while True:
            await self._changed.wait()
            told = await self._try_to_tell()
            pause = _PAUSE_SECONDS if told else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    async def tell_all(self) -> None:
        """Return when storage knows everything, however long that takes."""
        pause = 0.1
        while not await self._try_to_tell():
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _try_to_tell(self) -> bool:
        async with self._telling:
            while self._untold:
                page = dict(self._page())
                before = {name: self._known[name].changes for name in page}
                try:
                    await self._reports.report(self._ref, tuple(page.values()))
                except ChiselError as error:
                    if error.retryable:
                        log.debug("captures_untold", error=str(error))
                        return False
                    log.warning("captures_refused", error=str(error))
                for name, changes in before.items():
                    known = self._known[name]
                    if page[name].sidecar == known.sidecar:
                        known.sidecar = b""
                    if known.changes == changes:
                        del self._untold[name]
            self._changed.clear()
            return True

    def _page(self) -> Iterator[tuple[str, Capture]]:
        size = 0
        for number, name in enumerate(tuple(self._untold)):
            known = self._known[name]
            size += len(known.sidecar)
            if number and (size > _PAGE_BYTES or number >= _PAGE_CAPTURES):
                return
            yield (
                name,
                Capture(
                    name=name,
                    # What is stored only storage can say.
                    state=TraceState.UPLOADING if known.state in STORED else known.state,
                    sent_bytes=known.sent,
                    total_bytes=known.total,
                    reason=known.reason,
                    call=known.facts.call,
                    rank=known.facts.rank,
                    function=known.facts.function[:300],
                    started_at=known.facts.started_at,
                    sidecar=known.sidecar,
                ),
            )

    def _change(self, name: str) -> None:
        self._known[name].changes += 1
        self._untold[name] = None
        self._changed.set()

    def _sidecar(self, name: str) -> bytes:
        try:
            return self._folder.sidecar(name)
        except ValueError as error:
            log.warning("sidecar_dropped", name=name, error=str(error))
            return b""

    # What is remembered

    def _write(self, name: str, facts: Facts) -> None:
        line = msgspec.json.encode([name, facts])
        try:
            append_line(self._record, line)
        except OSError as error:
            log.warning("capture_not_noted", error=repr(error))

    def _read(self) -> dict[str, _Known]:
        known: dict[str, _Known] = {}
        try:
            lines = self._record.read_bytes().splitlines()
        except OSError:
            return known
        for line in lines:
            try:
                name, facts = json.loads(line)
                known[name] = _Known(facts=msgspec.convert(facts, Facts))
            except (ValueError, TypeError, msgspec.MsgspecError):
                continue  # cut short by a full disk or a crash
        return known
