"""What somebody may have meant whose first word is no command. Pure: nothing here prints."""

from collections.abc import Sequence
from difflib import get_close_matches
from shlex import join

from chisel.cli.table import RUN_OPTIONS, names

ELSEWHERE = {
    "run": "python", "submit": "python", "launch": "python", "exec": "python", "python3": "python",
    "job": "status", "show": "status", "info": "status", "describe": "status",
    "jobs": "ps", "queue": "ps", "squeue": "ps", "top": "ps --watch",
    "cat": "logs", "output": "logs", "tail": "logs", "log": "logs",
    "scancel": "cancel", "abort": "cancel", "delete": "cancel",
    "nodes": "gpus", "agents": "gpus", "workers": "gpus", "sinfo": "gpus", "gpu": "gpus",
    "download": "pull", "get": "pull", "fetch": "pull", "traces": "trace ls", "secrets": "secret ls",
    "retry": "rerun", "resubmit": "rerun", "auth": "login", "settings": "config",
    "start": "up", "server": "up", "users": "admin users ls",
}  # fmt: skip
"""What other systems call it."""


def unknown(words: Sequence[str]) -> str:
    """The sentence about the command line `words`, of which the first is no command and no option here."""
    word = words[0]
    if any(word.partition("=")[0] in option.names for option in RUN_OPTIONS):
        script = next((at for at, other in enumerate(words) if other.endswith(".py")), None)
        line = "OPTIONS python SCRIPT"
        if script is not None:
            line = join([*words[:script], "python", *words[script:]])
        return f"`python` is missing before the script: chisel {line}"
    close = get_close_matches(word, [*names(), "help"], n=1, cutoff=0.5)
    if word.endswith(".py"):
        hint = f"did you mean `chisel {join(['python', *words])}`?"
    elif ELSEWHERE.get(word) == "python":
        rest = words[2:] if words[1:2] == ["python"] else words[1:]
        hint = f"did you mean `chisel {join(['python', *rest])}`?"
    elif meant := ELSEWHERE.get(word) or next(iter(close), ""):
        hint = f"did you mean `chisel {meant}`?"
    else:
        hint = "`chisel --help` lists what there is"
    return f"there is no {'option' if word.startswith('-') else 'command'} {word}: {hint}"
