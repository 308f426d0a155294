"""What holds for one `chisel python`: of every option the value of the first layer that has one.

The layers are flags, the environment, the project's file, the user's file, and the defaults.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

from chisel.cli import settings
from chisel.cli.arguments import Run
from chisel.cli.settings import Said
from chisel.cli.table import RUN_OPTIONS, Option
from chisel.cli.values import READERS, UsageError, switch

_PATHS = ("upload_dir", "requirements")


class Choice(NamedTuple):
    """A value as its reader made it, or a tuple of them for an option with `many`; and who said so."""

    value: object
    where: str


class Choices:
    """By the option's key. What nobody said is None, False for a switch, () for `many`."""

    def __init__(self, chosen: Mapping[str, Choice]) -> None:
        self._chosen = dict(chosen)

    def flag(self, key: str) -> bool:
        return bool(self.value(key))

    def text(self, key: str) -> str | None:
        value = self.value(key)
        return None if value is None else str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.value(key)
        return tuple(str(one) for one in value) if isinstance(value, tuple) else ()

    def number(self, key: str) -> float | None:
        value = self.value(key)
        assert value is None or isinstance(value, int | float)
        return value

    def whole(self, key: str, default: int) -> int:
        value = self.number(key)
        return default if value is None else int(value)

    def where(self, key: str) -> str:
        """The flag, variable or file and line that said it; empty for a default."""
        choice = self._chosen.get(key)
        return choice.where if choice else ""

    def said(self, key: str) -> bool:
        return key in self._chosen

    def replace(self, **values: object) -> "Choices":
        """The same with other values, which a person gave on the terminal."""
        answers = {key: Choice(value, "answered") for key, value in values.items()}
        return Choices({**self._chosen, **answers})

    def value(self, key: str) -> object:
        choice = self._chosen.get(key)
        return choice.value if choice else None


def choose(run: Run) -> Choices:
    """The choices of a command line; `UsageError` says which place has a value that makes no sense."""
    flags = {key: Said(texts, "") for key, texts in run.options.items()}
    environment = settings.from_environment()
    folder = flags.get("upload_dir") or environment.get("upload_dir")
    start = folder.texts[-1] if folder else "."
    layers = (flags, environment, settings.from_project(start), settings.from_user())
    chosen = {}
    for option in RUN_OPTIONS:
        for layer in layers:
            if option.key in layer:
                chosen[option.key] = _choice(option, layer[option.key], run)
                break
    return Choices(chosen)


def _choice(option: Option, said: Said, run: Run) -> Choice:
    name = option.names[0]
    try:
        if not option.metavar:
            return Choice(not said.where or switch(said.texts[-1]), said.where or name)
        read = READERS[option.kind]
        texts = [_from(said.folder, text) if option.key in _PATHS else text for text in said.texts]
        values = tuple(read(text) for text in texts)
    except UsageError as error:
        if said.where:
            raise UsageError(f"{said.where}: {error}") from error
        behind = any(word.partition("=")[0] in option.names for word in run.taken)
        hint = f"; if {name} is the script's own option, put -- before it" if behind else ""
        raise UsageError(f"{error}{hint}") from error
    return Choice(values if option.many else values[-1], said.where or name)


def _from(folder: str, path: str) -> str:
    return os.path.join(folder, path) if folder else path
