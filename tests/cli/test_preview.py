"""`--preview` shows what would be uploaded and sends nothing."""

import json

from tests.cli.conftest import Command
from tests.cli.gateway import Gateway


def project(chisel: Command) -> None:
    (chisel.project / "data").write_bytes(b"x" * 5000)
    (chisel.project / ".env").write_text("KEY=1")
    (chisel.project / "noise.log").touch()
    (chisel.project / ".gitignore").write_text("*.log\n")
    (chisel.project / "__pycache__").mkdir()


def test_what_would_be_uploaded_and_what_not_and_why(gateway: Gateway, chisel: Command) -> None:
    project(chisel)
    done = chisel("python", "hello.py", "--preview")
    assert done.status == 0
    lines = done.stdout.decode().splitlines()
    assert lines[0] == f"{chisel.project}: 4 files, 5.0 kB"
    assert lines[1].startswith("new since the last upload: 4 files, to send ")
    assert lines[2:4] == ["the largest files:", "      5.0 kB  data"]
    assert lines[-4:] == [
        "left out: 2",
        "  __pycache__/  (always left out)",
        "  noise.log  (.gitignore)",
        "may hold secrets: .env",
    ]
    assert gateway.connections == 0
    assert gateway.requests == []


def test_what_is_new_since_the_last_time(gateway: Gateway, chisel: Command) -> None:
    project(chisel)
    assert chisel("python", "hello.py").status == 0
    sent = list(gateway.requests)
    assert "nothing is new since the last upload" in chisel("-p", "python", "hello.py").stdout.decode()
    (chisel.project / "data").write_text("changed")
    told = json.loads(chisel("--preview", "--json", "python", "hello.py").stdout)
    assert told["new_files"] == ["data"]
    assert 0 < told["upload_bytes"] < 1000
    assert told["largest"][0] == {"path": "hello.py", "size_bytes": 15}
    assert {"path": "noise.log", "why": ".gitignore"} in told["left_out"]
    assert (told["files"], told["secrets"], told["skipped"]) == (4, [".env"], [])
    assert gateway.requests == sent


def test_secrets_are_warned_about_in_one_line(gateway: Gateway, chisel: Command) -> None:
    project(chisel)
    [told] = [line for line in chisel("python", "hello.py").stderr.splitlines() if "secrets" in line]
    assert told.startswith("chisel: .env may hold secrets and will be uploaded")


def test_limits_of_the_server_are_named_before_anything_is_sent(gateway: Gateway, chisel: Command) -> None:
    project(chisel)
    gateway.script.max_bytes = 4000
    done = chisel("python", "hello.py")
    assert done.status == 125
    assert "holds more than 4,000 bytes, which is more than can be uploaded" in done.stderr
    assert done.stderr.splitlines()[-4].endswith(" data")
    gateway.script.max_bytes, gateway.script.max_entries = 0, 3
    assert "holds more than 3 files and folders" in chisel("python", "hello.py").stderr
    assert not [request for request in gateway.requests if request.startswith("PUT")]


def test_a_script_that_is_ignored_is_not_run_without_it(gateway: Gateway, chisel: Command) -> None:
    (chisel.project / ".gitignore").write_text("hel*\n")
    done = chisel("python", "hello.py")
    assert done.status == 125
    assert "hello.py is not uploaded (.gitignore): bring it back with a line !/hello.py" in done.stderr
    assert not gateway.submissions
