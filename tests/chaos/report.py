"""What a campaign has to say, for people and for the documentation."""

import os
import statistics
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tests.chaos.facts import Facts
from tests.chaos.history import History
from tests.chaos.invariants import INVARIANTS, Violation
from tests.chaos.plan import Plan
from tests.chaos.pulse import Recovery

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- report: begin -->", "<!-- report: end -->"


class Times(msgspec.Struct, frozen=True):
    """How quickly one sort of targets recovered."""

    target: str
    count: int
    p50: float
    p95: float
    most: float


class Report(msgspec.Struct, frozen=True):
    """The figures of one campaign."""

    seed: int
    profile: str
    day: str
    seconds: float
    jobs: int
    accepted: int
    attempts: int
    processes: int
    """Processes of jobs that left a witness."""
    output_bytes: int
    uploads: int
    by_fault: dict[str, int]
    left_out: dict[str, int]
    by_shape: dict[str, dict[str, int]]
    """Of each shape, how many ended how."""
    clients: dict[str, int]
    recovery: tuple[Times, ...]
    violations: dict[str, int]
    why_no_disks: str = ""
    cores: int = 0
    load: float = 0.0
    """Of the machine at the end, over a quarter of an hour: with much more than its cores it was busy with
    other things too, and recovering took longer for that."""

    @property
    def faults(self) -> int:
        return sum(self.by_fault.values())


def report_of(
    plan: Plan,
    history: History,
    facts: Facts,
    violations: Iterable[Violation],
    recoveries: Iterable[Recovery],
    why_no_disks: str,
) -> Report:
    """The figures of a campaign that has been checked."""
    shapes: dict[str, dict[str, int]] = {}
    for job in facts.jobs:
        ends = shapes.setdefault(job.plan.shape, {})
        end = job.state or "never submitted"
        ends[end] = ends.get(end, 0) + 1
    struck = [entry for entry in history.of("healed") if entry["hit"] != ["nobody"]]
    missed = Counter(entry["kind"] for entry in history.of("healed") if entry["hit"] == ["nobody"])
    missed.update(entry["kind"] for entry in history.of("left out"))
    return Report(
        seed=plan.seed,
        profile=plan.profile,
        day=datetime.now(UTC).date().isoformat(),
        seconds=round(history.entries[-1]["at"], 1),
        jobs=len(plan.jobs),
        accepted=sum(bool(job.accepted) for job in facts.jobs),
        attempts=sum(len(job.attempts) for job in facts.jobs),
        processes=sum(len(job.lives) for job in facts.jobs),
        output_bytes=sum(
            stored.size
            for job in facts.jobs
            for attempt in job.attempts
            for stored in attempt.stored.values()
        ),
        uploads=len(history.of("stored")),
        by_fault=dict(sorted(Counter(_sort(entry) for entry in struck).items())),
        left_out=dict(sorted(missed.items())),
        by_shape={shape: dict(sorted(ends.items())) for shape, ends in sorted(shapes.items())},
        clients=dict(sorted(Counter(job.client.value for job in plan.jobs).items())),
        recovery=tuple(_times(list(recoveries))),
        violations=dict(sorted(Counter(violation.invariant for violation in violations).items())),
        why_no_disks=why_no_disks,
        cores=os.cpu_count() or 0,
        load=round(os.getloadavg()[2], 1),
    )


def _sort(entry: dict[str, str]) -> str:
    target = "agent" if entry["target"].startswith("agent:") else entry["target"]
    return f"{entry['kind']}: {target}"


def _times(recoveries: list[Recovery]) -> Iterable[Times]:
    sorts: dict[str, list[float]] = {}
    for one in recoveries:
        target = "an agent" if one.target.startswith("agent:") else one.target
        if one.alone:
            sorts.setdefault(target, []).append(one.seconds)
        sorts.setdefault("any of them, other faults meanwhile or not", []).append(one.seconds)
    for target, seconds in sorted(sorts.items()):
        yield Times(
            target=target,
            count=len(seconds),
            p50=round(statistics.median(seconds), 2),
            p95=round(_quantile(seconds, 0.95), 2),
            most=round(max(seconds), 2),
        )


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def text_of(report: Report) -> str:
    """Markdown: what the document has, and what a terminal shows."""
    verdict = "0 violations" if not report.violations else f"violations: {report.violations}"
    lines = [
        f"Seed {report.seed}, profile `{report.profile}`, {report.day}: **{report.faults} faults over"
        f" {report.jobs} jobs in {report.seconds / 60:.1f} minutes, {verdict}** of {len(INVARIANTS)}"
        " invariants.",
        f"{report.accepted} jobs were accepted and had {report.attempts} attempts; {report.processes}"
        f" processes testified; {report.output_bytes / 1e6:.1f} MB of output and {report.uploads} uploads"
        " were compared bit by bit.",
        f"The machine had {report.cores} cores and a load of {report.load:.1f}.",
        "",
        "| fault | times |",
        "|---|---:|",
        *(f"| {fault} | {count} |" for fault, count in report.by_fault.items()),
        "",
        *(
            [f"Drawn, but there was nothing to strike: {_counts(report.left_out)}.", ""]
            if report.left_out
            else []
        ),
        *([f"No disk was made full: {report.why_no_disks}.", ""] if report.why_no_disks else []),
        "| jobs | how they ended |",
        "|---|---|",
        *(f"| {shape} | {_counts(ends)} |" for shape, ends in report.by_shape.items()),
        "",
        f"Submitted and followed by: {_counts(report.clients)}.",
        "",
        "| recovered, from the end of the fault | times | p50 | p95 | longest |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {one.target} | {one.count} | {one.p50:.2f} s | {one.p95:.2f} s | {one.most:.2f} s |"
            for one in report.recovery
        ),
    ]
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def publish(report: Report, document: Path = DOCUMENT) -> None:
    """Put the report where the document has its place for one."""
    before, _, rest = document.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n\n{text_of(report)}\n\n{END}{after}")
