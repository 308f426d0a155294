"""The house rules that a machine can check: who imports whom, what lies where, what is said by whom."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from chisel_shared.contract import job
from chisel_shared.contract.errors import ChiselError
from chisel_shared.contract.messages import MESSAGES, Request
from tests.support import reference
from tests.support.routing import routes
from tests.support.source import CODE_ROOTS, ROOT, SERVICES, imports, name_of, python_files, tree

MOST_LINES = 400
MOST_PACKAGE_DOC_LINES = 10
EVERYWHERE = (*CODE_ROOTS, "tests", "docs")

# The environment is read by settings files, and in these places for these reasons.
READS_THE_ENVIRONMENT = {
    "cli/chisel/address.py": "every socket needs to know of proxies and certificates, and settings need it",
    "cli/chisel/trace/capture.py": "decides at decoration, in the user's process, whether to trace",
    "cli/chisel/trace/naming.py": "the rank of a process is told by its launcher in the environment",
    "cli/chisel/trace/recording.py": "the directory may have changed since the decoration",
    "cli/chisel/trace/gpus.py": "the GPUs of a process are those that CUDA takes from its environment",
    "cli/chisel/trace/profiler.py": "torch counts GPUs without CUDA when its environment says so",
    "cli/chisel/trace/wrapping.py": "quiets the profiler's library, which listens to nothing else",
    "cli/chisel/local/stack.py": "finds the stack before anything that has settings is imported",
    "cli/chisel/local/starting.py": "hands the environment down to the stack it starts",
    "cli/chisel/local/children.py": "is the stack: makes the environment its services read",
}

# A job starts in an interpreter that has nothing installed but what it asked for.
STANDARD_LIBRARY_ONLY = (
    "services/chisel_agent/shim.py",
    "services/chisel_agent/shim_system.py",
    *(f"cli/chisel/trace/{path.name}" for path in sorted((ROOT / "cli/chisel/trace").glob("*.py"))),
    "shared/chisel_shared/traces/repair.py",
    "shared/chisel_shared/contract/gpus.py",
)

IMPURE = {
    "asyncio",
    "os",
    "pathlib",
    "shutil",
    "socket",
    "subprocess",
    "threading",
    "time",
}
PURE = {
    "services/chisel_scheduler/placement.py",
    "services/chisel_auth/policy.py",
    "services/chisel_auth/throttle.py",
    "services/chisel_auth/tokens.py",
}

_SQL = re.compile(
    r"\s*(select\s.+\sfrom\s|insert\s+into\s|update\s+\w+\s+set\s|delete\s+from\s|create\s+(table|index)\s)",
    re.IGNORECASE | re.DOTALL,
)
# Spelt apart, or this file would be the first to break the rule.
_FORBIDDEN = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|(?<![\w.])/(ro" r"ot|wo" r"rk/(main|shared))/")


def test_import_walls_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr


def test_no_file_is_longer_than_a_sitting() -> None:
    long = {name_of(path): _lines(path) for path in python_files(*EVERYWHERE) if _lines(path) > MOST_LINES}
    assert not long


def test_packages_say_what_they_are() -> None:
    for path in python_files(*CODE_ROOTS):
        if path.name == "__init__.py":
            text = ast.get_docstring(tree(path))
            assert text, f"{name_of(path)} does not say what its package is"
            lines = len(text.splitlines())
            assert lines <= MOST_PACKAGE_DOC_LINES, f"{name_of(path)} says it in {lines} lines"


def test_modules_say_what_they_are() -> None:
    files = [path for path in python_files(*EVERYWHERE) if tree(path).body and path.name != "__main__.py"]
    assert not [name_of(path) for path in files if not ast.get_docstring(tree(path))]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_the_files_of_every_service(service: str) -> None:
    folder = ROOT / "services" / f"chisel_{service}"
    for name in ("__init__.py", "__main__.py", "settings.py", "service.py"):
        assert (folder / name).exists(), f"{service} has no {name}"


def test_the_contract_imports_the_standard_library_and_msgspec() -> None:
    for path in python_files("shared/chisel_shared/contract"):
        for module in imports(path):
            allowed = (
                module.startswith("chisel_shared.contract") or _is_standard(module) or module == "msgspec"
            )
            assert allowed, f"{name_of(path)} imports {module}"
            assert _root(module) not in IMPURE, f"{name_of(path)} reaches the world by {module}"


@pytest.mark.parametrize("name", sorted(PURE))
def test_what_decides_touches_nothing(name: str) -> None:
    path = ROOT / name
    siblings = {other.removesuffix(".py").partition("services/")[2].replace("/", ".") for other in PURE}
    for module in imports(path):
        assert _root(module) not in IMPURE, f"{name} imports {module}"
        allowed = module.startswith("chisel_shared.contract") or module in siblings or module == "msgspec"
        assert allowed or _is_standard(module), f"{name} imports {module}"
    clocks = [
        node for node in ast.walk(tree(path)) if getattr(node, "attr", "") in ("now", "utcnow", "today")
    ]
    assert not clocks, f"{name} reads a clock; the time is handed to it"


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_what_travels_into_a_job_needs_nothing_installed(name: str) -> None:
    ours = {"chisel", "chisel_agent", "chisel_shared"}
    eager = _eager_imports(ROOT / name)
    assert not [module for module in eager if _root(module) == "torch"], f"{name} imports torch at once"
    for module in imports(ROOT / name):
        if _root(module) == "torch":
            continue  # the job's own, when a call of it is traced
        assert _is_standard(module) or _root(module) in ours, f"{name} imports {module}"
        if _root(module) in ours:
            file = _file_of(module)
            assert all(_is_standard(deeper) or _root(deeper) in ours for deeper in _eager_imports(file)), (
                f"{name} imports {module}, which needs something installed"
            )


def test_importing_the_sdk_imports_nothing_heavy() -> None:
    code = "import chisel, sys; chisel.capture_trace, chisel.GPUType; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "aiohttp", "msgspec", "numpy", "pydantic", "rich", "torch", "typer"}


def test_only_settings_read_the_environment() -> None:
    readers = {name_of(path) for path in python_files(*CODE_ROOTS) if _reads_environment(path)}
    readers = {name for name in readers if not name.endswith("/settings.py")}
    assert readers <= READS_THE_ENVIRONMENT.keys()
    assert readers == READS_THE_ENVIRONMENT.keys(), "a place named here reads it no longer: take it out"


def test_sql_lies_in_stores() -> None:
    for path in python_files("services", "cli", "shared"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        # db.py keeps the list of applied migrations, the one table that is every service's.
        if (
            not any(part.endswith("store") for part in parts)
            and name_of(path) != "shared/chisel_shared/runtime/db.py"
        ):
            found = [text for text in _strings(path) if _SQL.match(text)]
            assert not found, f"{name_of(path)} has SQL: {found[0]!r}"


def test_every_task_has_a_name() -> None:
    for path in python_files(*CODE_ROOTS):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "create_task":
                named = any(keyword.arg == "name" for keyword in node.keywords)
                assert named, f"{name_of(path)}:{node.lineno} starts a task without a name"


def test_the_tree_names_no_unfinished_work_and_no_place_of_one_machine() -> None:
    for path in _texts():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            assert not _FORBIDDEN.search(line), f"{name_of(path)}:{number}: {line.strip()}"


def test_pinned_versions_name_no_index() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in pins
    assert " @ " not in pins


def test_every_test_asserts_something_and_every_skip_says_why() -> None:
    for path in python_files("tests"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                body = [part for part in node.body if not isinstance(part, ast.Pass) and not _is_text(part)]
                assert body, f"{name_of(path)}: {node.name} is empty"
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".skip", ".skipif", ".xfail")):
                said = bool(node.keywords) or (bool(node.args) and node.func.attr == "skip")  # type: ignore[attr-defined]
                assert said, f"{name_of(path)}:{node.lineno} skips without a reason"


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_every_message_is_said_and_taken(name: str) -> None:
    kind = MESSAGES[name]
    found = routes()[kind.__name__]
    assert found.said_by, f"nobody says {kind.__name__}"
    assert found.taken_by, f"nobody takes {kind.__name__}"
    if issubclass(kind, Request):
        assert len(found.taken_by) == 1, f"{kind.__name__} is answered by {found.taken_by}"
    else:
        assert len(found.said_by) == 1, f"{kind.__name__} is said by {found.said_by}"


@pytest.mark.parametrize("name", sorted(reference.pages()))
def test_generated_pages_are_current(name: str) -> None:
    written = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert written == reference.pages()[name], "run: python -m tests.support.reference"


@pytest.mark.parametrize("reason", job.EndReason)
def test_every_end_leads_somewhere_and_reads_well(reason: job.EndReason) -> None:
    end = job.JobEnd(reason=reason, exit_code=1, signal=9)
    event = job.end_event(end)
    targets = {ways[event] for ways in job.TRANSITIONS.values() if event in ways}
    assert targets <= set(job.FINAL)
    assert len(targets) == 1
    assert job.sentence(end)
    assert 0 < job.exit_status(end) < 256


def test_every_error_says_what_it_is() -> None:
    todo, codes = [ChiselError], []
    while todo:
        kind = todo.pop()
        # Those of other modules are never sent, and may need to be told more.
        todo += [one for one in kind.__subclasses__() if one.__module__ == ChiselError.__module__]
        assert str(kind()), f"{kind.__name__} has nothing to say"
        codes += [kind.code] if "code" in kind.__dict__ and kind.code else []
    assert len(codes) == len(set(codes)), "two errors share a wire code"


def test_documents_link_to_files_that_exist() -> None:
    for path in _texts():
        if path.suffix == ".md":
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
                if "://" not in target:
                    assert (path.parent / target).exists(), f"{name_of(path)} links to {target}"


def test_walks_lead_past_things_that_exist() -> None:
    walks = ROOT / "docs" / "walks.md"
    stations = re.findall(r"\]\(([^)]+)\)\s+`(\w+)`", walks.read_text(encoding="utf-8"))
    assert len(stations) > 30
    for target, name in stations:
        text = (walks.parent / target).read_text(encoding="utf-8")
        assert re.search(rf"(def|class) {name}\b|^{name}\b", text, re.MULTILINE), f"{target} has no {name}"


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _root(module: str) -> str:
    return module.partition(".")[0]


def _is_standard(module: str) -> bool:
    return _root(module) in sys.stdlib_module_names


def _file_of(module: str) -> Path:
    for root in CODE_ROOTS:
        base = ROOT / root / module.replace(".", "/")
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.exists():
                return file
    raise AssertionError(f"no file for {module}")


def _eager_imports(path: Path) -> set[str]:
    """What importing the file imports: late imports inside functions left out."""
    found = set()
    for node in tree(path).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def _reads_environment(path: Path) -> bool:
    names = ("environ", "environb", "getenv", "expandvars")
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) == "os")
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and any(a.name in names for a in node.names)
        )
        for node in ast.walk(tree(path))
    )


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _strings(path: Path) -> Iterator[str]:
    """String constants that are not docstrings."""
    docs = set()
    for node in ast.walk(tree(path)):
        if body := getattr(node, "body", None):
            if isinstance(body, list) and _is_text(body[0]):
                docs.add(id(body[0].value))
            for _, below in pairwise(body) if isinstance(body, list) else ():
                if _is_text(below):
                    docs.add(id(below.value))
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def _texts() -> Iterator[Path]:
    """Every text of the repository that people write: code, documents, configuration."""
    kinds = {
        ".py",
        ".md",
        ".toml",
        ".txt",
        ".sql",
        ".yaml",
        ".yml",
        ".conf",
        ".sh",
        ".service",
        ".json",
        ".html",
    }
    for path in sorted(ROOT.iterdir()):
        if path.is_file() and (path.suffix in kinds or path.name == "Makefile"):
            yield path
    for folder in (*EVERYWHERE, "deploy", ".ci"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and (path.suffix in kinds or path.parent.name == ".ci"):
                yield path
