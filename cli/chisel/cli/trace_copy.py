"""A trace file of this machine saved in another form, plain or compressed, whole or not at all."""

import gzip
import os
from pathlib import Path
from typing import BinaryIO, cast

from chisel.cli.trace_desk import File
from chisel.cli.trace_sources import NotWhole
from chisel.cli.values import UsageError
from chisel_shared.traces import words
from chisel_shared.traces.source import Blocks

_MOST_BYTES = 16 << 30
_LEVEL = 1


def copy_as(file: File, folder: str, *, gz: bool) -> str:
    """The trace as `STEM.json` or `STEM.json.gz` in `folder`; the path. `NotWhole` for a compressed file that
    is cut, `TraceError` for one that unpacks to more than any trace."""
    path = Path(folder) / (words.stem(file.name) + (".json.gz" if gz else ".json"))
    if path.exists() and (not path.is_file() or path.samefile(file.path)):
        raise UsageError(f"{path} is there already and is no copy: name another folder with -o DIR")
    os.makedirs(folder, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(file.path, "rb") as source, open(aside, "wb") as target:
            blocks = Blocks(source, limit=_MOST_BYTES)
            if gz:
                with gzip.GzipFile("", "wb", _LEVEL, target, mtime=0) as packed:
                    _write(blocks, cast("BinaryIO", packed))
            else:
                _write(blocks, target)
        if blocks.cut:
            raise NotWhole(
                f"{file.name} is cut off, and nothing was saved: chisel trace summary reads the rest"
            )
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return str(path)


def _write(blocks: Blocks, target: BinaryIO) -> None:
    for block in blocks:
        target.write(block)
