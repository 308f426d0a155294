"""What is asked of the auth service about people: accounts, sign-ins on the page, logins of the command.

Passwords, tokens and codes travel in these and are kept nowhere in this form. Each is answered by auth.
"""

import msgspec

from chisel_shared.contract.subjects import Done, Request, said_on


class SignedIn(msgspec.Struct, frozen=True):
    """A browser's session. `session` is its secret, empty where it is known already."""

    session: str
    user: str
    is_admin: bool = False


@said_on("rpc.auth.sign-in")
class SignIn(Request[SignedIn], frozen=True):
    """Somebody gives name and password. `Unauthenticated` when they do not match, whatever the reason;
    `TooMany` when this account or this address has tried too often."""

    name: str
    password: str
    address: str

    def __repr__(self) -> str:
        return "SignIn(...)"


@said_on("rpc.auth.signed-in")
class GetSignIn(Request[SignedIn], frozen=True):
    """Whose session is this? `Unauthenticated` when it is over or never was."""

    session: str


@said_on("rpc.auth.sign-out")
class SignOut(Request[Done], frozen=True):
    """End a browser's session."""

    session: str


class InviteView(msgspec.Struct, frozen=True):
    """What an invitation gives. An empty `name` is for the invited to choose."""

    name: str = ""
    is_admin: bool = False


@said_on("rpc.auth.invite")
class GetInvite(Request[InviteView], frozen=True):
    """What does this invitation give? `NotFound` when it is used, expired or unknown; `TooMany` when
    this address has asked for too many that are."""

    token: str
    address: str


@said_on("rpc.auth.invite.accept")
class AcceptInvite(Request[SignedIn], frozen=True):
    """Make the account and sign it in. `BadRequest` says what is wrong with name or password,
    `Conflict` that the name is taken."""

    token: str
    name: str
    password: str
    address: str

    def __repr__(self) -> str:
        return "AcceptInvite(...)"


class LoginBegun(msgspec.Struct, frozen=True):
    """A login of the command line that waits for a person, in the terms of RFC 8628. Times in seconds."""

    device_code: str
    user_code: str
    expires_in: int
    interval: int


@said_on("rpc.auth.login.begin")
class BeginLogin(Request[LoginBegun], frozen=True):
    """A command wants a key: which machine asks, from where, with which client."""

    machine: str
    client: str
    address: str


class LoginAnswer(msgspec.Struct, frozen=True):
    """How a login stands: `authorization_pending`, `slow_down`, `access_denied`, `expired_token` or
    `done`; only the last brings a key, once."""

    status: str
    api_key: str = ""
    user: str = ""
    project: str = ""


@said_on("rpc.auth.login.poll")
class PollLogin(Request[LoginAnswer], frozen=True):
    """The command asks how its login stands."""

    device_code: str


class PendingLogin(msgspec.Struct, frozen=True):
    """What a person is shown before saying yes. `seconds_ago`: when the command began it."""

    user_code: str
    machine: str
    client: str
    address: str
    seconds_ago: float


@said_on("rpc.auth.login.pending")
class GetLogin(Request[PendingLogin], frozen=True):
    """Which machine shows this code? `NotFound` when none does any more, `TooMany` when this person has
    typed too many such codes."""

    session: str
    user_code: str


@said_on("rpc.auth.login.decide")
class DecideLogin(Request[PendingLogin], frozen=True):
    """The person who is signed in allows or refuses that machine. `NotFound` as for `GetLogin`."""

    session: str
    user_code: str
    allowed: bool


class KeyView(msgspec.Struct, frozen=True):
    """A key, without its secret. Times in seconds since 1970."""

    id: str
    name: str
    created_at: float
    expires_at: float | None = None


class ApiKeys(msgspec.Struct, frozen=True):
    keys: tuple[KeyView, ...]


@said_on("rpc.auth.keys")
class ListKeys(Request[ApiKeys], frozen=True):
    """The keys of whoever is signed in, newest first."""

    session: str


@said_on("rpc.auth.keys.revoke")
class RevokeKey(Request[Done], frozen=True):
    """Revoke one key of whoever is signed in. `NotFound` when there is none with this id."""

    session: str
    key_id: str


class Identity(msgspec.Struct, frozen=True):
    """Whom a key speaks for."""

    user: str
    project: str
    is_admin: bool
    key: KeyView


@said_on("rpc.auth.identity")
class GetIdentity(Request[Identity], frozen=True):
    """Whom does this key speak for?"""

    token: str


@said_on("rpc.auth.logout")
class RevokeOwnKey(Request[Done], frozen=True):
    """The bearer gives a key back. `Conflict` for the one the server itself began with."""

    token: str


class UserView(msgspec.Struct, frozen=True):
    """An account. `state`: `active`, or `invited` while nobody has accepted."""

    name: str
    project: str
    is_admin: bool
    state: str
    keys: int = 0


class Users(msgspec.Struct, frozen=True):
    users: tuple[UserView, ...]


@said_on("rpc.auth.users")
class ListUsers(Request[Users], frozen=True):
    """Every account and every open invitation, by name."""


class Invited(msgspec.Struct, frozen=True):
    """An invitation's secret, told once, and for how long it holds."""

    token: str
    name: str
    expires_in_seconds: int


@said_on("rpc.auth.users.invite")
class InviteUser(Request[Invited], frozen=True):
    """Invite somebody under this name. A project that does not exist is made; empty means the
    inviter's. `Conflict` when the account exists."""

    name: str
    project: str
    is_admin: bool
    invited_by: str


@said_on("rpc.auth.users.remove")
class RemoveUser(Request[Done], frozen=True):
    """End an account with its keys and sessions, or an invitation. `NotFound` when there is neither,
    `Conflict` for the last admin."""

    name: str
    removed_by: str


class Owner(msgspec.Struct, frozen=True):
    """A user or a project, as jobs name it and as people do."""

    id: str
    name: str


@said_on("rpc.auth.owner")
class FindOwner(Request[Owner], frozen=True):
    """Which user, or which project, has this name? One whose account was ended still has it. `NotFound`
    when there is none."""

    name: str
    is_project: bool
