"""The gateway's HTTP: short questions, uploads and downloads. What is long or live goes by WebSocket."""

import http.client
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TypeVar

from chisel.address import CONNECT_SECONDS, Unreachable, dial, lost, parse
from chisel_shared.contract.errors import (
    BadRequest,
    ChiselError,
    Forbidden,
    InternalError,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
    from_code,
)

ANSWER_SECONDS = 30.0
"""No answer, or no progress of a transfer, for so long: the backend is gone."""

RETRY_SECONDS = 10.0
"""For how long a question is repeated while a part of the backend restarts."""

UPLOAD_TRIES = 5
T = TypeVar("T")

_PIECE_BYTES = 1 << 18
_MAX_ANSWER_BYTES = 64 << 20


class Api:
    """One connection, kept between questions. Use it as a context manager, or close it. With
    `patience_seconds` a question is given up after about so long."""

    def __init__(self, *, url: str, key: str, patience_seconds: float | None = None) -> None:
        self._address = parse(url)
        self._retry_seconds = RETRY_SECONDS if patience_seconds is None else patience_seconds
        self._answer_seconds = ANSWER_SECONDS if patience_seconds is None else patience_seconds
        self._headers = {
            "Host": self._address.authority,
            "Authorization": f"Bearer {key}",
            "Accept": "application/json",
        }
        self._connection: http.client.HTTPConnection | None = None

    def get_bytes(self, path: str) -> bytes:
        """The body of the answer to GET `path`."""
        return self._ask("GET", path)

    def post_bytes(self, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        """The body of the answer to POST `path`, which must be safe to repeat."""
        return self._ask("POST", path, body, headers)

    def put_bytes(self, path: str, body: bytes) -> bytes:
        """The body of the answer to PUT `path`, which must be safe to repeat."""
        return self._ask("PUT", path, body)

    def delete_bytes(self, path: str) -> bytes:
        """The body of the answer to DELETE `path`, which must be safe to repeat."""
        return self._ask("DELETE", path)

    def upload(self, path: str, size: int, read: Iterable[bytes]) -> Iterator[int]:
        """PUT what `read` yields, which can be read again; yields how much is sent so far.

        A transfer that breaks is started again; `Unavailable` after `UPLOAD_TRIES`.
        """
        for tried in range(1, UPLOAD_TRIES + 1):
            try:
                yield from self._put(path, size, read)
                return
            except (OSError, http.client.HTTPException, Unavailable, Unreachable) as error:
                self.close()
                if tried == UPLOAD_TRIES:
                    raise Unavailable(
                        f"the upload to {self._address} broke {tried} times ({_why(error)}): try again later"
                    ) from error
            time.sleep(0.25 * 2**tried)

    def download(self, path: str, *, start: int = 0, gzip: bool = False) -> Iterator[bytes]:
        """The body of the answer to GET `path` from its byte `start` on, in pieces; with `gzip` the gzip
        file that it is sent as. A transfer that breaks, or cannot begin, is `Unavailable`."""
        whole = False
        asked = {"Range": f"bytes={start}-"} if start else {}
        try:
            self._send("GET", path, 0, asked, encoding="gzip" if gzip else "identity")
            answer = self._answer(path)
            if gzip and answer.getheader("Content-Encoding") != "gzip":
                raise InternalError("the backend, or something before it, unpacked what is to come packed")
            left_out = 0 if answer.status == 206 else start
            while piece := answer.read(_PIECE_BYTES):
                if left_out < len(piece):
                    yield piece[left_out:]
                left_out = max(0, left_out - len(piece))
            if answer.length:
                # http.client takes a lost connection for the end.
                raise http.client.IncompleteRead(b"", answer.length)
            whole = not answer.will_close
        except (OSError, http.client.HTTPException, Unreachable) as error:
            raise Unavailable(f"the download from {self._address} broke ({_why(error)})") from error
        finally:
            if not whole:
                self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        deadline = time.monotonic() + self._retry_seconds
        while True:
            try:
                connection = self._send(method, path, len(body), headers or {})
                if body:
                    connection.send(body)
                return self._answer(path).read(_MAX_ANSWER_BYTES)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if time.monotonic() > deadline:
                    raise Unavailable(f"{self._address} does not answer ({_why(error)})") from error
            time.sleep(0.2)

    def _put(self, path: str, size: int, read: Iterable[bytes]) -> Iterator[int]:
        connection = self._send("PUT", path, size)
        sent = 0
        try:
            for piece in read:
                connection.send(piece)
                sent += len(piece)
                yield sent
        except OSError:
            # The gateway may have answered before it had everything, and closed: hear why.
            with suppress(OSError, http.client.HTTPException):
                self._answer(path)
            raise
        self._answer(path).read(_MAX_ANSWER_BYTES)

    def _send(
        self, method: str, path: str, size: int, extra: Mapping[str, str] = MappingProxyType({}),
        *, encoding: str = "identity",
    ) -> http.client.HTTPConnection:  # fmt: skip
        """Send a request's head; the body of `size` bytes is the caller's to send."""
        if self._connection is None:
            dialled = dial(self._address, seconds=min(CONNECT_SECONDS, self._answer_seconds))
            dialled.settimeout(self._answer_seconds)
            self._connection = http.client.HTTPConnection(self._address.host, self._address.port)
            self._connection.sock = dialled
        try:
            self._connection.putrequest(
                method, self._address.path + path, skip_host=True, skip_accept_encoding=True
            )
            self._connection.putheader("Accept-Encoding", encoding)
            for name, value in (*self._headers.items(), *extra.items()):
                self._connection.putheader(name, value)
            if size or method != "GET":
                self._connection.putheader("Content-Length", str(size))
            self._connection.endheaders()
        except OSError:
            self.close()
            raise
        return self._connection

    def _answer(self, path: str) -> http.client.HTTPResponse:
        """The answer's head; the error it stands for when it is one."""
        if self._connection is None:
            raise Unreachable
        answer = self._connection.getresponse()
        if answer.status < 300:
            return answer
        body = answer.read(_MAX_ANSWER_BYTES)
        self.close()
        raise error_of(answer.status, body)


_BY_STATUS: dict[int, type[ChiselError]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    413: TooLarge,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def error_of(status: int, body: bytes) -> ChiselError:
    """The error an HTTP answer stands for, whether our gateway gave it or something before it."""
    import json

    try:
        error = json.loads(body)["error"]
        return from_code(str(error["code"]), str(error["message"]))
    except (ValueError, LookupError, TypeError):
        pass  # not our gateway's: a proxy, or another server altogether
    if status in _BY_STATUS:
        return _BY_STATUS[status](f"{_BY_STATUS[status].__doc__} (HTTP {status})")
    return InternalError(
        f"the backend gave an answer that is not Chisel's (HTTP {status}): is the URL right?"
    )


def decoded(answer: bytes, kind: type[T]) -> T:
    """An answer of the backend as a `kind`; `InternalError` when it is none."""
    import msgspec

    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.MsgspecError as error:
        raise InternalError(f"the backend's answer is not Chisel's ({error}): is the URL right?") from error


def _why(error: Exception) -> str:
    return lost(error) if isinstance(error, OSError) else (str(error) or type(error).__name__)
