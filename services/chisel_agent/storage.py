"""What the agent says to storage over the bus."""

import time

from chisel_shared.contract.ids import AgentId
from chisel_shared.contract.messages import AttemptRef, Capture, ReportCaptures
from chisel_shared.runtime.bus import Bus

_TIMEOUT_SECONDS = 3.0


class Storage:
    def __init__(self, *, bus: Bus, agent_id: AgentId) -> None:
        self._bus = bus
        self._agent_id = agent_id
        self._number = 0

    async def report(self, ref: AttemptRef, captures: tuple[Capture, ...]) -> None:
        """What is seen of captures; one try. Reports are numbered by the clock, so that those of the next
        agent on this data come after ours."""
        self._number = max(self._number + 1, time.time_ns())
        await self._bus.request(
            ReportCaptures(
                agent_id=self._agent_id,
                job_id=ref.job_id,
                attempt=ref.attempt,
                number=self._number,
                captures=captures,
            ),
            timeout=_TIMEOUT_SECONDS,
        )
