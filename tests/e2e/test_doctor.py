"""`chisel doctor` and shell completion against a real backend."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import Cluster

pytestmark = pytest.mark.e2e

CHECKS = ["config", "credentials", "name", "connection", "tls", "gateway", "key", "agents", "upload"]


def test_all_is_well(cluster: Cluster) -> None:
    done = cluster.run(["doctor"])
    assert done.returncode == 0, done.stdout
    lines = done.stdout.decode().splitlines()
    assert [line.split()[:2] for line in lines] == [["ok", name] for name in CHECKS]
    told = json.loads(cluster.run(["doctor", "--json"]).stdout)
    assert [(one["name"], one["ok"]) for one in told] == [(name, True) for name in CHECKS]


@pytest.mark.parametrize(
    ("env", "failing", "says"),
    [
        ({"CHISEL_BACKEND_URL": "nonsense"}, "config", "is not a backend's address"),
        ({"CHISEL_API_KEY": ""}, "credentials", "chisel login"),
        ({"CHISEL_BACKEND_URL": "http://nowhere.invalid"}, "name", "CHISEL_BACKEND_URL"),
        ({"CHISEL_BACKEND_URL": "http://127.0.0.1:1"}, "connection", "refused"),
        ({"CHISEL_API_KEY": "wrong"}, "key", "chisel login"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_first_thing_that_is_wrong_is_named(
    cluster: Cluster, env: dict[str, str], failing: str, says: str
) -> None:
    done = cluster.run(["doctor", "--json"], env=env)
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert [one["name"] for one in told] == CHECKS[: CHECKS.index(failing) + 1]
    assert [one["ok"] for one in told] == [True] * (len(told) - 1) + [False]
    assert says in told[-1]["said"]


def test_tls_and_gateway_are_told_apart(cluster: Cluster) -> None:
    url = cluster.url.replace("http:", "https:")
    told = json.loads(cluster.run(["doctor", "--json"], env={"CHISEL_BACKEND_URL": url}).stdout)
    assert (told[-1]["name"], told[-1]["ok"]) == ("tls", False)
    storage = f"http://127.0.0.1:{cluster.ports['storage']}"
    told = json.loads(cluster.run(["doctor", "--json"], env={"CHISEL_BACKEND_URL": storage}).stdout)
    assert (told[-1]["name"], told[-1]["ok"]) == ("gateway", False)


def test_bash_completes_commands_options_and_jobs(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    assert cluster.run(["python", "train.py"], cwd=tmp_path).returncode == 0
    job = cluster.job("train")["id"]
    script = tmp_path / "completion"
    script.write_bytes(cluster.run(["completion", "bash"]).stdout)

    def complete(*words: str) -> list[str]:
        asking = (
            f'PATH="{Path(sys.executable).parent}:$PATH"; . "$1"; shift;'
            ' COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _chisel;'
            ' printf "%s\\n" "${COMPREPLY[@]}"; complete -p chisel'
        )
        done = subprocess.run(
            ["bash", "-c", asking, "bash", str(script), *words],
            cwd=tmp_path, env=cluster.environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        *found, registered = done.stdout.split("\n")[:-1]
        assert "-F _chisel chisel" in registered
        return found

    assert complete("chisel", "canc") == ["cancel"]
    assert set(complete("chisel", "p")) >= {"ps", "python", "pull"}
    assert complete("chisel", "logs", "--fol") == ["--follow"]
    assert complete("chisel", "logs", job[:4]) == [job]
    assert complete("chisel", "status", "@") == ["@last"]
    assert set(complete("chisel", "admin", "")) >= {"init", "users", "agents"}
    assert set(complete("chisel", "admin", "users", "")) == {"add", "ls", "rm"}
    assert complete("chisel", "trace", "download", job[:4]) == [job]
    assert complete("chisel", "python", "tr") == ["train.py"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_every_command(cluster: Cluster, shell: str) -> None:
    printed = cluster.run(["completion", shell]).stdout.decode()
    assert all(word in printed for word in ("python", "doctor", "users", "--timestamps"))
    assert cluster.run(["completion", "cmd"]).returncode == 2
