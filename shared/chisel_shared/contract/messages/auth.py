"""What is asked of the auth service."""

import msgspec

from chisel_shared.contract.ids import AgentId, ProjectId
from chisel_shared.contract.subjects import Done, Request, said_on


class Principal(msgspec.Struct, frozen=True):
    """Who is calling: a user in a project, or an agent."""

    kind: str
    """`"user"` or `"agent"`."""
    id: str
    name: str
    project_id: ProjectId | None = None
    scopes: tuple[str, ...] = ()


@said_on("rpc.auth.authorize")
class Authorize(Request[Principal], frozen=True):
    """May the bearer of `token` do `action`? `Unauthenticated` or `Forbidden` when not.

    Actions: `jobs:submit`, `jobs:read`, `jobs:cancel`, `traces:read`, `agents:read`, `secrets:read`,
    `secrets:write`, `agent:work`.
    """

    token: str
    action: str


class AgentCredentials(msgspec.Struct, frozen=True):
    """What an agent keeps after joining: its identity, its key for HTTP and its way to the bus."""

    agent_id: AgentId
    key: str
    nats_url: str
    nats_user: str
    nats_password: str
    pool: str


@said_on("rpc.auth.join")
class JoinAgent(Request[AgentCredentials], frozen=True):
    """An agent introduces itself with a join token."""

    token: str
    name: str


class SecretView(msgspec.Struct, frozen=True):
    """A secret as users see it: never its value. `set_at` is in seconds since the epoch, `version`
    counts how often it was set."""

    name: str
    version: int
    set_at: float
    set_by: str


class Secrets(msgspec.Struct, frozen=True):
    secrets: tuple[SecretView, ...]


@said_on("rpc.auth.set-secret")
class SetSecret(Request[SecretView], frozen=True):
    """Keep `value`, any bytes but NUL, under `name` for the jobs of a project; an older value is gone.
    `Conflict` when this backend keeps no secrets."""

    project_id: ProjectId
    set_by: str
    name: str
    value: bytes

    def __repr__(self) -> str:  # what is logged of a message, if anything ever is
        return f"SetSecret(project_id={self.project_id!r}, name={self.name!r}, value=...)"


@said_on("rpc.auth.secrets")
class ListSecrets(Request[Secrets], frozen=True):
    """Every secret of a project, by name."""

    project_id: ProjectId


@said_on("rpc.auth.remove-secret")
class RemoveSecret(Request[Done], frozen=True):
    """Forget a secret. `NotFound` when there is none of that name."""

    project_id: ProjectId
    name: str


@said_on("rpc.auth.require-secrets")
class RequireSecrets(Request[Done], frozen=True):
    """Are all of these there, for a job about to be queued? `NotFound` names those that are not,
    `TooLarge` says that together they are more than a job may have."""

    project_id: ProjectId
    names: tuple[str, ...]


class OpenedSecrets(msgspec.Struct, frozen=True):
    """Values by name."""

    values: dict[str, bytes]

    def __repr__(self) -> str:
        return f"OpenedSecrets(values of {sorted(self.values)})"


@said_on("rpc.auth.open-secrets")
class OpenSecrets(Request[OpenedSecrets], frozen=True):
    """The values, for the agent that holds the job; the asker has checked that it does. `NotFound` when
    one was removed meanwhile, `Conflict` when one was kept under a key that is gone."""

    project_id: ProjectId
    names: tuple[str, ...]
