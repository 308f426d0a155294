"""The test build: `python -m tests.chaos.mutated SWITCHES chisel_SERVICE` is that service with defects.

Each defect is there while a file of its name lies in the folder SWITCHES; without any this is the service.
A checker that does not notice one of them proves nothing: `test_mutations.py` switches each on.
"""

import copy
import importlib
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from chisel_shared.contract.job import JobView, end_event
from chisel_shared.contract.messages import AttemptDone

ROOT = Path(__file__).resolve().parents[2]


def replace(owner: object, name: str, value: object) -> None:
    """Let `owner` have another function of this name."""
    setattr(owner, name, value)


class Undone(Exception):
    """Rolls back the transaction it is raised in."""


class Build:
    """One service with its defects. The methods are named after the defects they can switch on."""

    def __init__(self, switches: Path) -> None:
        self._switches = switches

    def on(self, name: str) -> bool:
        return (self._switches / name).exists()

    def chisel_scheduler(self) -> None:
        self._accepted_and_forgotten()
        self._ended_twice()
        self._no_fence()
        self._gpus_kept()
        self._leases_for_ever()
        self._word_lost()
        self._relay_asleep()

    def chisel_storage(self) -> None:
        self._purged_before_archived()
        self._half_stored()

    def chisel_agent(self) -> None:
        self._no_self_kill()
        self._leftovers_spared()
        self._secret_logged()

    # The scheduler

    def _accepted_and_forgotten(self) -> None:
        """A submission is answered, and then its transaction is not committed."""
        from chisel_scheduler.store.jobs import Jobs

        class Forgetful:
            def __init__(self, database: Any) -> None:
                self._database = database

            async def run(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
                answers = []

                async def doing(connection: Any) -> None:
                    answers.append(await work(connection))
                    raise Undone

                try:
                    await self._database.run(doing)
                except Undone:
                    return answers[0]

        sound = Jobs.submit

        async def submit(jobs: Any, *given: Any, **named: Any) -> Any:
            if not self.on("accepted and forgotten"):
                return await sound(jobs, *given, **named)
            forgetful = copy.copy(jobs)
            forgetful._database = Forgetful(jobs._database)
            return await sound(forgetful, *given, **named)

        replace(Jobs, "submit", submit)

    def _ended_twice(self) -> None:
        """An end that is reported again is applied again."""
        from chisel_scheduler.store.attempts import Attempts
        from chisel_scheduler.store.changes import say

        sound = Attempts.done

        async def done(attempts: Any, ask: AttemptDone, *, now: datetime) -> JobView | None:
            job = await sound(attempts, ask, now=now)
            if job is not None or not self.on("ended twice"):
                return job

            async def again(connection: Any) -> JobView:
                row = await connection.fetchrow(
                    "update jobs set version = version + 1 where id = $1 returning *", ask.job_id
                )
                return await say(connection, row, end_event(ask.end).value, now=now)

            ended: JobView = await attempts._database.run(again)
            return ended

        replace(Attempts, "done", done)

    def _no_fence(self) -> None:
        """Whoever speaks for an attempt is believed, of whatever session it is."""
        from chisel_scheduler.store import attempts

        sound = attempts._own
        attempts._own = lambda ask, row: row if self.on("no fence") else sound(ask, row)

    def _gpus_kept(self) -> None:
        """The end of an attempt does not give its GPUs back."""
        from chisel_scheduler.store import attempts

        sound, given_back = attempts.Attempts._end, attempts._END

        async def end(store: Any, *given: Any, **named: Any) -> None:
            kept = given_back.replace("gpus_held - ended.gpu_count", "gpus_held")
            attempts._END = kept if self.on("gpus kept") else given_back
            await sound(store, *given, **named)

        replace(attempts.Attempts, "_end", end)

    def _leases_for_ever(self) -> None:
        """Nobody ends what has outlived its lease."""
        from chisel_scheduler.reaper import Reaper

        sound = Reaper._expire_leases

        async def expire(reaper: Any, now: datetime) -> None:
            if not self.on("leases for ever"):
                await sound(reaper, now)

        replace(Reaper, "_expire_leases", expire)

    def _word_lost(self) -> None:
        """What the outbox held is deleted, and was not said."""
        from chisel_shared.runtime.streams import Streams

        sound = Streams.publish_event

        async def publish(streams: Any, *given: Any, **named: Any) -> None:
            if not self.on("word lost"):
                await sound(streams, *given, **named)

        replace(Streams, "publish_event", publish)

    def _relay_asleep(self) -> None:
        """The outbox is not emptied."""
        from chisel_scheduler.outbox import Relay

        sound = Relay._relay

        async def relay(relay: Any, connection: Any) -> bool:
            return False if self.on("relay asleep") else await sound(relay, connection)

        replace(Relay, "_relay", relay)

    # Storage

    def _purged_before_archived(self) -> None:
        """The bus forgets the output of an ended attempt first; then what is left of it is archived."""
        from chisel_storage.archive import Archiver, Place

        sound = Archiver.take_over

        async def take_over(archiver: Any, attempt: Any) -> bool:
            if self.on("purged before archived"):
                place = Place(attempt.agent_id, attempt.job_id, attempt.attempt)
                await archiver._streams.purge(place.subject())
                attempt = type(attempt)(
                    job_id=attempt.job_id,
                    attempt=attempt.attempt,
                    agent_id=attempt.agent_id,
                    project_id=attempt.project_id,
                    end=None,
                    archived=attempt.archived,
                )
                archiver._settle_seconds = 0.0
            return await sound(archiver, attempt)

        replace(Archiver, "take_over", take_over)

    def _half_stored(self) -> None:
        """An upload is acknowledged of which the disk got only the first half."""
        from chisel_storage import blobs

        sound = blobs._Arriving.write

        def write(arriving: Any, block: bytes) -> None:
            sound(arriving, block)
            if self.on("half stored"):
                os.ftruncate(arriving._open(), arriving.size // 2)

        replace(blobs._Arriving, "write", write)

    # The agent

    def _no_self_kill(self) -> None:
        """A job that may run again elsewhere is not ended when its lease runs out."""
        from chisel_agent import attempt, launch

        sound = launch.write_lease

        def write_lease(folder: Path, ends_at: float) -> None:
            if not self.on("no self-kill"):
                sound(folder, ends_at)

        replace(attempt, "write_lease", write_lease)

    def _leftovers_spared(self) -> None:
        """What a script leaves behind is left alone: in the shim, which is a program of its own."""
        from chisel_agent import launch

        switch = str(self._switches / "leftovers spared")
        launch._BOOT = (
            f"import sys; sys.path[:0] = [{{path!r}}, {str(ROOT)!r}]\n"
            f"from tests.chaos.mutated_shim import main; sys.exit(main({switch!r}, sys.argv[1:]))"
        )

    def _secret_logged(self) -> None:
        """The value of a secret is written into a log."""
        from chisel_agent.job_secrets import JobSecrets

        sound = JobSecrets.of

        async def of(secrets: Any, assignment: Any) -> Any:
            found = await sound(secrets, assignment)
            if self.on("secret logged"):
                sys.stderr.write(f"{found}\n")
            return found

        replace(JobSecrets, "of", of)


DEFECTS = {
    "accepted and forgotten": "I1",
    "ended twice": "I1",
    "no fence": "I1",
    "no self-kill": "I2",
    "purged before archived": "I3",
    "leftovers spared": "I4",
    "half stored": "I5",
    "gpus kept": "I6",
    "leases for ever": "I7",
    "word lost": "I8",
    "relay asleep": "I8",
    "secret logged": "I9",
}
"""Every defect, and the invariant that it breaks."""


def main() -> None:
    switches, service = Path(sys.argv[1]), sys.argv[2]
    getattr(Build(switches), service, lambda: None)()
    importlib.import_module(f"{service}.service").main()


if __name__ == "__main__":
    main()
