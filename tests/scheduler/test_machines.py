"""Whatever users, agents and the reaper do, in any order: the table of states holds, and so do the laws.

Two machines that Hypothesis drives: the pure one, where every step is a decision of `lifecycle`, and the
store on a real Postgres, where agents also speak for attempts that are theirs no more.
"""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chisel_scheduler.lifecycle import REACHED, Tries, after_end, after_loss, steps, target
from chisel_shared.contract.errors import Stale
from chisel_shared.contract.ids import JobId
from chisel_shared.contract.job import (
    FINAL,
    HELD,
    EndReason,
    JobEnd,
    JobEvent,
    JobState,
    JobView,
    advance,
    end_event,
    sources,
)
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.contract.retries import MOST_STARTS_LOST
from chisel_shared.runtime.db import open_database
from tests.scheduler.actors import EMPTY, Desk, hello_of, ref, spec, submit_of
from tests.scheduler.conftest import MIGRATIONS

TOLD = (
    JobEnd(reason=EndReason.EXIT, exit_code=0),
    JobEnd(reason=EndReason.EXIT, exit_code=75),
    JobEnd(reason=EndReason.SIGNAL, signal=9),
    JobEnd(reason=EndReason.OOM, signal=9),
    JobEnd(reason=EndReason.DEPS),
    JobEnd(reason=EndReason.TIME_LIMIT),
    JobEnd(reason=EndReason.USER),
)
LOST = JobEnd(reason=EndReason.AGENT_LOST)
RETRY_ON = st.sampled_from([(), ("exit:75",), ("any",), ("signal", "oom")])

GPUS = {"a1": 8, "a2": 2}
AGENTS = st.sampled_from(sorted(GPUS))


class PureMachine(RuleBasedStateMachine):
    """One job after another, by decisions alone."""

    @initialize(retries=st.integers(0, 3), retry_on=RETRY_ON)
    def submit(self, retries: int, retry_on: tuple[str, ...]) -> None:
        self.state = JobState.QUEUED
        self.attempt, self.repeated, self.runs = 0, 0, 0
        self.retries, self.retry_on = retries, retry_on
        self.ran = self.cancel_wished = False

    def _tries(self) -> Tries:
        return Tries(
            attempt=self.attempt,
            repeated=self.repeated,
            retries=self.retries,
            retry_on=self.retry_on,
            cancel_requested=self.cancel_wished,
        )

    def _through(self, event: JobEvent) -> None:
        for step in steps(self.state, event):
            if step is JobEvent.START:
                self.ran = True
                self.runs += 1
            self.state = advance(self.state, step)

    @precondition(lambda self: self.state is JobState.QUEUED)
    @rule()
    def claim(self) -> None:
        self.state = advance(self.state, JobEvent.CLAIM)
        self.attempt += 1
        self.ran = False

    @precondition(lambda self: self.state in HELD)
    @rule(reached=st.sampled_from(sorted(REACHED)))
    def progress(self, reached: JobState) -> None:
        before = self.state
        self._through(REACHED[reached])
        assert list(JobState).index(self.state) >= list(JobState).index(before)

    @precondition(lambda self: self.state not in FINAL)
    @rule()
    def wish_to_cancel(self) -> None:
        if self.state is JobState.QUEUED:
            self.state = advance(self.state, JobEvent.CANCEL)
        self.cancel_wished = True

    @precondition(lambda self: self.state in HELD)
    @rule(end=st.sampled_from(TOLD))
    def told(self, end: JobEnd) -> None:
        outcome = after_end(end, self._tries())
        self._through(outcome.event)
        again = outcome.event is JobEvent.REQUEUE
        assert self.state is (JobState.QUEUED if again else target(end_event(end)))
        assert (outcome.end is None) is again
        self.repeated += again

    @precondition(lambda self: self.state in HELD)
    @rule(silent=st.booleans())
    def lost(self, silent: bool) -> None:
        ran = self.ran or silent
        outcome = after_loss(LOST, self._tries(), ran=ran)
        self.state = advance(self.state, outcome.event)
        assert (outcome.end is not None) is (self.state in FINAL)
        self.repeated += ran and outcome.event is JobEvent.REQUEUE

    @precondition(lambda self: self.state in FINAL)
    @rule()
    def nothing_leaves_a_final_state(self) -> None:
        assert not any(self.state in sources(event) for event in JobEvent)

    @invariant()
    def user_code_runs_as_often_as_allowed(self) -> None:
        if not hasattr(self, "state"):
            return
        assert self.repeated <= self.retries
        assert self.runs <= self.retries + 1
        assert self.attempt <= MOST_STARTS_LOST + self.retries + 1

    @invariant()
    def nobody_restarts_what_was_to_end(self) -> None:
        if hasattr(self, "state"):
            assert not (self.cancel_wished and self.state is JobState.QUEUED)


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_the_pure_machine() -> None:
    run_state_machine_as_test(
        PureMachine, settings=settings(max_examples=300, stateful_step_count=50, deadline=None)
    )


class StoreMachine(RuleBasedStateMachine):
    """Two agents, one of them large, and everything they may say, true or stale."""

    url = ""
    jobs = Bundle("jobs")
    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.opened = open_database(self.url, connections=2, schema="scheduler", migrations=MIGRATIONS)
        database = self._do(self.opened.__aenter__())
        self.desk = Desk(database=database)
        self._do(self._truncate())
        self.sessions: dict[str, int] = {}
        self.ended: dict[JobId, JobView] = {}
        for agent, gpus in GPUS.items():
            self._hello(agent, gpus, adopt=())

    def _do(self, work: Any) -> Any:
        return self.runner.run(work)

    async def _truncate(self) -> None:
        async def work(c: Any) -> None:
            await c.execute(EMPTY)

        await self.desk.database.run(work)

    def teardown(self) -> None:
        self._do(self.opened.__aexit__(None, None, None))
        self.runner.close()

    def _session(self, agent: str) -> str:
        return f"s{self.sessions[agent]}"

    def _hello(self, agent: str, gpus: int, adopt: tuple[AttemptRef, ...]) -> None:
        self.sessions[agent] = self.sessions.get(agent, 0) + 1
        self._do(self.desk.hello(hello_of(agent, gpus, session=self._session(agent), adopt=adopt)))

    @rule(
        target=jobs,
        gpus=st.sampled_from([1, 2, 4, 8]),
        retries=st.integers(0, 2),
        retry_on=RETRY_ON,
        priority=st.integers(-1, 1),
        key=st.integers(0, 20),
    )
    def submit(self, gpus: int, retries: int, retry_on: tuple[str, ...], priority: int, key: int) -> JobId:
        wanted = spec(gpus, retries=retries, retry_on=retry_on if retries else (), priority=priority)
        asked = submit_of(wanted, key=f"{key}-{gpus}-{retries}-{'-'.join(wanted.retry_on)}-{priority}")
        first = self._do(self.desk.submit(asked))
        again = self._do(self.desk.submit(asked))
        assert not again.created
        assert again.job.id == first.job.id
        return JobId(first.job.id)

    @rule(target=attempts, agent=AGENTS, free=st.integers(1, 8))
    def claim(self, agent: str, free: int) -> AttemptRef | None:
        key = f"{len(self.sessions)}-{self.desk.now.timestamp()}-{agent}-{free}"
        session = self._session(agent)
        first = self._do(self.desk.claim(agent, session=session, key=key, gpus_free=free))
        again = self._do(self.desk.claim(agent, session=session, key=key, gpus_free=free))
        given, repeated = first.claimed.assignment, again.claimed.assignment
        if given is None:
            return None
        assert repeated == given
        assert given.gpu_count <= free
        self.desk.pass_time(0.001)
        return ref(given)

    @rule(
        attempt=attempts,
        agent=AGENTS,
        stale=st.booleans(),
        state=st.sampled_from(sorted(REACHED)),
    )
    def progress(self, attempt: AttemptRef | None, agent: str, stale: bool, state: JobState) -> None:
        if attempt is not None:
            self._fenced(attempt, agent, stale, self.desk.progress, state)

    @rule(attempt=attempts, agent=AGENTS, stale=st.booleans(), end=st.sampled_from(TOLD))
    def done(self, attempt: AttemptRef | None, agent: str, stale: bool, end: JobEnd) -> None:
        if attempt is not None:
            self._fenced(attempt, agent, stale, self.desk.done, end)

    def _held(self, agent: str) -> tuple[AttemptRef, ...]:
        rows = self._do(
            self.desk.fetch(
                "select job_id, attempt from attempts where agent_id = $1 and ended_at is null", agent
            )
        )
        return tuple(AttemptRef(job_id=row["job_id"], attempt=row["attempt"]) for row in rows)

    def _row(self, attempt: AttemptRef) -> Any:
        (row,) = self._do(
            self.desk.fetch(
                "select agent_id, session, ended_at from attempts where job_id = $1 and attempt = $2",
                attempt.job_id,
                attempt.attempt,
            )
        )
        return row

    def _fenced(self, attempt: AttemptRef, agent: str, stale: bool, say: Any, what: Any) -> None:
        """Who does not hold the attempt changes nothing."""
        session = "s0" if stale else self._session(agent)
        row = self._row(attempt)
        holds = row["ended_at"] is None and (row["agent_id"], row["session"]) == (agent, session)
        before = self._do(self.desk.get(attempt.job_id))
        try:
            self._do(say(attempt, what, agent, session))
        except Stale:
            assert not holds
        if not holds:
            assert self._do(self.desk.get(attempt.job_id)).version == before.version

    @rule(agent=AGENTS, adopt=st.booleans())
    def come_back(self, agent: str, adopt: bool) -> None:
        refs = self._held(agent)
        self._hello(agent, GPUS[agent], adopt=refs if adopt else ())

    @rule(agent=AGENTS, known=st.booleans())
    def renew(self, agent: str, known: bool) -> None:
        refs = self._held(agent) if known else ()
        answer = self._do(self.desk.renew(*refs, agent=agent, session=self._session(agent)))
        assert {*answer.renewed, *answer.cancel} == set(refs)
        assert not answer.gone

    @rule(agent=AGENTS)
    def drain_and_open_again(self, agent: str) -> None:
        """Whatever runs there is to end; what its end then means for the job is decided when it is told."""
        self._do(self.desk.drain(agent, seconds=0))
        self._do(self.desk.evict(agent))
        self._do(self.desk.uncordon(agent))

    @rule(job=jobs)
    def cancel(self, job: JobId) -> None:
        self._do(self.desk.cancel(job))

    @rule(attempt=attempts)
    def silence(self, attempt: AttemptRef | None) -> None:
        if attempt is not None:
            self._do(self.desk.lose(attempt, self._row(attempt)["agent_id"]))

    @rule(seconds=st.sampled_from([0.5, 5.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        self.desk.pass_time(seconds)

    @invariant()
    def the_laws_hold(self) -> None:
        self._do(self.desk.check_laws())

    @invariant()
    def every_history_is_a_way_through_the_table(self) -> None:
        """Replayed by the pure machine, its events lead to where the job is; an end stays what it is."""
        events = self._do(
            self.desk.fetch(
                "select job_id, event, job_events.state, jobs.state as now from job_events"
                " join jobs on jobs.id = job_id order by job_id, job_events.version"
            )
        )
        states: dict[str, JobState] = {}
        now: dict[str, JobState] = {}
        for row in events:
            state = states.get(row["job_id"], JobState.QUEUED)
            if row["event"] in set(JobEvent):
                state = advance(state, JobEvent(row["event"]))
            assert state == row["state"]
            states[row["job_id"]], now[row["job_id"]] = state, JobState(row["now"])
        assert states == now
        for job_id, state in states.items():
            if state in FINAL:
                job = self._do(self.desk.get(JobId(job_id)))
                earlier = self.ended.setdefault(JobId(job_id), job)
                assert (job.state, job.end, job.ended_at) == (earlier.state, earlier.end, earlier.ended_at)


def test_the_store(migrated_url: str) -> None:
    StoreMachine.url = migrated_url
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            phases=[Phase.generate],  # shrinking takes minutes on a database; the steps are printed anyway
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
                HealthCheck.filter_too_much,
            ],
        ),
    )
