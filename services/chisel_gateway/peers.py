"""Where a request comes from, and where people reach this server, with proxies in between or without."""

import re

from aiohttp import web

_HOST = re.compile(r"[A-Za-z0-9.\-_:\[\]]{1,255}")


class Peers:
    """`proxies` is how many proxies of ours a request has passed. Each adds the address it saw to
    `X-Forwarded-For`; whatever stands before those was written by the client and means nothing."""

    def __init__(self, *, proxies: int, public_url: str) -> None:
        self._proxies = proxies
        self._public_url = public_url.rstrip("/")

    def of(self, request: web.Request) -> str:
        """The client's address."""
        if self._proxies:
            seen = [one.strip() for one in request.headers.get("X-Forwarded-For", "").split(",")]
            if len(seen) >= self._proxies:
                return seen[-self._proxies][:64]
        return request.remote or ""

    def base_url(self, request: web.Request) -> str:
        """The address that people are sent to, without a slash at its end."""
        if self._public_url:
            return self._public_url
        host = request.host if _HOST.fullmatch(request.host) else "localhost"
        return f"{request.scheme}://{host}"
