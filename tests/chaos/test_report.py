"""A report says what was done, what broke, and how quickly things recovered; the document takes it over."""

from pathlib import Path

from tests.chaos.draw import draw
from tests.chaos.facts import Facts, JobFacts
from tests.chaos.history import History
from tests.chaos.invariants import Violation
from tests.chaos.profiles import PROFILES
from tests.chaos.pulse import Sample, recoveries
from tests.chaos.report import BEGIN, DOCUMENT, END, publish, report_of, text_of


def test_a_report_counts_what_was_struck_and_what_recovered(tmp_path: Path) -> None:
    plan = draw(5, PROFILES["small"])
    history = History(tmp_path / "history.jsonl")
    for kind, target, began, at, hit in (
        ("kill", "gateway", 1.0, 2.0, []),
        ("hole", "agent:two", 4.0, 5.0, []),
        ("shim kill", "agent:two", 5.0, 6.0, ["nobody"]),
    ):
        history.note("healed", kind=kind, target=target, began=began, hit=hit)["at"] = at
    history.close()
    samples = [
        Sample(began=2.05, ended=2.06, ready=True),  # may be an answer from before
        Sample(began=2.2, ended=2.3, ready=False),
        Sample(began=2.4, ended=2.5, ready=True),
        Sample(began=5.4, ended=5.5, ready=True, agents={"two": 5.25}),
    ]
    found = recoveries(history, samples)
    assert [(one.target, round(one.seconds, 3), one.alone) for one in found] == [
        ("gateway", 0.5, True),
        ("agent:two", 0.25, True),
    ]
    facts = Facts(
        times=plan.times, at_rest=True, jobs=tuple(JobFacts(plan=job, state="succeeded") for job in plan.jobs)
    )
    violations = [Violation("I2", "j00001", "two at once")]
    report = report_of(plan, history, facts, violations, found, why_no_disks="")
    assert (report.faults, report.by_fault) == (2, {"hole: agent": 1, "kill: gateway": 1})
    assert (report.left_out, report.violations) == ({"shim kill": 1}, {"I2": 1})
    text = text_of(report)
    assert "| kill: gateway | 1 |" in text
    assert "violations: {'I2': 1}" in text

    document = tmp_path / "reliability.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    publish(report, document)
    written = document.read_text()
    assert text in written
    assert "old" not in written
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")


def test_the_document_has_a_place_for_a_report() -> None:
    text = DOCUMENT.read_text()
    assert text.index(BEGIN) < text.index(END)
