"""Chisel: run a Python script on somebody's GPUs as if it ran here.

    from chisel import Client, GPUType, capture_trace

Open `trace/capture.py` for the decorator, `client.py` for what a program can ask of a backend and
`cli/__init__.py` for the command. Importing this package loads nothing else: every public name is
fetched when it is first used, so a script pays only for what it takes.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from chisel.address import Unreachable as Unreachable
    from chisel.aio import AsyncClient as AsyncClient
    from chisel.aio import AsyncJob as AsyncJob
    from chisel.client import Client as Client
    from chisel.following import Output as Output
    from chisel.job import Job as Job
    from chisel.trace.capture import capture_trace as capture_trace
    from chisel.trace.capture import step as step
    from chisel_shared.contract.errors import BadRequest as BadRequest
    from chisel_shared.contract.errors import ChiselError as ChiselError
    from chisel_shared.contract.errors import Conflict as Conflict
    from chisel_shared.contract.errors import Forbidden as Forbidden
    from chisel_shared.contract.errors import InternalError as InternalError
    from chisel_shared.contract.errors import NoSuchGpus as NoSuchGpus
    from chisel_shared.contract.errors import NotFound as NotFound
    from chisel_shared.contract.errors import OverQuota as OverQuota
    from chisel_shared.contract.errors import ServiceError as ServiceError
    from chisel_shared.contract.errors import StorageFull as StorageFull
    from chisel_shared.contract.errors import TooLarge as TooLarge
    from chisel_shared.contract.errors import TooMany as TooMany
    from chisel_shared.contract.errors import Unauthenticated as Unauthenticated
    from chisel_shared.contract.errors import Unavailable as Unavailable
    from chisel_shared.contract.errors import UserError as UserError
    from chisel_shared.contract.gpus import GPUType as GPUType
    from chisel_shared.contract.job import EndReason as EndReason
    from chisel_shared.contract.job import JobEnd as JobEnd
    from chisel_shared.contract.job import JobSpec as JobSpec
    from chisel_shared.contract.job import JobState as JobState
    from chisel_shared.contract.job import JobView as JobView

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "BadRequest",
    "ChiselError",
    "Client",
    "Conflict",
    "EndReason",
    "Forbidden",
    "GPUType",
    "InternalError",
    "Job",
    "JobEnd",
    "JobSpec",
    "JobState",
    "JobView",
    "NoSuchGpus",
    "NotFound",
    "Output",
    "OverQuota",
    "ServiceError",
    "StorageFull",
    "TooLarge",
    "TooMany",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "UserError",
    "__version__",
    "capture_trace",
    "step",
]

_HOMES = {
    "AsyncClient": "chisel.aio",
    "AsyncJob": "chisel.aio",
    "BadRequest": "chisel_shared.contract.errors",
    "ChiselError": "chisel_shared.contract.errors",
    "Client": "chisel.client",
    "Conflict": "chisel_shared.contract.errors",
    "EndReason": "chisel_shared.contract.job",
    "Forbidden": "chisel_shared.contract.errors",
    "GPUType": "chisel_shared.contract.gpus",
    "InternalError": "chisel_shared.contract.errors",
    "Job": "chisel.job",
    "JobEnd": "chisel_shared.contract.job",
    "JobSpec": "chisel_shared.contract.job",
    "JobState": "chisel_shared.contract.job",
    "JobView": "chisel_shared.contract.job",
    "NoSuchGpus": "chisel_shared.contract.errors",
    "OverQuota": "chisel_shared.contract.errors",
    "NotFound": "chisel_shared.contract.errors",
    "Output": "chisel.following",
    "ServiceError": "chisel_shared.contract.errors",
    "StorageFull": "chisel_shared.contract.errors",
    "TooLarge": "chisel_shared.contract.errors",
    "TooMany": "chisel_shared.contract.errors",
    "Unauthenticated": "chisel_shared.contract.errors",
    "Unavailable": "chisel_shared.contract.errors",
    "Unreachable": "chisel.address",
    "UserError": "chisel_shared.contract.errors",
    "capture_trace": "chisel.trace.capture",
    "step": "chisel.trace.capture",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'chisel' has no attribute {name!r}")
    value: object = getattr(__import__(_HOMES[name], fromlist=["*"]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
