"""Who may do what: the whole matrix."""

import pytest

from chisel_auth.policy import ADMIN_ACTIONS, AGENT_ACTIONS, USER_ACTIONS, authorize
from chisel_shared.contract.errors import Forbidden
from chisel_shared.contract.ids import ProjectId
from chisel_shared.contract.messages import Principal

ACTIONS = (*USER_ACTIONS, *ADMIN_ACTIONS, *AGENT_ACTIONS)
PROJECT = ProjectId("p1")


def user(*scopes: str, project: ProjectId | None = PROJECT) -> Principal:
    return Principal(kind="user", id="u1", name="ada", project_id=project, scopes=scopes)


def agent(*scopes: str) -> Principal:
    return Principal(kind="agent", id="a1", name="box", scopes=scopes)


CALLERS = {
    "a user with every scope": (user(*USER_ACTIONS), set(USER_ACTIONS)),
    "a user who may only read": (user("jobs:read", "traces:read"), {"jobs:read", "traces:read"}),
    "a user without scopes": (user(), set()),
    "a user without a project": (user(*USER_ACTIONS, project=None), set()),
    "a user with an agent's scope": (user(*AGENT_ACTIONS), set()),
    "an admin": (user(*USER_ACTIONS, *ADMIN_ACTIONS), {*USER_ACTIONS, *ADMIN_ACTIONS}),
    "an agent with an admin's scope": (agent(*ADMIN_ACTIONS), set()),
    "an agent": (agent(*AGENT_ACTIONS), set(AGENT_ACTIONS)),
    "an agent without scopes": (agent(), set()),
    "an agent with a user's scopes": (agent(*USER_ACTIONS), set()),
    "a kind nobody knows": (
        Principal(kind="robot", id="r", name="r", project_id=PROJECT, scopes=ACTIONS),
        set(),
    ),
}


@pytest.mark.parametrize(
    "action", [*ACTIONS, "", "jobs", "jobs:*", "*", "JOBS:READ", "jobs:read ", "admin:all"]
)
@pytest.mark.parametrize("name", CALLERS)
def test_the_matrix(name: str, action: str) -> None:
    caller, allowed = CALLERS[name]
    if action in allowed:
        authorize(caller, action)
    else:
        with pytest.raises(Forbidden):
            authorize(caller, action)


def test_a_scope_nobody_defined_allows_nothing() -> None:
    with pytest.raises(Forbidden):
        authorize(user("admin:all"), "admin:all")


def test_who_is_no_admin_hears_what_to_do() -> None:
    with pytest.raises(Forbidden, match="'agents:admin': log in as an admin with chisel login"):
        authorize(user(*USER_ACTIONS), "agents:admin")
    with pytest.raises(Forbidden, match=r"'agent:work'$"):
        authorize(user(*USER_ACTIONS), "agent:work")
