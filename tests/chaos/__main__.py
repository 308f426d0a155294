"""`python -m tests.chaos --seed S --profile P`: draw a campaign, carry it out, check it, report it."""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.chaos import soak
from tests.chaos.campaign import Campaign
from tests.chaos.checker import examine, shown
from tests.chaos.disks import own_mounts
from tests.chaos.draw import draw
from tests.chaos.profiles import PROFILES, Profile
from tests.chaos.profiles import soak as soak_profile
from tests.chaos.report import Report, publish, report_of, text_of
from tests.chaos.system import System, running_system
from tests.support.backends import short_folder

_NEW_SEEDS = 1 << 31
_SOAK_SAMPLES = 500


def main() -> int:
    """0: nothing contradicts the invariants. 1: something does."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the draw; a new one without this")
    parser.add_argument("--profile", choices=[*sorted(PROFILES), "soak"], default="smoke")
    parser.add_argument("--hours", type=float, default=1.0, help="of a soak")
    parser.add_argument("--folder", type=Path, help="where plan, history, facts and report go")
    parser.add_argument("--publish", action="store_true", help="write the report into docs/reliability.md")
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(_NEW_SEEDS)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}, profile {asked.profile}: {folder}", flush=True)
    profile = soak_profile(asked.hours) if asked.profile == "soak" else PROFILES[asked.profile]
    report = _run(seed, profile, folder)
    (folder / "report.json").write_bytes(msgspec.json.encode(report))
    print(text_of(report), flush=True)
    if asked.publish:
        publish(report)
    if report.violations:
        print(f"\nAgain: python -m tests.chaos --seed {seed} --profile {asked.profile}")
    return 1 if report.violations else 0


def _run(seed: int, profile: Profile, folder: Path) -> Report:
    plan = draw(seed, profile)
    problem = own_mounts()
    with (
        short_folder() as place,
        running_system(place, agents=plan.agents, times=plan.times, small_disks=not problem) as system,
    ):
        campaign = Campaign(system, plan, folder)
        every = profile.seconds / _SOAK_SAMPLES
        watching = soak.Soak(system, campaign.history, every_seconds=every)
        try:
            asyncio.run(campaign.run(watching.run if profile.name == "soak" else None))
            facts, violations = examine(folder)
        finally:
            campaign.history.close()
            _keep(system, folder)
        if violations:
            print(shown(violations), flush=True)
        if watching.samples:
            print(soak.text_of(soak.slopes(watching.samples)), flush=True)
        return report_of(plan, campaign.history, facts, violations, campaign.recoveries(), problem)


def _keep(system: System, folder: Path) -> None:
    """What explains a violation afterwards: every log, and what agents still hold of attempts."""
    shutil.copytree(system.folder / "logs", folder / "logs", dirs_exist_ok=True)
    for agent in system.agents:
        for attempt in (system.data_of(agent) / "attempts").glob("*"):
            there = folder / "attempts" / agent / attempt.name
            there.mkdir(parents=True, exist_ok=True)
            for file in attempt.iterdir():
                if file.is_file():
                    shutil.copy(file, there)


if __name__ == "__main__":
    sys.exit(main())
