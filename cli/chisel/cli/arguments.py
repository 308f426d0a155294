"""The command line of `chisel python`: which words are ours and which are the script's.

Our options may stand before `python`, between `python` and the script, and behind the script. Behind
`--` every word is the script's; so is every word behind the script when options stand before
`python`, because whoever writes them there has told the two apart. The script's words reach it as
they are, in their order.
"""

from typing import NamedTuple

from chisel.cli.table import RUN_OPTIONS, Option
from chisel_shared.contract.gpus import counts


class UsageError(Exception):
    """The command line makes no sense; the message says why and what would."""


class Run(NamedTuple):
    """A parsed command line. None: not said. `taken`: our words that stood behind the script."""

    script: str
    script_args: tuple[str, ...] = ()
    app_name: str | None = None
    upload_dir: str | None = None
    requirements: str | None = None
    gpu: int | None = None
    interactive: bool = False
    taken: tuple[str, ...] = ()


_BY_NAME = {name: option for option in RUN_OPTIONS for name in option.names}


def parse(words: list[str]) -> Run:
    """What the words behind `chisel` ask for; they hold `python` somewhere before the script."""
    values: dict[str, str] = {}
    at = _leading(words, 0, values)
    if words[at : at + 1] == ["--"]:
        at += 1
    if words[at : at + 1] != ["python"]:
        stray = words[at] if at < len(words) else "the end of the line"
        raise UsageError(f"`python` is expected instead of {stray}: chisel [options] python SCRIPT")
    ours_end_here = bool(values)
    at = _leading(words, at + 1, values)
    if words[at : at + 1] == ["--"]:
        at, ours_end_here = at + 1, True
        if at < len(words):
            return _run(words[at], words[at + 1 :], values, [])
    if at >= len(words):
        raise UsageError("which script? chisel python SCRIPT [its arguments] [--gpu 1|2|4|8]")
    script, rest = words[at], words[at + 1 :]
    if ours_end_here:
        if "--" in rest:
            rest.remove("--")
        return _run(script, rest, values, [])
    script_args, taken = _sort_out(rest, values)
    return _run(script, script_args, values, taken)


def _leading(words: list[str], at: int, values: dict[str, str]) -> int:
    """Take options from `at` on; the place of the first word that is none."""
    while at < len(words) and words[at].startswith("-") and words[at] not in ("-", "--"):
        took = _take(words, at, values, attached=True)
        if not took:
            raise UsageError(_unknown(words[at]))
        at += took
    return at


def _sort_out(words: list[str], values: dict[str, str]) -> tuple[list[str], list[str]]:
    """The script's words and ours, of those behind the script."""
    theirs: list[str] = []
    taken: list[str] = []
    at = 0
    while at < len(words):
        if words[at] == "--":
            return theirs + words[at + 1 :], taken
        took = _take(words, at, values)
        if took:
            taken += words[at : at + took]
        else:
            theirs.append(words[at])
        at += took or 1
    return theirs, taken


def _take(words: list[str], at: int, values: dict[str, str], *, attached: bool = False) -> int:
    """How many words from `at` on are one option of ours, kept in `values`; 0 when it is none.

    `attached` also reads `-g4`, which behind a script could be anything.
    """
    name, equals, value = words[at].partition("=")
    option = _BY_NAME.get(name)
    if option is None or (equals and not name.startswith("--")):
        option = _BY_NAME.get(words[at][:2]) if attached and not words[at].startswith("--") else None
        if option is None or not option.metavar:
            return 0
        name, equals, value = words[at][:2], "=", words[at][2:]
    if not option.metavar:
        if equals:
            raise UsageError(f"{name} takes no value")
        values[option.key] = "yes"
        return 1
    if not equals:
        value = words[at + 1] if at + 1 < len(words) else ""
        if value.startswith("-"):
            value = ""
    if not value:
        raise UsageError(_needs_value(option, name))
    values[option.key] = value
    return 1 if equals else 2


def _run(script: str, script_args: list[str], values: dict[str, str], taken: list[str]) -> Run:
    return Run(
        script=script,
        script_args=tuple(script_args),
        app_name=values.get("app_name"),
        upload_dir=values.get("upload_dir"),
        requirements=values.get("requirements"),
        gpu=gpu_count(values["gpu"], taken=bool(taken)) if "gpu" in values else None,
        interactive="interactive" in values,
        taken=tuple(taken),
    )


def gpu_count(text: str, *, taken: bool = False) -> int:
    """The number of GPUs `text` asks for; `UsageError` names those a job can have."""
    if text.isascii() and text.isdecimal() and int(text) in counts():
        return int(text)
    *most, last = (str(count) for count in counts())
    hint = "; if --gpu is the script's own option, put -- before it" if taken else ""
    raise UsageError(f"a job can have {', '.join(most)} or {last} GPUs, not {text}{hint}")


def _needs_value(option: Option, name: str) -> str:
    return f"{name} needs a value: {name} {option.metavar}"


def _unknown(word: str) -> str:
    if word in ("-m", "-c"):
        return f"chisel runs a script file, python's own option {word} is not supported: chisel python SCRIPT"
    from difflib import get_close_matches

    close = get_close_matches(word.partition("=")[0], _BY_NAME, n=1)
    meant = f"did you mean {close[0]}?" if close else "options of the script go behind it"
    return f"chisel has no option {word}; {meant}"
