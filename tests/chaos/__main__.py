"""`python -m tests.chaos --seed S --profile P`: draw a campaign, carry it out, check it, report it."""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.chaos.campaign import Campaign
from tests.chaos.checker import examine, shown
from tests.chaos.disks import own_mounts
from tests.chaos.draw import draw
from tests.chaos.profiles import PROFILES
from tests.chaos.report import Report, publish, report_of, text_of
from tests.chaos.system import running_system
from tests.support.backends import short_folder


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the draw; a new one without this")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="smoke")
    parser.add_argument("--folder", type=Path, help="where plan, history, facts and report go")
    parser.add_argument("--publish", action="store_true", help="write the report into docs/reliability.md")
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(1 << 31)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}, profile {asked.profile}: {folder}", flush=True)
    report = _run(seed, asked.profile, folder)
    (folder / "report.json").write_bytes(msgspec.json.encode(report))
    print(text_of(report), flush=True)
    if asked.publish:
        publish(report)
    if report.violations or report.faults == 0:
        print(f"again: python -m tests.chaos --seed {seed} --profile {asked.profile}")
        return 1
    return 0


def _run(seed: int, profile: str, folder: Path) -> Report:
    plan = draw(seed, PROFILES[profile])
    problem = own_mounts()
    with (
        short_folder() as place,
        running_system(place, agents=plan.agents, times=plan.times, small_disks=not problem) as system,
    ):
        campaign = Campaign(system, plan, folder)
        try:
            asyncio.run(campaign.run())
            facts, violations = examine(folder)
        finally:
            shutil.copytree(system.folder / "logs", folder / "logs", dirs_exist_ok=True)
        if violations:
            print(shown(violations), flush=True)
            for agent in system.agents:
                shutil.copytree(
                    system.data_of(agent) / "attempts", folder / f"attempts-{agent}", dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("work", "control"),
                )  # fmt: skip
        return report_of(plan, campaign.history, facts, violations, campaign.recoveries(), problem)


if __name__ == "__main__":
    sys.exit(main())
