"""`chisel python -i`: the four things a job needs, asked for on the terminal, Enter for the default."""

import sys

from chisel.cli import wording
from chisel.cli.arguments import Run
from chisel.cli.choices import Choices
from chisel.cli.render import Screen
from chisel.cli.values import UsageError, gpu
from chisel.layout import DEFAULT_REQUIREMENTS


def ask(run: Run, choices: Choices, screen: Screen) -> Choices:
    """`choices` with every question answered; what was chosen before is the default."""
    if not (sys.stdin.isatty() and screen.is_terminal):
        raise UsageError("--interactive needs a terminal to ask on")
    app_name = choices.text("app_name") or wording.default_name(run.how, run.script)
    requirements = choices.text("requirements")
    answers: dict[str, object] = {
        "app_name": _line(screen, "App name", app_name),
        "upload_dir": _line(screen, "Upload directory", choices.text("upload_dir") or "."),
    }
    wanted = _line(screen, "Requirements file", requirements or DEFAULT_REQUIREMENTS)
    answers["requirements"] = requirements if wanted == DEFAULT_REQUIREMENTS else wanted
    while "gpu" not in answers:
        try:
            answers["gpu"] = gpu(_line(screen, "GPUs (1, 2, 4 or 8)", str(choices.whole("gpu", 1))))
        except UsageError as error:
            screen.error(str(error))
    return choices.replace(**answers)


def _line(screen: Screen, question: str, default: str) -> str:
    screen.ask(f"{question} [{default}]: ")
    answer = sys.stdin.readline()
    if not answer:
        raise KeyboardInterrupt  # end of input: nobody is there to answer
    return answer.strip() or default
