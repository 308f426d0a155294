"""`chisel python -i`: the four things a job needs, asked for on the terminal, Enter for the default."""

import os
import sys

from chisel.cli.arguments import Run, UsageError, gpu_count
from chisel.cli.render import Screen
from chisel.layout import DEFAULT_REQUIREMENTS


def ask(run: Run, screen: Screen) -> Run:
    """`run` with every option answered; what was given on the command line is the default."""
    if not (sys.stdin.isatty() and screen.is_terminal):
        raise UsageError("--interactive needs a terminal to ask on")
    stem = os.path.splitext(os.path.basename(run.script))[0]
    app_name = _line(screen, "App name", run.app_name or stem)
    upload_dir = _line(screen, "Upload directory", run.upload_dir or ".")
    wanted = _line(screen, "Requirements file", run.requirements or DEFAULT_REQUIREMENTS)
    requirements = run.requirements if wanted == DEFAULT_REQUIREMENTS else wanted
    gpu = None
    while gpu is None:
        try:
            gpu = gpu_count(_line(screen, "GPUs (1, 2, 4 or 8)", str(run.gpu or 1)))
        except UsageError as error:
            screen.error(str(error))
    return run._replace(app_name=app_name, upload_dir=upload_dir, requirements=requirements, gpu=gpu)


def _line(screen: Screen, question: str, default: str) -> str:
    screen.ask(f"{question} [{default}]: ")
    answer = sys.stdin.readline()
    if not answer:
        raise KeyboardInterrupt  # end of input: nobody is there to answer
    return answer.strip() or default
