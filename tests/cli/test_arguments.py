"""Which words of `chisel python` are ours."""

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chisel.cli.arguments import Run, parse
from chisel.cli.table import RUN_OPTIONS
from chisel.cli.values import UsageError


def run_of(script: str, *script_args: str, taken: str = "", **said: str) -> Run:
    """A parsed line; `taken` is a line of words, the rest options."""
    return Run(
        script, script_args, {key: (value,) for key, value in said.items()}, taken=tuple(taken.split())
    )


PARSED = [
    ("python x.py", run_of("x.py")),
    ("python x.py a b", run_of("x.py", "a", "b")),
    # Every spelling of an option, before `python` …
    ("--gpu 4 python x.py", run_of("x.py", gpu="4")),
    ("--gpu=4 python x.py", run_of("x.py", gpu="4")),
    ("-g 4 python x.py", run_of("x.py", gpu="4")),
    ("-g4 python x.py", run_of("x.py", gpu="4")),
    ("-i python x.py", run_of("x.py", interactive="yes")),
    # … between `python` and the script …
    ("python --gpu 4 x.py", run_of("x.py", gpu="4")),
    (
        "python -a n -d up -r req.txt -g 2 -i x.py",
        run_of("x.py", app_name="n", upload_dir="up", requirements="req.txt", gpu="2", interactive="yes"),
    ),
    # … and behind it, where they are named.
    ("python x.py --gpu 4", run_of("x.py", gpu="4", taken="--gpu 4")),
    ("python x.py --gpu=4", run_of("x.py", gpu="4", taken="--gpu=4")),
    ("python x.py -g 4", run_of("x.py", gpu="4", taken="-g 4")),
    ("python x.py -i", run_of("x.py", interactive="yes", taken="-i")),
    (
        "python train.py --app-name training --gpu 2 --epochs 50",
        run_of(
            "train.py", "--epochs", "50", app_name="training", gpu="2", taken="--app-name training --gpu 2"
        ),
    ),
    (
        "python train.py --epochs 100 --batch-size 32",
        run_of("train.py", "--epochs", "100", "--batch-size", "32"),
    ),
    ("python x.py --lr 3 --gpu 2 y", run_of("x.py", "--lr", "3", "y", gpu="2", taken="--gpu 2")),
    ("python x.py a --detach", run_of("x.py", "a", detach="yes", taken="--detach")),
    # Only whole options are ours.
    ("python x.py --gpus 4 -g4 --gpu-count=2", run_of("x.py", "--gpus", "4", "-g4", "--gpu-count=2")),
    ("python x.py -abc -", run_of("x.py", "-abc", "-")),
    # Behind -- everything is the script's.
    ("python x.py -- --gpu 4", run_of("x.py", "--gpu", "4")),
    ("python x.py -- -i names.txt -d -r 3", run_of("x.py", "-i", "names.txt", "-d", "-r", "3")),
    ("python x.py a -- --gpu 4 -- b", run_of("x.py", "a", "--gpu", "4", "--", "b")),
    ("python x.py --gpu 2 -- --gpu 4", run_of("x.py", "--gpu", "4", gpu="2", taken="--gpu 2")),
    ("python -- x.py --gpu 4", run_of("x.py", "--gpu", "4")),
    ("python -- x.py -- y", run_of("x.py", "--", "y")),
    ("python -g 2 -- -x.py -i", run_of("-x.py", "-i", gpu="2")),
    # Options before `python` have told the two apart, and -- is a word like any other.
    ("--gpu 4 python x.py --gpu 2", run_of("x.py", "--gpu", "2", gpu="4")),
    ("-a n -- python x.py -i --app-name z", run_of("x.py", "-i", "--app-name", "z", app_name="n")),
    ("--gpu 4 python x.py a -- --gpu 2", run_of("x.py", "a", "--", "--gpu", "2", gpu="4")),
    ("--gpu 4 python -d up x.py --gpu 2", run_of("x.py", "--gpu", "2", upload_dir="up", gpu="4")),
    # The last of two wins.
    ("python x.py --gpu 2 --gpu 4", run_of("x.py", gpu="4", taken="--gpu 2 --gpu 4")),
    # A value may begin with a dash where = says so or it is a number, and may be `python`.
    ("python x.py --app-name=-n", run_of("x.py", app_name="-n", taken="--app-name=-n")),
    ("python --priority -5 x.py", run_of("x.py", priority="-5")),
    ("--app-name python python x.py", run_of("x.py", app_name="python")),
    # Names that scripts have too are ours before the script only.
    ("python --name n -q x.py", run_of("x.py", app_name="n", quiet="yes")),
    (
        "python x.py --name n --json -q --name=m",
        run_of("x.py", "--name", "n", "--json", "-q", "--name=m")._replace(
            passed_on=("--name", "--json", "-q")
        ),
    ),
    ("python x.py -- --name n", run_of("x.py", "--name", "n")),
    ("python x.py -p 80", run_of("x.py", "-p", "80")._replace(passed_on=("-p",))),
    # A module or code in the place of the script.
    ("python -m pkg.mod a --gpu 2", run_of("pkg.mod", "a", gpu="2", taken="--gpu 2")._replace(how="-m")),
    ("python -g 2 -mpkg a", run_of("pkg", "a", gpu="2")._replace(how="-m")),
    ("python -c pass -i -- -i", run_of("pass", "-i", interactive="yes", taken="-i")._replace(how="-c")),
    ("-g 2 python -c -- x", run_of("--", "x", gpu="2")._replace(how="-c")),
    # Options of the interpreter.
    (
        "python -u -OO -W error -Xdev x.py -u",
        run_of("x.py", "-u")._replace(interpreter=("-u", "-OO", "-W", "error", "-Xdev")),
    ),
]


@pytest.mark.parametrize(("line", "expected"), PARSED, ids=[line for line, _ in PARSED])
def test_words_go_to_their_owner(line: str, expected: Run) -> None:
    assert parse(line.split()) == expected


REFUSED = [
    ("python", "which script?"),
    ("python --gpu 4", "which script?"),
    ("python -m", "which module: chisel python -m MODULE"),
    ("python -c", "which code: chisel python -c CODE"),
    ("python x.py --gpu", "--gpu needs a value: --gpu COUNT"),
    ("python x.py --gpu --app-name y", "--gpu needs a value"),
    ("python x.py --gpu=", "--gpu needs a value"),
    ("python x.py --interactive=yes", "--interactive takes no value"),
    ("python --gpuu 4 x.py", "did you mean --gpu?"),
    ("--detatch python x.py", "did you mean --detach?"),
    ("python -z x.py", "chisel has no option -z"),
    ("python -W", "python's option -W needs a value"),
    ("--gpu 4 train.py python", "`python` is expected instead of train.py"),
    ("--gpu 4", "`python` is expected instead of the end of the line"),
]


@pytest.mark.parametrize(("line", "says"), REFUSED, ids=[line for line, _ in REFUSED])
def test_what_makes_no_sense_is_explained(line: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line.split())
    assert says in str(caught.value)


words = st.lists(st.text(min_size=0, max_size=8), max_size=8)


@given(words)
def test_behind_the_separator_every_word_is_kept(rest: list[str]) -> None:
    assert parse(["python", "x.py", "--", *rest]).script_args == tuple(rest)


@given(words)
def test_foreign_words_are_kept_in_order(rest: list[str]) -> None:
    names = [name for option in RUN_OPTIONS for name in option.names]
    foreign = [word for word in rest if word != "--" and word.partition("=")[0] not in names]
    assert parse(["python", "x.py", *foreign]) == Run("x.py", tuple(foreign))


@given(words)
def test_behind_options_before_python_every_word_is_kept(rest: list[str]) -> None:
    assert parse(["-g", "2", "python", "x.py", *rest]) == run_of("x.py", *rest, gpu="2")


ECHO = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"

# What a process can be given at all: no NUL, and of surrogates those that stand for single bytes.
anything = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.sampled_from("\udc80\udcff")
    ),
    max_size=8,
)
tricky = st.sampled_from(
    ["--", "-i", "-d", "--gpu", "--gpu=3", "-g4", "-m", "-c", "--name", "", " ", "=", "-"]
)


@settings(max_examples=40, deadline=None)
@given(st.lists(anything | tricky, max_size=6), st.booleans())
def test_a_script_gets_what_plain_python_would_give_it(given_words: list[str], ours_lead: bool) -> None:
    line = ["-g", "2", "python", "x.py"] if ours_lead else ["python", "x.py", "--"]
    expected = subprocess.run(
        [sys.executable, "-c", ECHO, *given_words], capture_output=True, check=True
    ).stdout
    assert b"\0".join(map(os.fsencode, parse([*line, *given_words]).script_args)) == expected
