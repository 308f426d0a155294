"""Everything that can go wrong by design, as one tree.

    ChiselError
    ├── UserError                 the caller can mend it
    │   ├── BadRequest            malformed or impossible
    │   ├── Unauthenticated       no key, or a key nobody knows
    │   ├── Forbidden             a known caller without the right
    │   ├── NotFound              nothing there that this caller may see
    │   ├── Conflict              contradicts what is already stored
    │   ├── TooLarge              over a limit that the message names
    │   ├── TooMany               asked too often in a short time
    │   ├── NoSuchGpus            no agent could ever run the job
    │   └── OverQuota             more than this user or project may have at once
    └── ServiceError              the caller can only wait or report it
        ├── Unavailable           a part is down or restarting: try again
        ├── StorageFull           no space: try again when there is
        ├── Stale                 an agent spoke for an attempt that is no longer its own
        └── InternalError         a defect of ours

A class knows its wire code, its HTTP status and the exit status of a command that ends with it.
`str(error)` is one sentence for a human; a class's docstring is its default message.
"""

from typing import Any, ClassVar

_BY_CODE: dict[str, type["ChiselError"]] = {}


class ChiselError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = ""
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 125
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" in cls.__dict__:
            _BY_CODE[cls.code] = cls

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class UserError(ChiselError):
    """The request cannot be served as it is."""


class BadRequest(UserError):
    """The request is malformed."""

    code = "bad_request"
    http_status = 400


class Unauthenticated(UserError):
    """The server does not accept this API key: run `chisel login`, or set CHISEL_API_KEY to a good one."""

    code = "unauthenticated"
    http_status = 401


class Forbidden(UserError):
    """This key may not do that."""

    code = "forbidden"
    http_status = 403


class NotFound(UserError):
    """There is no such thing, or it is not yours to see."""

    code = "not_found"
    http_status = 404


class Conflict(UserError):
    """This contradicts what is already stored."""

    code = "conflict"
    http_status = 409


class TooLarge(UserError):
    """This is larger than the server accepts."""

    code = "too_large"
    http_status = 413


class TooMany(UserError):
    """Too many attempts in a short time; wait a minute, then try again."""

    code = "too_many"
    http_status = 429


class NoSuchGpus(UserError):
    """No agent has that many GPUs."""

    code = "no_such_gpus"
    http_status = 422


class OverQuota(UserError):
    """This is more than you may have at once; ask an admin."""

    code = "over_quota"
    http_status = 422


class ServiceError(ChiselError):
    """The service cannot answer."""


class Unavailable(ServiceError):
    """A part of the service is not answering; try again in a few seconds."""

    code = "unavailable"
    http_status = 503
    retryable = True


class StorageFull(ServiceError):
    """The server has no space left for this; ask its operator, then try again."""

    code = "storage_full"
    http_status = 507
    retryable = True


class Stale(ServiceError):
    """This attempt belongs to somebody else by now."""

    code = "stale"
    http_status = 409


class InternalError(ServiceError):
    """The service failed on a defect of its own; its log has the details."""

    code = "internal"


def from_code(code: str, message: str) -> ChiselError:
    """The error a peer reported by its wire code; a code from a newer peer is an `InternalError`."""
    return _BY_CODE.get(code, InternalError)(message)
