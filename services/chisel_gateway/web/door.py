"""The addresses of the pages. Each handler asks auth and shows what it answered."""

import re
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote

from aiohttp import web

from chisel_gateway.calls import ask
from chisel_gateway.peers import Peers
from chisel_gateway.routes import Route
from chisel_gateway.web import pages
from chisel_gateway.web.forms import Forms
from chisel_gateway.web.html import page
from chisel_shared.contract.errors import (
    BadRequest,
    ChiselError,
    Conflict,
    InternalError,
    NotFound,
    TooMany,
    Unauthenticated,
)
from chisel_shared.contract.messages import (
    AcceptInvite,
    DecideLogin,
    GetInvite,
    GetLogin,
    GetSignIn,
    ListKeys,
    RevokeKey,
    SignedIn,
    SignIn,
    SignOut,
)
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.http import Handler
from chisel_shared.runtime.logs import Log

log = Log("chisel.gateway.web")

_MOST_FIELD_CHARS = 512
_RETRY_SECONDS = "60"
_PAGE = re.compile(r"jobs/[a-z0-9@-]{1,40}/traces/[A-Za-z0-9_][A-Za-z0-9._-]{0,199}(/timeline)?")


class Pages:
    """Every page."""

    def __init__(self, *, bus: Bus, forms: Forms, peers: Peers) -> None:
        self._bus = bus
        self._forms = forms
        self._peers = peers

    def routes(self) -> tuple[Route, ...]:
        """Open to all, because a browser has no key; what each may show is auth's to say."""
        return (
            Route("GET", "/login", None, _shown(self.login), "Sign in, or allow a login.", page=True),
            Route("POST", "/login", None, _shown(self.sign_in), "Sign in.", page=True),
            Route("POST", "/approve", None, _shown(self.approve), "Allow or refuse a login.", page=True),
            Route("POST", "/forget", None, _shown(self.forget), "Revoke a key.", page=True),
            Route("POST", "/sign-out", None, _shown(self.sign_out), "Sign out.", page=True),
            Route("GET", "/welcome", None, _shown(self.welcome), "See an invitation.", page=True),
            Route("POST", "/welcome", None, _shown(self.accept), "Open an account.", page=True),
        )

    async def login(self, request: web.Request) -> web.Response:
        form, cookie = self._forms.token(request)
        code = _code(request.query.get("code", ""))
        who = await self._who(request)
        if who is None:
            then = _then(request.query.get("next", ""))
            shown = page("Sign in", pages.sign_in(form, code=code, then=then))
        elif code:
            try:
                asks = await ask(self._bus, GetLogin(session=self._forms.session(request), user_code=code))
                shown = page("Allow a login", pages.confirm(form, who, asks))
            except (NotFound, TooMany) as error:
                shown = await self._overview(request, who, form, problem=error)
        else:
            shown = await self._overview(request, who, form)
        self._forms.keep_form(shown, cookie)
        return shown

    async def sign_in(self, request: web.Request) -> web.Response:
        fields = await self._forms.read(request)
        name, code, then = (
            _field(fields, "name"),
            _code(fields.get("code", "")),
            _then(_field(fields, "next")),
        )
        try:
            # Asked once: a repeated question would count as another attempt.
            signed_in = await self._bus.request(
                SignIn(name=name, password=fields.get("password", ""), address=self._peers.of(request))
            )
        except (Unauthenticated, TooMany) as error:
            form, cookie = self._forms.token(request)
            shown = page(
                "Sign in",
                pages.sign_in(form, code=code, then=then, name=name, problem=str(error)),
                status=error.http_status,
            )
            self._forms.keep_form(shown, cookie)
            return _with_retry(shown, error)
        return self._welcomed(signed_in, code, then)

    async def approve(self, request: web.Request) -> web.Response:
        fields = await self._forms.read(request)
        answer = fields.get("answer", "")
        if answer not in ("allow", "refuse"):
            raise BadRequest("allow or refuse")
        decision = DecideLogin(
            session=self._forms.session(request),
            user_code=_code(fields.get("code", "")),
            allowed=answer == "allow",
        )
        asks = await self._bus.request(decision)
        title = "Done" if decision.allowed else "Refused"
        return page(title, pages.decided(asks, allowed=decision.allowed))

    async def forget(self, request: web.Request) -> web.Response:
        fields = await self._forms.read(request)
        session = self._forms.session(request)
        await ask(self._bus, RevokeKey(session=session, key_id=_field(fields, "key")))
        return _seen_at("login")

    async def sign_out(self, request: web.Request) -> web.Response:
        await self._forms.read(request)
        await ask(self._bus, SignOut(session=self._forms.session(request)))
        gone = _seen_at("login")
        self._forms.end_session(gone)
        return gone

    async def welcome(self, request: web.Request) -> web.Response:
        form, cookie = self._forms.token(request)
        token = request.query.get("token", "")[:_MOST_FIELD_CHARS]
        invite = await self._bus.request(GetInvite(token=token, address=self._peers.of(request)))
        shown = page("Welcome", pages.welcome(form, token, invite))
        self._forms.keep_form(shown, cookie)
        return shown

    async def accept(self, request: web.Request) -> web.Response:
        fields = await self._forms.read(request)
        token, name, password = _field(fields, "token"), _field(fields, "name"), fields.get("password", "")
        address = self._peers.of(request)
        try:
            if password != fields.get("again", ""):
                raise BadRequest("the two passwords differ")
            signed_in = await self._bus.request(
                AcceptInvite(token=token, name=name, password=password, address=address)
            )
        except (BadRequest, Conflict) as error:
            invite = await self._bus.request(GetInvite(token=token, address=address))
            form, cookie = self._forms.token(request)
            content = pages.welcome(form, token, invite, name=name, problem=str(error))
            shown = page("Welcome", content, status=error.http_status)
            self._forms.keep_form(shown, cookie)
            return shown
        return self._welcomed(signed_in, "")

    def _welcomed(self, signed_in: SignedIn, code: str, then: str = "") -> web.Response:
        gone = _seen_at(f"login?code={quote(code)}" if code else then or "login")
        self._forms.keep_session(gone, signed_in)
        return gone

    async def _overview(
        self, request: web.Request, who: SignedIn, form: str, *, problem: ChiselError | None = None
    ) -> web.Response:
        keys = (await ask(self._bus, ListKeys(session=self._forms.session(request)))).keys
        content = pages.ask_code(form, who, keys, problem=str(problem or ""))
        shown = page("Your account", content, status=problem.http_status if problem else 200)
        return _with_retry(shown, problem)

    async def _who(self, request: web.Request) -> SignedIn | None:
        session = self._forms.session(request)
        if not session or len(session) > _MOST_FIELD_CHARS:
            return None
        try:
            return await ask(self._bus, GetSignIn(session=session))
        except Unauthenticated:
            return None


def _shown(handler: Callable[[web.Request], Awaitable[web.Response]]) -> Handler:
    """`handler`, with its errors as pages."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ChiselError as error:
            if isinstance(error, InternalError):
                log.error("page_failed", path=request.path, error=str(error))
            shown = page("Problem", pages.problem_page(str(error)), status=error.http_status)
            return _with_retry(shown, error)

    return guarded


def _with_retry(shown: web.Response, error: ChiselError | None) -> web.Response:
    if isinstance(error, TooMany):
        shown.headers["Retry-After"] = _RETRY_SECONDS
    return shown


def _seen_at(place: str) -> web.Response:
    """Go and GET `place`, so that loading the page again sends no form again. Relative, because a proxy
    may serve us below a path."""
    return web.Response(status=303, headers={"Location": place, "Cache-Control": "no-store"})


def _field(fields: Mapping[str, str], name: str) -> str:
    return fields.get(name, "").strip()[:_MOST_FIELD_CHARS]


def _then(text: str) -> str:
    """A page of ours to go on to; nothing else, or a link could lead whoever signs in anywhere."""
    return text if _PAGE.fullmatch(text) else ""


def _code(text: str) -> str:
    return "".join(letter for letter in text.upper()[:16] if letter.isascii() and letter.isalnum())
