"""The command line of `chisel python`: which words are ours and which are the script's.

Our options may stand before `python`, between `python` and the script, and behind the script. Behind
`--` every word is the script's; so is every word behind the script when options stand before
`python`, because whoever writes them there has told the two apart. The script's words reach it as
they are, in their order. In the place of the script may stand `-m MODULE` or `-c CODE`, and before it
those options of the interpreter that a job has a use for.
"""

from collections.abc import Mapping
from typing import NamedTuple

from chisel.cli.table import RUN_OPTIONS, Option
from chisel.cli.values import UsageError

_INTERPRETER_SWITCHES = ("-u", "-B", "-O", "-OO")
_INTERPRETER_VALUES = ("-W", "-X")


class Run(NamedTuple):
    """A parsed command line.

    `script` is a file, or with `how` being `-m` or `-c` a module or code. `options` has what was said
    of ours by the option's key, every time in order, a switch as `"yes"`. `interpreter`: options of
    python's own. `taken`: our words that stood behind the script. `passed_on`: names of ours that are the
    script's where they stand.
    """

    script: str
    script_args: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = {}
    how: str = ""
    interpreter: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    passed_on: tuple[str, ...] = ()


_BY_NAME = {name: option for option in RUN_OPTIONS for name in option.names}


def parse(words: list[str]) -> Run:
    """What the words behind `chisel` ask for; they hold `python` somewhere before the script."""
    return _Parsing(words).run()


class _Parsing:
    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._at = 0
        self._options: dict[str, tuple[str, ...]] = {}
        self._interpreter: list[str] = []
        self._taken: list[str] = []
        self._passed_on: list[str] = []

    def run(self) -> Run:
        self._leading()
        if self._next() == "--":
            self._at += 1
        if self._next() != "python":
            stray = self._next() or "the end of the line"
            raise UsageError(f"`python` is expected instead of {stray}: chisel [options] python SCRIPT")
        verbatim = bool(self._options)
        self._at += 1
        self._leading(interpreter=True)
        how = ""
        if self._next() == "--":
            self._at, verbatim = self._at + 1, True
        elif (self._next() or "")[:2] in ("-m", "-c"):
            how = self._how()
        if self._at >= len(self._words):
            raise UsageError("which script? chisel python SCRIPT [its arguments] [--gpu 1|2|4|8]")
        script = self._words[self._at]
        self._at += 1
        theirs = self._words[self._at :] if verbatim else self._sort_out()
        return Run(
            script=script,
            script_args=tuple(theirs),
            options=self._options,
            how=how,
            interpreter=tuple(self._interpreter),
            taken=tuple(self._taken),
            passed_on=tuple(dict.fromkeys(self._passed_on)),
        )

    def _next(self) -> str | None:
        return self._words[self._at] if self._at < len(self._words) else None

    def _leading(self, *, interpreter: bool = False) -> None:
        """Take options up to the first word that is none."""
        while (word := self._next()) is not None and word.startswith("-") and word not in ("-", "--"):
            if interpreter and (word[:2] in ("-m", "-c") or self._take_interpreters(word)):
                if word[:2] in ("-m", "-c"):
                    return
                continue
            took = self._take(leading=True)
            if not took:
                raise UsageError(_unknown(word))
            self._at += took

    def _take_interpreters(self, word: str) -> bool:
        """Take an option of the interpreter's own; whether it was one."""
        if word in _INTERPRETER_SWITCHES:
            took = 1
        elif word[:2] in _INTERPRETER_VALUES:
            took = 1 if len(word) > 2 else 2
        else:
            return False
        if self._at + took > len(self._words):
            raise UsageError(f"python's option {word} needs a value")
        self._interpreter += self._words[self._at : self._at + took]
        self._at += took
        return True

    def _how(self) -> str:
        """`-m` or `-c`, whose value is made the next word."""
        word = self._words[self._at]
        if len(word) > 2:
            self._words = [*self._words[: self._at], word[:2], word[2:], *self._words[self._at + 1 :]]
        self._at += 1
        if self._next() is None:
            wanted = "module: chisel python -m MODULE" if word == "-m" else "code: chisel python -c CODE"
            raise UsageError(f"which {wanted}")
        return word[:2]

    def _sort_out(self) -> list[str]:
        """The script's words of those behind it; ours are taken."""
        theirs: list[str] = []
        while (word := self._next()) is not None:
            if word == "--":
                return theirs + self._words[self._at + 1 :]
            took = self._take()
            if took:
                self._taken += self._words[self._at : self._at + took]
            else:
                theirs.append(word)
                name = word.partition("=")[0]
                if name in _BY_NAME and (name == word or name.startswith("--")):
                    self._passed_on.append(name)
            self._at += took or 1
        return theirs

    def _take(self, *, leading: bool = False) -> int:
        """How many words from here on are one option of ours, kept in `_options`; 0 when it is none.

        `leading`, before the script, also reads `-g4`, which behind a script could be anything.
        """
        words, at = self._words, self._at
        name, equals, value = words[at].partition("=")
        option = _BY_NAME.get(name)
        if option is not None and name in option.leading and not leading:
            return 0
        if option is None or (equals and not name.startswith("--")):
            option = _BY_NAME.get(words[at][:2]) if leading and not words[at].startswith("--") else None
            if option is None or not option.metavar:
                return 0
            name, equals, value = words[at][:2], "=", words[at][2:]
        if not option.metavar:
            if equals:
                raise UsageError(f"{name} takes no value")
            self._keep(option, "yes")
            return 1
        if not equals:
            value = words[at + 1] if at + 1 < len(words) else ""
            if value.startswith("-") and not (option.kind == "integer" and value[1:].isdecimal()):
                value = ""
        if not value:
            raise UsageError(f"{name} needs a value: {name} {option.metavar}")
        self._keep(option, value)
        return 1 if equals else 2

    def _keep(self, option: Option, value: str) -> None:
        before = self._options.get(option.key, ()) if option.many else ()
        self._options[option.key] = (*before, value)


def _unknown(word: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word.partition("=")[0], _BY_NAME, n=1)
    meant = f"did you mean {close[0]}?" if close else "options of the script go behind it"
    return f"chisel has no option {word}; {meant}"
