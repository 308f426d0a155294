"""Chisel: run a Python script on somebody's GPUs as if it ran here.

    from chisel import GPUType, capture_trace

Open `trace/capture.py` for the decorator, `client.py` for what a program can ask of a backend and
`cli/__init__.py` for the command. Importing this package loads nothing else: every public name is
fetched when it is first used, so a script pays only for what it takes.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from chisel.client import Client as Client
    from chisel.trace.capture import capture_trace as capture_trace
    from chisel_shared.contract.errors import ChiselError as ChiselError
    from chisel_shared.contract.gpus import GPUType as GPUType
    from chisel_shared.contract.job import JobSpec as JobSpec
    from chisel_shared.contract.job import JobView as JobView

__all__ = ["ChiselError", "Client", "GPUType", "JobSpec", "JobView", "__version__", "capture_trace"]

_HOMES = {
    "ChiselError": "chisel_shared.contract.errors",
    "Client": "chisel.client",
    "GPUType": "chisel_shared.contract.gpus",
    "JobSpec": "chisel_shared.contract.job",
    "JobView": "chisel_shared.contract.job",
    "capture_trace": "chisel.trace.capture",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'chisel' has no attribute {name!r}")
    value: object = getattr(__import__(_HOMES[name], fromlist=["*"]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
