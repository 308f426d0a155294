"""A profiler that does what the real one does on a bad day. Installed as `torch` for one test."""

import json
from types import SimpleNamespace

WHOLE = json.dumps({"traceEvents": []})


class Activity:
    CPU = "cpu"
    CUDA = "cuda"


class Profile:
    """Set the class's attributes to make it fail; `open` counts those that run."""

    open = 0
    fail_in = ""
    writes = WHOLE

    def __init__(self, **options: object) -> None:
        self.options = options
        self._step("init")

    def _step(self, name: str) -> None:
        if Profile.fail_in == name:
            raise RuntimeError(f"the profiler failed in {name}\nwith a second line")

    def start(self) -> None:
        self._step("start")
        Profile.open += 1

    def stop(self) -> None:
        Profile.open -= 1
        self._step("stop")

    def add_metadata_json(self, key: str, value: str) -> None:
        json.loads(value)
        self._step("metadata")

    def export_chrome_trace(self, path: str) -> None:
        self._step("export")
        with open(path, "w") as file:
            file.write(Profile.writes)


class Span:
    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        if Profile.fail_in == "span":
            raise RuntimeError("no span")

    def __exit__(self, *raised: object) -> None:
        """Ends."""


def module(*, running: bool = False) -> SimpleNamespace:
    """What stands in for the package `torch`; `running`: the script's own profiler is on."""
    Profile.open, Profile.fail_in, Profile.writes = 0, "", WHOLE
    return SimpleNamespace(
        profiler=SimpleNamespace(profile=Profile, ProfilerActivity=Activity, record_function=Span),
        cuda=SimpleNamespace(is_available=lambda: False),
        autograd=SimpleNamespace(
            _profiler_enabled=lambda: running,
            profiler=SimpleNamespace(_prepare_profiler=lambda *args, **kwargs: None),
        ),
    )
