"""What is asked of the auth service."""

import msgspec

from chisel_shared.contract.ids import AgentId, ProjectId
from chisel_shared.contract.subjects import Request, said_on


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

    Actions: `jobs:submit`, `jobs:read`, `jobs:cancel`, `traces:read`, `agents:read`, `agent:work`.
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
