"""A backend as a decorated function sees one: a directory for traces."""

import json
import os
from pathlib import Path
from typing import Any

import pytest


class Traces:
    """The directory that `CHISEL_TRACE_DIR` names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Every file, hidden ones too."""
        return sorted(os.listdir(self.path)) if self.path.exists() else []

    def load(self, name: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.path / name).read_bytes())
        return loaded

    def labels(self, name: str) -> list[str]:
        """The names of its events."""
        return [event["name"] for event in self.load(name)["traceEvents"] if "name" in event]


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Traces:
    monkeypatch.setenv("CHISEL_TRACE_DIR", str(tmp_path / "traces"))
    monkeypatch.setenv("KINETO_LOG_LEVEL", "6")
    monkeypatch.setattr("chisel.trace.naming._counts", {})
    return Traces(tmp_path / "traces")
