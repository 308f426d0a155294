"""Logins, keys and accounts over HTTP, for the command line."""

import msgspec
from aiohttp import web

from chisel_gateway.api import PRINCIPAL, TOKEN, read
from chisel_gateway.calls import ask
from chisel_gateway.peers import Peers
from chisel_gateway.routes import Route
from chisel_shared.contract.messages import (
    BeginLogin,
    Done,
    GetIdentity,
    Identity,
    Invited,
    InviteUser,
    ListUsers,
    LoginAnswer,
    PollLogin,
    RemoveUser,
    RevokeOwnKey,
    Users,
)
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.http import as_json


class LoginWish(msgspec.Struct, frozen=True):
    """Which machine asks for a key, and the name and version of the client that it runs."""

    machine: str
    client: str = ""


class DeviceLogin(msgspec.Struct, frozen=True):
    """What RFC 8628 calls a device authorization response. Times in seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class DeviceCode(msgspec.Struct, frozen=True):
    device_code: str


class NewUser(msgspec.Struct, frozen=True):
    """Whom to invite. Without a project it is the inviter's."""

    name: str
    project: str = ""
    is_admin: bool = False


class Invitation(msgspec.Struct, frozen=True):
    """`url` opens the account once; whoever has it first has the account."""

    name: str
    url: str
    expires_in: int


class AccountDoor:
    """The handlers."""

    def __init__(self, *, bus: Bus, peers: Peers) -> None:
        self._bus = bus
        self._peers = peers

    def routes(self) -> tuple[Route, ...]:
        v1 = "/api/v1"
        return (
            Route(
                "POST",
                f"{v1}/login",
                None,
                self.begin_login,
                "Begin a login: a code for a person to allow, and one to poll with (RFC 8628).",
                body=LoginWish,
                reply=DeviceLogin,
            ),
            Route(
                "POST",
                f"{v1}/login/token",
                None,
                self.poll_login,
                "How a login stands; once allowed, the API key, once.",
                body=DeviceCode,
                reply=LoginAnswer,
            ),
            Route(
                "GET", f"{v1}/whoami", "jobs:read", self.whoami, "Whom this key speaks for.", reply=Identity
            ),
            Route("POST", f"{v1}/logout", "jobs:read", self.logout, "Revoke this very key.", reply=Done),
            Route("GET", f"{v1}/users", "accounts:admin", self.list_users, "Every account.", reply=Users),
            Route(
                "POST",
                f"{v1}/users",
                "accounts:admin",
                self.invite_user,
                "Invite somebody.",
                body=NewUser,
                reply=Invitation,
                status=201,
            ),
            Route(
                "DELETE",
                f"{v1}/users/{{user}}",
                "accounts:admin",
                self.remove_user,
                "End an account with its keys and sessions, or an invitation.",
                reply=Done,
            ),
        )

    async def begin_login(self, request: web.Request) -> web.Response:
        wish = await read(request, LoginWish)
        begun = await self._bus.request(
            BeginLogin(machine=wish.machine, client=wish.client, address=self._peers.of(request))
        )
        address = f"{self._peers.base_url(request)}/login"
        return as_json(
            DeviceLogin(
                device_code=begun.device_code,
                user_code=begun.user_code,
                verification_uri=address,
                verification_uri_complete=f"{address}?code={begun.user_code}",
                expires_in=begun.expires_in,
                interval=begun.interval,
            ),
            headers={"Cache-Control": "no-store"},
        )

    async def poll_login(self, request: web.Request) -> web.Response:
        asked = await read(request, DeviceCode)
        # Asked once: the answer that brings the key is given once.
        answer = await self._bus.request(PollLogin(device_code=asked.device_code))
        return as_json(answer, headers={"Cache-Control": "no-store"})

    async def whoami(self, request: web.Request) -> web.Response:
        return as_json(await ask(self._bus, GetIdentity(token=request[TOKEN])))

    async def logout(self, request: web.Request) -> web.Response:
        return as_json(await self._bus.request(RevokeOwnKey(token=request[TOKEN])))

    async def list_users(self, request: web.Request) -> web.Response:
        return as_json(await ask(self._bus, ListUsers()))

    async def invite_user(self, request: web.Request) -> web.Response:
        new = await read(request, NewUser)
        made: Invited = await self._bus.request(
            InviteUser(
                name=new.name, project=new.project, is_admin=new.is_admin, invited_by=request[PRINCIPAL].name
            )
        )
        url = f"{self._peers.base_url(request)}/welcome?token={made.token}"
        reply = Invitation(name=made.name, url=url, expires_in=made.expires_in_seconds)
        return as_json(reply, status=201, headers={"Cache-Control": "no-store"})

    async def remove_user(self, request: web.Request) -> web.Response:
        name = request.match_info["user"]
        return as_json(await ask(self._bus, RemoveUser(name=name, removed_by=request[PRINCIPAL].name)))
