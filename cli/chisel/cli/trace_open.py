"""`chisel trace open`: a trace in Perfetto, from this machine to this user's browser."""

import os

from chisel import settings
from chisel.cli import trace_sources as sources
from chisel.cli import wording
from chisel.cli.render import Screen
from chisel.cli.trace_desk import Desk, local, parse, statuses
from chisel.cli.trace_sources import Local, NoSuchTrace, OfJob
from chisel_shared.contract.errors import UserError
from chisel_shared.traces import words

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is
if TYPE_CHECKING:
    from chisel.cli.trace_desk import File
    from chisel.viewing import Viewing
    from chisel_shared import perfetto

_LARGE_BYTES = 300_000_000
_COMPRESSED = 12
"""How much smaller a trace is with gzip, about."""


class NoCopy(UserError):
    """neither the backend nor this machine has the Perfetto UI: pip install 'chisel-gpu[viewer]'"""


def open_trace(trace: str, offline: bool, no_browser: bool, quiet: bool, json: bool) -> int:
    screen = Screen(quiet=quiet)
    with statuses(), Desk(screen) as desk:
        source = parse(trace)
        file, raw_bytes = _file(screen, desk, source)
        if raw_bytes > _LARGE_BYTES:
            screen.say(
                f"{file.name} has {wording.size(raw_bytes)}, which a browser is slow with or gives up on;"
                f" a part of it: chisel trace slice {trace} --drop python,flows -o part.json"
            )
        ui, copy = _copy(desk, source) if offline else ("", None)
        with _viewing(screen, file, ui, copy) as viewing:
            _show(screen, viewing, no_browser=no_browser, json=json)
            try:
                viewing.wait()
            except KeyboardInterrupt:
                return 0
    return 0


def _file(screen: Screen, desk: Desk, source: Local | OfJob) -> "tuple[File, int]":
    """The trace as a file, and how large it is as JSON."""
    if isinstance(source, Local):
        try:
            with open(source.path, "rb") as opened:
                packed = opened.read(2) == b"\x1f\x8b"
                size = os.fstat(opened.fileno()).st_size
        except OSError as error:
            raise NoSuchTrace(f"{source.path} cannot be opened: {error.strerror}") from error
        return local(source.path), size * _COMPRESSED if packed else size
    family = sources.named(desk.traces(source), source)
    chosen = sources.first(family, source)
    others = [trace for trace in family if trace is not chosen]
    if others and words.stem(chosen.name) != words.stem(source.name):
        screen.say(f"this is {chosen.name}; there are also {sources.listed(others, job=source.job)}")
    return desk.file(chosen), chosen.size_bytes


def _copy(desk: Desk, source: Local | OfJob) -> "tuple[str, perfetto.Copy | None]":
    """A copy of the UI: of a job's backend, which has it for its users, else one that is installed here."""
    from chisel_shared import perfetto

    if isinstance(source, OfJob):
        place = desk.client.perfetto()
        if place is not None:
            return place + perfetto.ROUTE, None
    copy = perfetto.find()
    if copy is not None:
        return perfetto.PATH + perfetto.ROUTE, copy
    place = desk.client.perfetto()
    if place is None:
        raise NoCopy
    return place + perfetto.ROUTE, None


def _viewing(screen: Screen, file: "File", ui: str, copy: "perfetto.Copy | None") -> "Viewing":
    from chisel import viewing

    name = os.path.basename(file.path)
    if ui:
        return viewing.own_page(file.path, name, ui=ui, copy=copy)
    try:
        return viewing.at_perfetto(file.path, name)
    except viewing.PortTaken:
        screen.say(f"port {viewing.PERFETTO_PORT} is taken, so a page of this machine hands the trace over")
        return viewing.own_page(file.path, name)


def _show(screen: Screen, viewing: "Viewing", *, no_browser: bool, json: bool) -> None:
    """Open the browser where there is one to open, else say how to get there."""
    import webbrowser

    if json:
        screen.json({"url": viewing.url, "port": viewing.port})
    here = settings.has_browser()
    if here and not no_browser and webbrowser.open(viewing.url):
        screen.say(f"opened {viewing.url}")
    else:
        if not json:
            screen.result(viewing.url)
        tunnel = settings.tunnel(viewing.port)
        if tunnel and not here:
            screen.say(f"on your own machine first: {tunnel}")
    screen.say(
        "allow the page to reach this device if the browser asks; this goes on until it has the trace",
        detail=True,
    )
