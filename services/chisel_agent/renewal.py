"""The heartbeat: tells the scheduler what is held, and does what the answer says."""

from chisel_agent.attempts import Attempts
from chisel_agent.fence import to_end
from chisel_agent.launch import boottime
from chisel_agent.scheduler import Scheduler
from chisel_shared.contract.errors import ChiselError
from chisel_shared.contract.stops import Stop
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.renewal")


class Renewal:
    def __init__(self, *, scheduler: Scheduler, attempts: Attempts) -> None:
        self._scheduler = scheduler
        self._attempts = attempts
        self._heard = True
        self.draining = False

    async def run_once(self) -> None:
        """One renewal. Not being answered is said once; the jobs run on."""
        # Leases count from here: the scheduler cannot have granted them earlier.
        sent_at = boottime()
        held = self._attempts.held
        try:
            answer = await self._scheduler.renew(
                attempts=held,
                finished=self._attempts.finished_in_turn(),
                draining=self.draining,
                withheld=self._attempts.withheld,
            )
        except ChiselError as error:
            if self._heard:
                log.warning("renewal_unanswered", error=str(error))
            self._heard = False
            return
        if not self._heard:
            log.info("renewal_answered_again")
        self._heard = True
        for ref in (*answer.renewed, *answer.cancel):
            if attempt := self._attempts.get(ref):
                attempt.renewed(sent_at)
        for number, ref in enumerate(answer.cancel):
            if attempt := self._attempts.get(ref):
                attempt.stop(answer.stops[number] if number < len(answer.stops) else Stop())
        for ref in to_end(held, answer):
            if attempt := self._attempts.get(ref):
                attempt.drop()
        for ref in answer.archived:
            self._attempts.archived(ref)
        self._attempts.drop_ancient()
