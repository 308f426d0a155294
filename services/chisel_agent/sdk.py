"""What of Chisel a job can import: the SDK and its contract, and nothing that lies beside them."""

import importlib.util
from pathlib import Path

from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.sdk")

_PACKAGES = ("chisel", "chisel_shared")


def expose(folder: Path) -> Path:
    """A folder to put on a job's PYTHONPATH: links to the packages as this agent would import them.
    The packages are found, never imported."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in _PACKAGES:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            log.warning("sdk_not_installed", package=name)
            continue
        _link(folder / name, Path(found.origin).resolve().parent)
    return folder


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    aside = link.with_name(link.name + ".new")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target)
    aside.rename(link)  # over the old one: running jobs see either, never none
