"""Flags, then the environment, then files: who says what holds."""

import json
from typing import Any

import pytest

from chisel.cli.settings import LAYERED, variable
from tests.cli.conftest import Command
from tests.cli.gateway import Gateway


def rows(chisel: Command, *words: str) -> dict[str, Any]:
    done = chisel("config", "--json", *words)
    assert done.status == 0, done.stderr
    return {row["setting"]: row for row in json.loads(done.stdout)}


def user_file(chisel: Command, text: str) -> None:
    folder = chisel.home / ".chisel"
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(text)


def test_each_layer_wins_over_those_below(gateway: Gateway, chisel: Command) -> None:
    def gpus() -> str:
        assert chisel("python", "hello.py").status == 0
        return gateway.submissions[-1].spec.gpu

    assert gpus() == "A100-80GB:1"
    user_file(chisel, "gpu = 2\n")
    assert gpus() == "A100-80GB:2"
    (chisel.project / "pyproject.toml").write_text("[tool.chisel]\ngpu = 4\n")
    assert gpus() == "A100-80GB:4"
    (chisel.project / "chisel.toml").write_text("gpu = 8\n")
    assert gpus() == "A100-80GB:8"
    chisel.env["CHISEL_GPU"] = "2"
    assert gpus() == "A100-80GB:2"
    assert chisel("python", "hello.py", "--gpu", "4").status == 0
    assert gateway.submissions[-1].spec.gpu == "A100-80GB:4"


def test_config_names_the_winner_of_each(chisel: Command) -> None:
    user_file(chisel, '# mine\non-interrupt = "detach"\n')
    project = chisel.project / "pyproject.toml"
    project.write_text(
        '[project]\ngpu = "no setting of ours"\n\n[tool.chisel]\ntime_limit = "2h"\nquiet = true\n'
    )
    chisel.env["CHISEL_APP_NAME"] = "from env"
    found = rows(chisel)
    assert list(found["app-name"].values()) == ["app-name", "from env", "CHISEL_APP_NAME", "CHISEL_APP_NAME"]
    assert (found["time-limit"]["value"], found["time-limit"]["source"]) == (7200, f"{project}:5")
    assert (found["quiet"]["value"], found["quiet"]["source"]) == (True, f"{project}:6")
    source = chisel.home / ".chisel" / "config.toml"
    assert (found["on-interrupt"]["value"], found["on-interrupt"]["source"]) == ("detach", f"{source}:2")
    assert (found["gpu"]["value"], found["gpu"]["source"]) == (1, "default")
    assert (found["requirements"]["value"], found["interactive"]["value"]) == (None, None)
    assert found["backend"]["source"] == "CHISEL_BACKEND_URL"
    shown = chisel("config").stdout.decode()
    assert shown.splitlines()[0].split() == ["SETTING", "VALUE", "FROM"]
    assert [line.split() for line in shown.splitlines() if line.startswith("quiet")] == [
        ["quiet", "true", f"{project}:6"]
    ]


def test_the_nearest_file_above_counts_and_paths_are_its_own(gateway: Gateway, chisel: Command) -> None:
    (chisel.project / "chisel.toml").write_text('upload-dir = "."\nrequirements = "sub/reqs.txt"\n')
    sub = chisel.project / "sub"
    sub.mkdir()
    (sub / "reqs.txt").write_text("numpy\n")
    chisel.project = sub
    assert chisel("python", "../hello.py").status == 0
    spec = gateway.submissions[-1].spec
    assert (spec.argv, spec.workdir, spec.requirements) == (("python", "../hello.py"), "sub", "sub/reqs.txt")
    assert rows(chisel, "-d", str(chisel.home))["requirements"]["source"] == "default"


WRONG = [
    ("gpus = 4\n", ":1: there is no setting gpus; did you mean gpu?"),
    ("\ngpu = 3\n", ":2: a job can have 1, 2, 4 or 8 GPUs, not 3"),
    ("quiet = 'maybe'\n", ":1: true or false is expected, not maybe"),
    ("gpu = [4]\n", ":1: gpu must be a text, a whole number, true or false"),
    ("gpu = 4.0\n", ":1: gpu must be a text"),
    ("gpu 4\n", " is not valid TOML"),
    ("app-name = '\xff'\n", " is not valid TOML"),
    ("json = true\n", ":1: there is no setting json"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_a_file_that_makes_no_sense_is_named(chisel: Command, text: str, says: str) -> None:
    file = chisel.project / "chisel.toml"
    file.write_bytes(text.encode("latin-1"))
    for words in (("python", "hello.py"), ("config",)):
        done = chisel(*words)
        assert done.status == 2
        assert f"chisel: {file}{says}" in done.stderr


def test_a_variable_that_makes_no_sense_is_named(chisel: Command) -> None:
    chisel.env["CHISEL_TIME_LIMIT"] = "soon"
    done = chisel("python", "hello.py")
    assert (done.status, "CHISEL_TIME_LIMIT: 'soon' is not a duration" in done.stderr) == (2, True)


def test_every_layered_option_has_a_row_and_a_variable_of_its_own(chisel: Command) -> None:
    found = rows(chisel)
    assert set(found) == {"backend", *(key.replace("_", "-") for key in LAYERED)}
    names = [variable(option) for option in LAYERED.values()]
    assert len(set(names)) == len(names)
