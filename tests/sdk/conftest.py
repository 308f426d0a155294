"""A backend as a decorated function sees one: a directory for traces."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from chisel_shared.traces import sidecar


class Traces:
    """The directory that `CHISEL_TRACE_DIR` names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Every file, hidden ones too, but for the sidecars: each trace has one, and nothing else has."""
        found = set(os.listdir(self.path)) if self.path.exists() else set()
        sidecars = {name for name in found if name.endswith(sidecar.SUFFIX) and not name.startswith(".")}
        for name in sidecars:
            assert name.removesuffix(sidecar.SUFFIX) + ".json" in found
            self.sidecar(name.removesuffix(sidecar.SUFFIX))
        return sorted(found - sidecars)

    def sidecar(self, stem: str) -> sidecar.Sidecar:
        return sidecar.decode((self.path / (stem + sidecar.SUFFIX)).read_bytes())

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
    monkeypatch.setenv("CHISEL_TRACE_PID", str(os.getpid()))
    monkeypatch.setattr("chisel.trace.naming._counts", {})
    monkeypatch.setattr("chisel.trace.naming._taken", {})
    return Traces(tmp_path / "traces")
