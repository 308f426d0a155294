"""The sidecar of a trace, `{stem}.meta.json`: what the capture knows and the trace file does not say.

The job writes it with the standard library alone (`chisel.trace`), so every field has a default: a reader
takes what an older or newer SDK wrote. The trace file `{stem}.json` appears after its sidecar.
"""

import msgspec

SUFFIX = ".meta.json"
MAX_BYTES = 64 << 10
"""A larger file is none of ours."""


class Gpu(msgspec.Struct, frozen=True, omit_defaults=True):
    """A GPU as its driver saw it when the capture began and, where a name says so, when it ended. None:
    the driver did not say."""

    index: int = 0
    uuid: str = ""
    model: str = ""
    driver: str = ""
    sm_clock_mhz: int | None = None
    sm_clock_end_mhz: int | None = None
    max_sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_c: int | None = None
    temperature_end_c: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    throttled: tuple[str, ...] = ()
    """Why its clock was held down: `power_cap`, `thermal`, `hardware_slowdown`, …"""
    neighbours: int | None = None
    """Other processes that computed on it."""


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the profiler was asked to record."""

    record_shapes: bool = False
    profile_memory: bool = False
    with_stack: bool = False
    all_threads: bool = False


class Sidecar(msgspec.Struct, frozen=True, omit_defaults=True):
    schema: int = 1
    trace: str = ""
    """The name as the script gives it, of which the file name is the safe form."""
    function: str = ""
    file: str = ""
    call: int = 1
    """Of this name in this process, those that were skipped included; the first is cold."""
    rank: int | None = None
    world_size: int | None = None
    pid: int = 0
    host: str = ""
    started_at: float = 0.0
    """Unix time, seconds."""
    seconds: float = 0.0
    """How long the call was recorded."""
    save_seconds: float = 0.0
    """How long stopping and writing took."""
    ended_by: str = "return"
    """`return`, `exception`, `signal`, `closed` (a generator), or what cut it short: `max_seconds`,
    `max_memory`, `max_bytes`, `steps`, `foreign-profiler`."""
    error: str = ""
    """The exception's class when the call raised one."""
    size_bytes: int = 0
    repaired: int = 0
    """Lines in which a name had to be quoted before the file was JSON."""
    options: Options = Options()
    torch: str = ""
    cuda: str = ""
    python: str = ""
    gpus: tuple[Gpu, ...] = ()


def decode(data: bytes) -> Sidecar:
    """The sidecar in a file's bytes. `ValueError` for what is none."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"a sidecar has at most {MAX_BYTES:,} bytes")
    return msgspec.json.decode(data, type=Sidecar)


def encode(sidecar: Sidecar) -> bytes:
    return msgspec.json.encode(sidecar)
