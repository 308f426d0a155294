"""What operators ask of the scheduler about one agent. `agent` is everywhere its name, its id or the
beginning of its id: `NotFound` when there is none, `BadRequest` names the candidates when there are several.
Said twice, each leaves what it left the first time."""

from chisel_shared.contract.messages.jobs import AgentView
from chisel_shared.contract.subjects import Request, said_on


@said_on("rpc.agents.cordon")
class CordonAgent(Request[AgentView], frozen=True):
    """Give an agent nothing new until it is uncordoned. What runs on it goes on, also when a drain was to
    end it. Without a `reason` an earlier one stays."""

    agent: str
    requested_by: str
    reason: str = ""


@said_on("rpc.agents.drain")
class DrainAgent(Request[AgentView], frozen=True):
    """Cordon an agent so that it becomes empty. What still runs on it `deadline_seconds` from now is ended
    then; None waits for it, however long it takes."""

    agent: str
    requested_by: str
    reason: str = ""
    deadline_seconds: float | None = None


@said_on("rpc.agents.uncordon")
class UncordonAgent(Request[AgentView], frozen=True):
    """Give an agent jobs again. What a drain has begun to end ends all the same."""

    agent: str
    requested_by: str
