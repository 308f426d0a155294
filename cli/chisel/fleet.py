"""What an operator can ask about the agents of a backend."""

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from chisel.api import Api, decoded

if TYPE_CHECKING:
    from chisel_shared.contract.messages import AgentView


class Fleet:
    """All agents. `agent` is everywhere a name, an id or the beginning of an id."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def agents(self) -> "tuple[AgentView, ...]":
        """Every agent that the backend knows, by name."""
        from chisel_shared.contract.messages import Agents

        return decoded(self._api.get_bytes("/api/v1/agents"), Agents).agents

    def cordon(self, agent: str, *, reason: str = "") -> "AgentView":
        """Give it no new jobs; what runs on it goes on."""
        return self._wish(agent, "cordon", {"reason": reason})

    def drain(self, agent: str, *, reason: str = "", deadline_seconds: float | None = None) -> "AgentView":
        """Give it no new jobs; what still runs after the deadline is ended."""
        return self._wish(agent, "drain", {"reason": reason, "deadline_seconds": deadline_seconds})

    def uncordon(self, agent: str) -> "AgentView":
        """Give it jobs again."""
        return self._wish(agent, "uncordon", None)

    def _wish(self, agent: str, verb: str, wish: dict[str, object] | None) -> "AgentView":
        from chisel_shared.contract.messages import AgentView

        body = b"" if wish is None else json.dumps(wish).encode()
        path = f"/api/v1/agents/{quote(agent, safe='')}/{verb}"
        return decoded(self._api.post_bytes(path, body), AgentView)
