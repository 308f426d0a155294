"""Which files never travel with a job."""

NAMES = frozenset(
    {
        # version control
        ".git",
        ".hg",
        ".svn",
        # environments: the backend builds its own from the requirements
        ".venv",
        "venv",
        "node_modules",
        # caches
        "__pycache__",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
        # our own credentials
        ".chisel",
        # what a file manager leaves behind
        ".DS_Store",
    }
)
"""Names of files and folders that are left out wherever they are."""


def is_excluded(name: str) -> bool:
    """Whether a file or folder called `name` is left out."""
    return name in NAMES


def excluded_part(path: str) -> str | None:
    """The part of a relative POSIX path that keeps it out of every bundle; None when it travels."""
    return next((part for part in path.split("/") if is_excluded(part)), None)
