"""What the API reference promises, one row each: its line, its heading, its words, and how it is tried.

A check is a real run of the command against a running cluster, or a real import in a fresh interpreter.
`documented`: what our own page of commands must say about it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.cluster import Cluster
from tests.support.commands import Finished


class Reader:
    """Somebody who tries the reference: a home and a directory of their own."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.home = folder / "home"
        self.project = folder / "project"
        for made in (self.home, self.project):
            made.mkdir()
        self.write("train.py", "import sys\nprint(sys.argv[1:])\n")

    def write(self, name: str, text: str) -> None:
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def chisel(self, *words: str, env: Mapping[str, str] | None = None, status: int = 0) -> Finished:
        """The command; it must end with `status`."""
        done = self.cluster.run(words, cwd=self.project, env={"HOME": str(self.home), **(env or {})})
        assert done.returncode == status, done.stderr.decode()
        return done

    def python(self, code: str, env: Mapping[str, str] | None = None) -> str:
        """What a fresh interpreter prints that runs `code` here, on no backend."""
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.project,
            env={**self.cluster.environment(), "HOME": str(self.home), **(env or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def job(self) -> Any:
        """The newest job as the API shows it, whatever it is called."""
        return self.cluster.get("/api/v1/jobs?limit=1")["jobs"][0]


Check = Callable[[Reader], None]


class Promise(NamedTuple):
    line: int
    heading: str
    words: str
    check: Check
    documented: str = ""


PROMISES: list[Promise] = []


def promise(line: int, heading: str, words: str, documented: str = "") -> Callable[[Check], Check]:
    """Make the function below a row of the table."""

    def add(check: Check) -> Check:
        PROMISES.append(Promise(line, heading, words, check, documented))
        return check

    return add


def rows(line: int, heading: str, cases: Mapping[str, Check], documented: str = "") -> None:
    for words, check in cases.items():
        PROMISES.append(Promise(line, heading, words, check, documented))


# Which GPUs


def _gpu_type(name: str, count: int) -> Check:
    def check(reader: Reader) -> None:
        code = f"from chisel import GPUType; kind = GPUType.{name}; print(kind.value, kind.count)"
        assert reader.python(code) == f"A100-80GB:{count} {count}\n"

    return check


def _gpu_flag(flag: str, count: int) -> Check:
    def check(reader: Reader) -> None:
        reader.write("script.py", "import os\nprint(os.environ['CHISEL_GPU_COUNT'])\n")
        assert reader.chisel("python", "script.py", flag, str(count)).stdout == f"{count}\n".encode()

    return check


for line, count in ((48, 1), (49, 2), (50, 4), (51, 8)):
    rows(line, "GPU Types", {f"GPUType.A100_80GB_{count}": _gpu_type(f"A100_80GB_{count}", count)})
    rows(line + 8, "GPU Types", {f"chisel python script.py --gpu {count}": _gpu_flag("--gpu", count)})


# The examples of the command


def _example(words: list[str], arguments: list[str], **facts: str) -> Check:
    def check(reader: Reader) -> None:
        reader.write("my_script.py", "import sys\nprint(sys.argv[1:])\n")
        assert reader.chisel(*words).stdout == f"{arguments}\n".encode()
        job = reader.job()
        assert {key: job[key] for key in facts} == facts

    return check


rows(
    75,
    "chisel command",
    {
        "chisel python my_script.py": _example(["python", "my_script.py"], [], app_name="my_script"),
    },
)
rows(
    78,
    "chisel command",
    {
        'chisel python train.py --app-name "training-job" --gpu 4': _example(
            ["python", "train.py", "--app-name", "training-job", "--gpu", "4"],
            [],
            app_name="training-job",
            gpu="A100-80GB:4",
        ),
    },
)
rows(
    81,
    "chisel command",
    {
        "chisel python train.py --epochs 100 --batch-size 32": _example(
            ["python", "train.py", "--epochs", "100", "--batch-size", "32"],
            ["--epochs", "100", "--batch-size", "32"],
            gpu="A100-80GB:1",
        ),
    },
)
rows(84, "chisel command", {
    'chisel python train.py --app-name "training" --gpu 2 --epochs 50': _example(
        ["python", "train.py", "--app-name", "training", "--gpu", "2", "--epochs", "50"],
        ["--epochs", "50"], app_name="training", gpu="A100-80GB:2",
    ),
})  # fmt: skip


# Options, each by its long and its short name, and its default


def _named(flag: str) -> Check:
    return _example(["python", "train.py", flag, "called this"], [], app_name="called this")


def _upload_dir(flag: str) -> Check:
    def check(reader: Reader) -> None:
        reader.write("sub/inner.py", "import os\nprint(sorted(os.listdir('.')))\n")
        assert reader.chisel("python", "sub/inner.py", flag, "sub").stdout == b"['inner.py']\n"

    return check


def _requirements(flag: str) -> Check:
    def check(reader: Reader) -> None:
        reader.write("own.txt", "msgspec\n")
        reader.write("requirements.txt", "no-such-package-at-all\n")
        reader.chisel("python", "train.py", flag, "own.txt")

    return check


for flag in ("--app-name", "-a"):
    rows(91, "Chisel CLI Options", {f"{flag}: job name for tracking": _named(flag)}, f"`{flag} NAME`")
for flag in ("--upload-dir", "-d"):
    rows(92, "Chisel CLI Options", {f"{flag}: directory to upload": _upload_dir(flag)}, f"`{flag} DIR`")
for flag in ("--requirements", "-r"):
    rows(93, "Chisel CLI Options", {f"{flag}: requirements file": _requirements(flag)}, f"`{flag} FILE`")
for flag in ("--gpu", "-g"):
    rows(94, "Chisel CLI Options", {f"{flag}: GPU count": _gpu_flag(flag, 2)}, f"`{flag} COUNT`")


@promise(92, "Chisel CLI Options", "upload-dir is the current directory by default")
def _(reader: Reader) -> None:
    reader.write("beside.txt", "")
    reader.write("list.py", "import os\nprint(sorted(os.listdir('.')))\n")
    assert reader.chisel("python", "list.py").stdout == b"['beside.txt', 'list.py', 'train.py']\n"


@promise(93, "Chisel CLI Options", "requirements is requirements.txt by default", "`requirements.txt`")
def _(reader: Reader) -> None:
    reader.write("requirements.txt", "no-such-package-at-all\n")
    assert b"no-such-package-at-all" in reader.chisel("python", "train.py", status=125).stderr


@promise(94, "Chisel CLI Options", "GPU count is 1 by default")
def _(reader: Reader) -> None:
    reader.write("script.py", "import os\nprint(os.environ['CHISEL_GPU_COUNT'])\n")
    assert reader.chisel("python", "script.py").stdout == b"1\n"


@promise(94, "Chisel CLI Options", "1, 2, 4 and 8 are all the counts there are")
def _(reader: Reader) -> None:
    said = reader.chisel("python", "train.py", "--gpu", "3", status=2).stderr
    assert b"a job can have 1, 2, 4 or 8 GPUs, not 3" in said


# Utility commands


def _version(*words: str) -> Check:
    def check(reader: Reader) -> None:
        version = reader.python("import chisel; print(chisel.__version__)")
        assert reader.chisel(*words).stdout.decode() == f"chisel {version}"

    return check


for line, word in ((108, "--version"), (109, "-v"), (110, "version")):
    rows(line, "Utility Commands", {f"chisel {word}": _version(word)}, f"chisel {word}")


def _credentials(reader: Reader) -> Path:
    """A stored key, kept as careless hands might have left it."""
    folder = reader.home / ".chisel"
    folder.mkdir(exist_ok=True)
    content = {"backend": reader.cluster.url, "keys": {reader.cluster.url: reader.cluster.key}}
    (folder / "credentials.json").write_text(json.dumps(content))
    (folder / "credentials.json").chmod(0o600)
    folder.chmod(0o700)
    return folder / "credentials.json"


STORED = {"CHISEL_API_KEY": "", "CHISEL_BACKEND_URL": ""}


@promise(113, "Utility Commands", "chisel --logout clears authentication credentials", "chisel --logout")
def _(reader: Reader) -> None:
    stored = _credentials(reader)
    reader.chisel("--logout", env={"CHISEL_API_KEY": "", "CHISEL_BACKEND_URL": "http://127.0.0.1:1"})
    assert not stored.exists()


# Environment variables


@promise(120, "Environment Variables", "CHISEL_BACKEND_RUN: runs on a backend", "`CHISEL_BACKEND_RUN`")
def _(reader: Reader) -> None:
    code = "import os; print(os.environ.get('CHISEL_BACKEND_RUN'))"
    assert reader.python(code) == "None\n"
    assert reader.chisel("python", "-c", code).stdout == b"1\n"


@promise(121, "Environment Variables", "CHISEL_JOB_ID is the current job's id", "`CHISEL_JOB_ID`")
def _(reader: Reader) -> None:
    shown = reader.chisel("python", "-c", "import os; print(os.environ['CHISEL_JOB_ID'])").stdout.decode()
    assert shown == f"{reader.job()['id']}\n"


@promise(122, "Environment Variables", "CHISEL_BACKEND_URL overrides the backend", "`CHISEL_BACKEND_URL`")
def _(reader: Reader) -> None:
    said = reader.chisel("ps", env={"CHISEL_BACKEND_URL": "http://127.0.0.1:1"}, status=125).stderr
    assert b"http://127.0.0.1:1 does not answer" in said
    reader.chisel("ps", env={"CHISEL_BACKEND_URL": reader.cluster.url + "/"})


@promise(127, "Environment Variables", "export CHISEL_BACKEND_URL, then chisel python my_script.py")
def _(reader: Reader) -> None:
    reader.write("my_script.py", "print('there')\n")
    stored = _credentials(reader)
    another = json.loads(stored.read_text()) | {"backend": "http://127.0.0.1:1"}
    stored.write_text(json.dumps(another))
    here = {"CHISEL_BACKEND_URL": reader.cluster.url, "CHISEL_API_KEY": ""}
    assert reader.chisel("python", "my_script.py", env=here).stdout == b"there\n"


@promise(123, "Environment Variables", "CHISEL_API_KEY is the authentication token", "`CHISEL_API_KEY`")
def _(reader: Reader) -> None:
    reader.chisel("ps", env={"CHISEL_API_KEY": reader.cluster.key})
    assert b"key" in reader.chisel("ps", env={"CHISEL_API_KEY": "chsl_usr_wrong"}, status=125).stderr


# Authentication


@promise(149, "Authentication Functions", "is_authenticated() checks the authentication status")
def _(reader: Reader) -> None:
    code = "from chisel.auth import is_authenticated; print(is_authenticated())"
    nowhere = {**STORED, "CHISEL_LOCAL_DIR": str(reader.home / "local")}
    assert reader.python(code, nowhere) == "False\n"
    _credentials(reader)
    assert reader.python(code, nowhere) == "True\n"


@promise(153, "Authentication Functions", "authenticate(url) returns an API key")
def _(reader: Reader) -> None:
    _credentials(reader)
    code = f"from chisel.auth import authenticate; print(authenticate({reader.cluster.url!r}))"
    assert reader.python(code, STORED) == f"{reader.cluster.key}\n"


@promise(156, "Authentication Functions", "clear_credentials() is equivalent to chisel --logout")
def _(reader: Reader) -> None:
    stored = _credentials(reader)
    reader.python("from chisel.auth import clear_credentials; clear_credentials()", STORED)
    assert not stored.exists()


@promise(160, "Credential Storage", "they are in ~/.chisel/credentials.json", "`~/.chisel/credentials.json`")
def _(reader: Reader) -> None:
    _credentials(reader)
    reader.chisel("ps", env=STORED)


def _log_in(reader: Reader) -> Path:
    """`chisel login` with a key that is piped in; where it was stored."""
    command = [str(Path(sys.executable).with_name("chisel")), "login", reader.cluster.url, "--with-key"]
    env = reader.cluster.environment({**STORED, "HOME": str(reader.home)})
    subprocess.run(command, env=env, input=reader.cluster.key.encode(), capture_output=True, check=True)
    return reader.home / ".chisel" / "credentials.json"


@promise(161, "Credential Storage", "directory permissions are 0o700")
def _(reader: Reader) -> None:
    stored = _log_in(reader)
    assert stored.parent.stat().st_mode & 0o777 == 0o700
    stored.parent.chmod(0o755)
    reader.chisel("ps", env=STORED)
    assert stored.parent.stat().st_mode & 0o777 == 0o700


@promise(162, "Credential Storage", "file permissions are 0o600")
def _(reader: Reader) -> None:
    stored = _log_in(reader)
    assert stored.stat().st_mode & 0o777 == 0o600
    stored.chmod(0o644)
    reader.chisel("ps", env=STORED)
    assert stored.stat().st_mode & 0o777 == 0o600


@promise(170, "Common Exceptions", 'RuntimeError("❌ Authentication failed. Unable to get valid API key.")')
def _(reader: Reader) -> None:
    code = (
        "from chisel.auth import authenticate\n"
        "try:\n    authenticate('http://127.0.0.1:1')\nexcept RuntimeError as error:\n    print(error)\n"
    )
    nowhere = {**STORED, "CHISEL_LOCAL_DIR": str(reader.home / "local")}
    assert reader.python(code, nowhere) == "❌ Authentication failed. Unable to get valid API key.\n"


@promise(175, "Common Exceptions", 'AssertionError("Script … is not inside upload_dir …")')
def _(reader: Reader) -> None:
    (reader.project / "sub").mkdir()
    said = reader.chisel("python", "train.py", "-d", "sub", status=2).stderr.decode()
    root = os.path.realpath(reader.project)
    said = said.replace(str(reader.project), root)
    assert f"Script {root}/train.py is not inside upload_dir {root}/sub" in said
    code = (
        "from chisel.layout import locate\n"
        "try:\n    locate('train.py', upload_dir='sub')\nexcept AssertionError as error:\n    print(error)\n"
    )
    assert "is not inside upload_dir" in reader.python(code)
