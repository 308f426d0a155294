"""Our own source as data: which files there are, what they import, what a member's docstring says."""

import ast
from functools import cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE_ROOTS = ("cli", "shared", "services")
SERVICES = ("agent", "auth", "gateway", "scheduler", "storage")


def python_files(*folders: str) -> list[Path]:
    """The Python files below these folders of the repository, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """A file as a reader of a failure wants it: relative to the repository."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=name_of(path))


def imports(path: Path) -> set[str]:
    """Every module a file imports, late ones included; `from x import y` counts as `x`."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} has a relative import"
            found.add(node.module or "")
    return found


def member_docs(path: Path, class_name: str) -> dict[str, str]:
    """The paragraph below each member of a class, by the member's name."""
    (found,) = (n for n in tree(path).body if isinstance(n, ast.ClassDef) and n.name == class_name)
    docs = {}
    for member, below in pairwise(found.body):
        target = member.targets[0] if isinstance(member, ast.Assign) else getattr(member, "target", None)
        if isinstance(target, ast.Name) and (text := _text(below)):
            docs[target.id] = " ".join(text.split())
    return docs


def _text(node: ast.stmt) -> str | None:
    if (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ):
        return node.value.value
    return None


def last_name(node: ast.expr | None) -> str:
    """`b` of a plain `b` or a dotted `a.b`; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
