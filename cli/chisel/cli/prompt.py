"""What a job needs and nobody said, asked for on the terminal: Enter takes what is shown.

`-i` asks for everything. Without it the app name alone is asked for when nothing gives one, and its
answer decides: Enter runs the job as it stands, a name goes on to the other questions.
"""

import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from chisel.cli import values
from chisel.cli.arguments import Run
from chisel.cli.choices import Choices
from chisel.cli.render import Screen
from chisel.cli.table import RUN_OPTIONS, Option
from chisel.cli.values import UsageError
from chisel.layout import DEFAULT_REQUIREMENTS, BadInput, Layout, locate
from chisel.spec import default_name
from chisel_shared.contract.errors import ChiselError
from chisel_shared.contract.gpus import DEFAULT_MODEL

if TYPE_CHECKING:
    from chisel.client import Client

T = TypeVar("T")

_ASKED = ("app_name", "upload_dir", "requirements", "gpu", "interactive")
_OPTIONS = {option.key: option for option in RUN_OPTIONS}


def ask(run: Run, choices: Choices, screen: Screen, client: "Client") -> Choices:
    """`choices` with the questions answered; what was chosen before is shown and taken by Enter."""
    questions = _Questions(run, choices, screen, client)
    answered = questions.all() if choices.flag("interactive") else questions.name_first()
    screen.say(f"the same without questions: {_equivalent(run, answered, choices)}")
    return answered


class _Questions:
    def __init__(self, run: Run, choices: Choices, screen: Screen, client: "Client") -> None:
        self._run = run
        self._choices = choices
        self._screen = screen
        self._client = client
        self._default_name = choices.text("app_name") or default_name(run.how, run.script)

    def name_first(self) -> Choices:
        choices = self._choices
        count = choices.whole("gpu", 1)
        self._screen.say(
            f"{count} {'GPU' if count == 1 else 'GPUs'}, directory {choices.text('upload_dir') or '.'};"
            " Enter runs it, another name asks for the rest"
        )
        name = self._ask("App name", self._default_name, _name)
        if name == self._default_name:
            return choices.replace(app_name=name)
        return self._others(name)

    def all(self) -> Choices:
        return self._others(self._ask("App name", self._default_name, _name))

    def _others(self, name: str) -> Choices:
        choices = self._choices
        folder = self._ask("Upload directory", choices.text("upload_dir") or ".", self._folder)
        named = choices.text("requirements")
        found = self._layout(folder, named).requirements
        file = self._ask(
            "Requirements file",
            named or found or "none",
            lambda answer: self._requirements(folder, answer, unless=None if named else found or "none"),
        )
        count = self._ask(f"GPUs, 1, 2, 4 or 8{self._free()}", str(choices.whole("gpu", 1)), values.gpu)
        answers: dict[str, object] = {"app_name": name, "upload_dir": folder, "gpu": count}
        if file is not None:
            answers["requirements"] = file
        return choices.replace(**answers)

    def _folder(self, answer: str) -> str:
        self._layout(answer, None)
        return answer

    def _requirements(self, folder: str, answer: str, *, unless: str | None) -> str | None:
        """None leaves it to what is found."""
        if answer == unless:
            return None
        self._layout(folder, answer)
        return answer

    def _layout(self, folder: str, requirements: str | None) -> Layout:
        script = None if self._run.how else self._run.script
        try:
            return locate(script, upload_dir=folder, requirements=requirements)
        except (AssertionError, BadInput) as error:
            raise UsageError(str(error)) from error

    def _free(self) -> str:
        """What is free now; nothing when that cannot be told, for it decides nothing."""
        try:
            kinds = {kind.model: kind for kind in self._client.gpus()}
        except ChiselError:
            return ""
        kind = kinds.get(DEFAULT_MODEL)
        if kind is None:
            return ""
        most = f", at most {kind.largest_free} on one machine" if kind.largest_free < kind.free else ""
        return f" ({kind.free} of {kind.total} free now{most})"

    def _ask(self, question: str, default: str, read: Callable[[str], T]) -> T:
        """The first answer that makes sense."""
        while True:
            try:
                self._screen.ask(f"{question} [{default}]: ")
                answer = sys.stdin.readline()
                if not answer:
                    raise KeyboardInterrupt  # end of input: nobody is there to answer
            except KeyboardInterrupt:
                self._screen.ask("\n")
                raise
            try:
                return read(answer.strip() or default)
            except UsageError as error:
                self._screen.error(str(error))


def _name(answer: str) -> str:
    if answer.isprintable() and len(answer) <= 200:
        return answer
    raise UsageError("a name has 1 to 200 printable characters")


def _equivalent(run: Run, choices: Choices, before: Choices) -> str:
    """The command line that asks for the same and needs no answers, as it may be pasted into a shell."""
    words = ["chisel", "python", "--app-name", choices.text("app_name") or ""]
    for option, default in (("upload_dir", "."), ("requirements", DEFAULT_REQUIREMENTS), ("gpu", "1")):
        value = choices.text(option)
        if value is not None and (value != default or before.said(option)):
            words += [f"--{option.replace('_', '-')}", value]
    for key, texts in run.options.items():
        if key not in _ASKED:
            words += _as_words(_OPTIONS[key], texts)
    words += [*run.interpreter, *([run.how] if run.how else []), run.script]
    # Behind the separator no word of the script's can be taken for one of ours.
    words += ["--", *run.script_args] if run.script_args else []
    return shlex.join(words)


def _as_words(option: Option, texts: tuple[str, ...]) -> list[str]:
    name = option.names[0]
    return [f"{name}={text}" for text in texts] if option.metavar else [name]
