"""What every HTTP door of ours does alike: errors of the one tree become JSON, and nothing else gets out.

`guarded` is the outermost middleware of an application; `failure` is how an error looks on the wire.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from chisel_shared.contract.errors import BadRequest, ChiselError, InternalError, NotFound, TooLarge
from chisel_shared.runtime.logs import Log

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = Log("chisel.http")

_RETRY_AFTER_SECONDS = 1
_PAUSE_SECONDS = 60


class ErrorBody(msgspec.Struct, frozen=True):
    """What went wrong: a code of the error tree and a sentence for a human."""

    code: str
    message: str


class ErrorReply(msgspec.Struct, frozen=True):
    error: ErrorBody


def failure(error: ChiselError) -> web.Response:
    """An error as the answer to a request."""
    kind = type(error)
    headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)} if kind.retryable else {}
    if kind.http_status == 429:
        headers["Retry-After"] = str(_PAUSE_SECONDS)
    if kind.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    reply = ErrorReply(ErrorBody(kind.code or InternalError.code, str(error)))
    return as_json(reply, status=kind.http_status, headers=headers)


def as_json(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Any of our structs as an answer."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, headers=headers, content_type="application/json"
    )


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer whatever happens. A connection whose answer broke off in the middle is cut, so that
    the reader never takes a part for the whole."""
    try:
        return await handler(request)
    except ChiselError as error:
        answer = failure(error)
        if isinstance(error, InternalError):
            log.error("request_failed", method=request.method, path=request.path, error=str(error))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        answer = failure(_translated(error))
        if "Allow" in error.headers:
            answer.set_status(error.status)
            answer.headers["Allow"] = error.headers["Allow"]
    except ConnectionError as error:  # the peer is gone, or must believe that we are
        log.debug("connection_lost", path=request.path, error=repr(error))
        return _cut(request)
    except Exception as error:
        log.error("request_failed", method=request.method, path=request.path, error=repr(error))
        answer = failure(InternalError())
    return _cut(request) if request.writer.output_size else answer


def _translated(error: web.HTTPException) -> ChiselError:
    match error.status:
        case 404:
            return NotFound("there is nothing at this address")
        case 405:
            return BadRequest("this address does not know that method")
        case 413:
            return TooLarge()
        case _:
            return BadRequest(error.reason)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # never sent: the transport is gone


async def body(request: web.Request) -> AsyncIterator[bytes]:
    """The body, piece by piece at the reader's pace; `BadRequest` when the sender stopped in the middle."""
    try:
        async for piece in request.content.iter_any():
            yield piece
    except (web.RequestPayloadError, ConnectionError) as error:
        raise BadRequest("the upload was cut off") from error
