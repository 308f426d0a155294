"""`chisel python --preview`: what would be uploaded, and what not and why. Nothing is sent."""

from typing import TYPE_CHECKING

from chisel.cli import wording
from chisel.cli.render import Screen
from chisel.layout import Layout

if TYPE_CHECKING:
    from chisel.bundle import Bundle

_LARGEST, _SHOWN = 10, 10


def preview(layout: Layout, screen: Screen, *, as_json: bool) -> int:
    """Show what running the job would send; the exit status."""
    from chisel.bundle import pack

    with pack(layout.root) as bundle:
        for needed in layout.needed():
            bundle.tree.require(needed)
        if as_json:
            screen.json(_facts(bundle))
        else:
            screen.result("\n".join(_lines(bundle)))
    return 0


def _facts(bundle: "Bundle") -> dict[str, object]:
    tree = bundle.tree
    return {
        "root": tree.root,
        "files": tree.files,
        "size_bytes": tree.size_bytes,
        "new_files": bundle.new,
        "upload_bytes": bundle.upload_bytes,
        "largest": [
            {"path": entry.name, "size_bytes": entry.status.st_size} for entry in tree.largest(_LARGEST)
        ],
        "left_out": [{"path": name, "why": why} for name, why in tree.left_out],
        "skipped": tree.skipped,
        "secrets": tree.secrets,
    }


def _lines(bundle: "Bundle") -> list[str]:
    tree, new = bundle.tree, bundle.new
    lines = [f"{tree.root}: {wording.files(tree.files)}, {wording.size(tree.size_bytes)}"]
    if new:
        lines.append(f"new since the last upload: {wording.files(len(new))}, to send {_size(bundle)}")
        if len(new) < tree.files:
            lines += _some([f"  {name}" for name in new])
    else:
        lines.append("nothing is new since the last upload")
    lines.append("the largest files:")
    lines += [f"  {wording.size(e.status.st_size):>10}  {e.name}" for e in tree.largest(_LARGEST)]
    if tree.left_out:
        lines.append(f"left out: {len(tree.left_out):,}")
        lines += _some([f"  {name}  ({why})" for name, why in tree.left_out])
    if tree.skipped:
        lines.append(f"neither file nor folder: {wording.some(tree.skipped)}")
    if tree.secrets:
        lines.append(f"may hold secrets: {wording.some(tree.secrets)}")
    return lines


def _size(bundle: "Bundle") -> str:
    return f"{wording.size(bundle.upload_bytes)} compressed"


def _some(lines: list[str]) -> list[str]:
    more = [f"  and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
    return lines[:_SHOWN] + more
