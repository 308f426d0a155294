"""The secrets of a job on their way from the gateway to its process: in memory, never in a file."""

from chisel_agent.bundles import retrying
from chisel_agent.gateway import Gateway
from chisel_agent.scheduler import Scheduler
from chisel_shared.contract.errors import Stale
from chisel_shared.contract.messages import Assignment, AttemptRef


class JobSecrets:
    """Asked for each launch anew, so that nothing has to be kept for a second one."""

    def __init__(self, *, gateway: Gateway, scheduler: Scheduler) -> None:
        self._gateway = gateway
        self._scheduler = scheduler

    async def of(self, assignment: Assignment) -> dict[str, bytes]:
        """Values by variable, however long the gateway is away. `NotFound` or another `UserError` names
        one that cannot be had, `Stale` says that the attempt is not ours any more."""
        if not assignment.spec.secrets:
            return {}
        ref = AttemptRef(job_id=assignment.job_id, attempt=assignment.attempt)
        while True:
            session = await self._scheduler.session()
            try:
                return await retrying(
                    lambda session=session: self._gateway.open_secrets(ref, session),  # type: ignore[misc]
                    what="secrets",
                    cleanup=lambda: None,
                )
            except Stale:
                if await self._scheduler.session() == session:
                    raise
