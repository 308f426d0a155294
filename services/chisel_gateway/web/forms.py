"""Forms: read, and taken only from our own pages.

Each form carries a token that is made from the browser's cookie, which no other site can read or set;
the cookie is `SameSite`; and a browser that says where a form comes from must name this server.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp import web

from chisel_shared.contract.errors import BadRequest, Forbidden
from chisel_shared.contract.messages import SignedIn

FIELD = "form"
_FORM_TYPE = "application/x-www-form-urlencoded"
_STALE = "this form is out of date, or the browser keeps no cookies: load the page again"
_FOREIGN = "this form came from another site"


class Forms:
    """`public_url` is the address that people use, where it is known; over https cookies are `Secure`
    and bound to this very host."""

    def __init__(self, *, public_url: str) -> None:
        self._public_host = urlsplit(public_url).netloc
        self._secure = public_url.startswith("https://")
        self._prefix = "__Host-" if self._secure else ""

    def session(self, request: web.Request) -> str:
        """The secret of whoever is signed in; empty when nobody is."""
        return request.cookies.get(f"{self._prefix}chisel-session", "")

    def token(self, request: web.Request) -> tuple[str, str]:
        """The token for a form on the page being made, and the cookie it stands on, which must be set."""
        cookie = request.cookies.get(f"{self._prefix}chisel-form", "")
        if not 32 <= len(cookie) <= 64:
            cookie = secrets.token_urlsafe(32)
        return self._made(cookie, self.session(request)), cookie

    async def read(self, request: web.Request) -> Mapping[str, str]:
        """The fields of a form of ours; `Forbidden` for anybody else's."""
        if request.content_type != _FORM_TYPE:
            raise BadRequest("this address takes forms")
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise Forbidden(_FOREIGN)
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc not in {request.host, self._public_host} - {""}:
            raise Forbidden(_FOREIGN)
        try:
            fields = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        except (ValueError, LookupError) as error:
            raise BadRequest("the form cannot be read") from error
        cookie = request.cookies.get(f"{self._prefix}chisel-form", "")
        made = self._made(cookie, self.session(request))
        if not cookie or not hmac.compare_digest(fields.get(FIELD, "").encode(), made.encode()):
            raise Forbidden(_STALE)
        return fields

    def keep_form(self, response: web.Response, cookie: str) -> None:
        self._set(response, "chisel-form", cookie)

    def keep_session(self, response: web.Response, signed_in: SignedIn) -> None:
        """Sign the browser in. A form cookie from before ends here, or whoever planted it knew the
        token of the next form."""
        self._set(response, "chisel-session", signed_in.session)
        self._set(response, "chisel-form", secrets.token_urlsafe(32))

    def end_session(self, response: web.Response) -> None:
        for name in ("chisel-session", "chisel-form"):
            response.del_cookie(f"{self._prefix}{name}", path="/", secure=self._secure, httponly=True)

    def _set(self, response: web.Response, name: str, value: str) -> None:
        response.set_cookie(
            f"{self._prefix}{name}", value, path="/", httponly=True, secure=self._secure, samesite="Lax"
        )

    def _made(self, cookie: str, session: str) -> str:
        return hmac.new(cookie.encode(), f"form\0{session}".encode(), hashlib.sha256).hexdigest()
