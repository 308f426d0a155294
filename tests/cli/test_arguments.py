"""Which words of `chisel python` are ours."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chisel.cli.arguments import Run, UsageError, gpu_count, parse
from chisel.cli.table import RUN_OPTIONS

PARSED = [
    ("python x.py", Run("x.py")),
    ("python x.py a b", Run("x.py", ("a", "b"))),
    # Every spelling of an option, before `python` …
    ("--gpu 4 python x.py", Run("x.py", gpu=4)),
    ("--gpu=4 python x.py", Run("x.py", gpu=4)),
    ("-g 4 python x.py", Run("x.py", gpu=4)),
    ("-g4 python x.py", Run("x.py", gpu=4)),
    ("-i python x.py", Run("x.py", interactive=True)),
    # … between `python` and the script …
    ("python --gpu 4 x.py", Run("x.py", gpu=4)),
    ("python -a n -d up -r req.txt -g 2 -i x.py", Run("x.py", (), "n", "up", "req.txt", 2, True)),
    # … and behind it, where they are named.
    ("python x.py --gpu 4", Run("x.py", gpu=4, taken=("--gpu", "4"))),
    ("python x.py --gpu=4", Run("x.py", gpu=4, taken=("--gpu=4",))),
    ("python x.py -g 4", Run("x.py", gpu=4, taken=("-g", "4"))),
    ("python x.py -i", Run("x.py", interactive=True, taken=("-i",))),
    (
        "python train.py --app-name training --gpu 2 --epochs 50",
        Run(
            "train.py", ("--epochs", "50"), "training", gpu=2, taken=("--app-name", "training", "--gpu", "2")
        ),
    ),
    (
        "python train.py --epochs 100 --batch-size 32",
        Run("train.py", ("--epochs", "100", "--batch-size", "32")),
    ),
    ("python x.py --lr 3 --gpu 2 y", Run("x.py", ("--lr", "3", "y"), gpu=2, taken=("--gpu", "2"))),
    # Only whole options are ours.
    ("python x.py --gpus 4 -g4 --gpu-count=2", Run("x.py", ("--gpus", "4", "-g4", "--gpu-count=2"))),
    ("python x.py -abc -", Run("x.py", ("-abc", "-"))),
    # Behind -- everything is the script's.
    ("python x.py -- --gpu 4", Run("x.py", ("--gpu", "4"))),
    ("python x.py a -- --gpu 4 -- b", Run("x.py", ("a", "--gpu", "4", "--", "b"))),
    (
        "python x.py --gpu 2 -- --gpu 4",
        Run("x.py", ("--gpu", "4"), gpu=2, taken=("--gpu", "2")),
    ),
    ("python -- x.py --gpu 4", Run("x.py", ("--gpu", "4"))),
    ("python -- x.py -- y", Run("x.py", ("--", "y"))),
    ("python -g 2 -- -x.py -i", Run("-x.py", ("-i",), gpu=2)),
    # Options before `python` have told the two apart.
    ("--gpu 4 python x.py --gpu 2", Run("x.py", ("--gpu", "2"), gpu=4)),
    ("-a n -- python x.py -i --app-name z", Run("x.py", ("-i", "--app-name", "z"), "n")),
    ("--gpu 4 python x.py -- --gpu 2", Run("x.py", ("--gpu", "2"), gpu=4)),
    ("--gpu 4 python -d up x.py --gpu 2", Run("x.py", ("--gpu", "2"), None, "up", gpu=4)),
    # The last of two wins.
    ("python x.py --gpu 2 --gpu 4", Run("x.py", gpu=4, taken=("--gpu", "2", "--gpu", "4"))),
    # A value may begin with a dash where = says so, and may be `python`.
    ("python x.py --app-name=-n", Run("x.py", (), "-n", taken=("--app-name=-n",))),
    ("--app-name python python x.py", Run("x.py", (), "python")),
]


@pytest.mark.parametrize(("line", "expected"), PARSED, ids=[line for line, _ in PARSED])
def test_words_go_to_their_owner(line: str, expected: Run) -> None:
    assert parse(line.split()) == expected


REFUSED = [
    ("python", "which script?"),
    ("python --gpu 4", "which script?"),
    ("python x.py --gpu", "--gpu needs a value: --gpu COUNT"),
    ("python x.py --gpu --app-name y", "--gpu needs a value"),
    ("python x.py --gpu=", "--gpu needs a value"),
    ("python x.py --interactive=yes", "--interactive takes no value"),
    ("python --gpu 3 x.py", "a job can have 1, 2, 4 or 8 GPUs, not 3"),
    ("python x.py --gpu 3", "put -- before it"),
    ("python x.py --gpu many", "a job can have 1, 2, 4 or 8 GPUs, not many"),
    ("python x.py --gpu ²", "not ²"),
    ("python --gpuu 4 x.py", "did you mean --gpu?"),
    ("python -u x.py", "chisel has no option -u"),
    ("python -m pkg", "python's own option -m is not supported"),
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


@given(st.text())
def test_a_count_is_one_of_the_catalogue(text: str) -> None:
    assume(not (text.isascii() and text.isdecimal()))
    with pytest.raises(UsageError, match="1, 2, 4 or 8"):
        gpu_count(text)
    assert [gpu_count(str(count)) for count in (1, 2, 4, 8)] == [1, 2, 4, 8]
