"""`chisel config`: what holds for `chisel python` here, and which place says so."""

from typing import NamedTuple

from chisel import settings as client_settings
from chisel.cli import wording
from chisel.cli.arguments import Run
from chisel.cli.choices import Choices, choose
from chisel.cli.render import Screen
from chisel.cli.settings import LAYERED, variable

_DEFAULTS: dict[str, object] = {
    "upload_dir": ".",
    "gpu": 1,
    "interactive": None,
    "retries": 0,
    "priority": 0,
    "on_interrupt": "ask",
}

_IN_WORDS = {
    "app-name": "the script's name",
    "requirements": "the script's metadata, or requirements.txt",
    "interactive": "on a terminal, when no app name is given",
}
"""Defaults that depend on the job; None for programs."""


class Row(NamedTuple):
    setting: str
    value: object
    source: str
    """`default`, a variable, or a file with its line."""
    variable: str


def config(upload_dir: str | None, json: bool) -> int:
    screen = Screen()
    said = {"upload_dir": (upload_dir,)} if upload_dir else {}
    rows = [_backend(), *_rows(choose(Run("", options=said)))]
    if json:
        screen.json([row._asdict() for row in rows])
    else:
        table = [("SETTING", "VALUE", "FROM")]
        table += [(row.setting, _shown(row), row.source) for row in rows]
        screen.result(wording.table(table))
    return 0


def _rows(choices: Choices) -> list[Row]:
    rows = []
    for key, option in LAYERED.items():
        if choices.said(key):
            value: object = choices.value(key)
        else:
            value = () if option.many else _DEFAULTS.get(key, None if option.metavar else False)
        name = option.names[0].removeprefix("--")
        rows.append(
            Row(name, value, choices.where(key) or "default", "" if option.many else variable(option))
        )
    return rows


def _backend() -> Row:
    """Where `chisel` goes; nothing is started for the answer."""
    named = client_settings.named_backend()
    if named is not None:
        return Row("backend", named, client_settings.URL_VARIABLE, client_settings.URL_VARIABLE)
    from chisel import auth

    stored = auth.stored_backend()
    if stored is not None:
        return Row("backend", stored, "chisel login", client_settings.URL_VARIABLE)
    running = client_settings.local_backend()
    url = running.url if running is not None else None
    return Row("backend", url, "the one of this machine", client_settings.URL_VARIABLE)


def _shown(row: Row) -> str:
    match row.value:
        case None:
            return _IN_WORDS.get(row.setting, "-")
        case bool():
            return "true" if row.value else "false"
        case tuple():
            return ", ".join(map(str, row.value)) or "-"
        case float():
            return wording.duration(row.value)
        case _:
            return str(row.value)
