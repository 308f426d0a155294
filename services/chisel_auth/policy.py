"""What a principal may do: one function, default deny. Pure."""

from chisel_shared.contract.errors import Forbidden
from chisel_shared.contract.messages import Principal

USER_ACTIONS = (
    "jobs:submit",
    "jobs:read",
    "jobs:cancel",
    "traces:read",
    "agents:read",
    "secrets:read",
    "secrets:write",
)
ADMIN_ACTIONS = ("accounts:admin", "agents:admin")
"""A user's that is an admin, besides those of every user."""
BROWSER_ACTIONS = ("jobs:read", "traces:read")
"""What the session of a browser may do by itself: look. For the rest its pages have forms."""
AGENT_ACTIONS = ("agent:work",)

_ACTIONS = {"user": frozenset((*USER_ACTIONS, *ADMIN_ACTIONS)), "agent": frozenset(AGENT_ACTIONS)}
"""What each kind could ever do; its scopes say which of these this one may."""

_FOR_ADMINS = ": log in as an admin with chisel login; the first one is made with chisel admin init"


def authorize(principal: Principal, action: str) -> None:
    """`Forbidden` unless both the principal's kind and its scopes allow `action`.

    A user acts inside a project, so one without a project may do nothing.
    """
    allowed = action in _ACTIONS.get(principal.kind, frozenset()) and action in principal.scopes
    if not allowed or (principal.kind == "user" and not principal.project_id):
        admins = action in ADMIN_ACTIONS and principal.kind == "user"
        raise Forbidden(f"this key may not do {action[:40]!r}{_FOR_ADMINS if admins else ''}")
