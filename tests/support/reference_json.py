"""The page of docs/reference for those whose programs read what `--json` prints."""

from collections.abc import Callable, Iterable

import msgspec

from chisel.cli.table import COMMANDS, GROUPS, PYTHON, Option
from chisel_shared.contract.job import JobEnd, JobView
from chisel_shared.contract.messages import (
    AgentView,
    Cordon,
    GpuKind,
    Neighbour,
    QuotaView,
    SecretView,
    TraceView,
    Why,
)
from chisel_shared.traces import report

SHAPES: dict[str, str] = {
    "python": "the `JobView` of the job at its end, or of the submitted job with `--detach`; with `--preview`"
    " `root`, `files`, `size_bytes`, `new_files`, `upload_bytes`, `largest`, `left_out`, `skipped`"
    " and `secrets`",
    "logs": "for each line a document of one line: `time` when it came to the backend or null, `stream`, and"
    " `text`, in which bytes that are not UTF-8 are written as `\\xff`",
    "ps": "a list of `JobView`; with `--watch` one `JobView` a line, for every change",
    "status": "a `JobView`; without a job `running`, `ready`, `url`, `folder` and `processes` of the backend"
    " on this machine",
    "why": "a `Why`",
    "wait": "a list of `JobView`, in the order they were named",
    "cancel": "a list of `JobView`, as they are after the wish",
    "rerun": "the `JobView` of the new job, at its end or with `--detach` when it is submitted",
    "gpus": "a list of `GpuKind`",
    "pull": "`job_id`, `attempt`, `folder`, `left_out`, `missing`, and `files`, each with `path`, `saved_as`,"
    " `outcome`, `why`, `mode`, `size_bytes` and `sha256`",
    "login": "what `whoami` prints",
    "logout": "a list of the addresses whose key is forgotten",
    "whoami": "`user`, `project`, `backend`, `is_admin`, `key_source`, `key_id`, `key_name` and"
    " `key_expires_at`",
    "up": "what `status` prints without a job",
    "down": "`stopped`, false when nothing ran, `cancelled`, the ids of the jobs that it ended, and `folder`",
    "version": "`version`",
    "config": "a list of settings, each with `setting`, `value`, `source` and `variable`",
    "doctor": "a list of checks up to the first that failed, each with `name`, `ok` and `said`",
    "trace ls": "a list of `TraceView`; of a file one without a `job_id`",
    "trace summary": "the `Summary` of the trace; of several, of the first",
    "trace memory": "a list of `Memory`, one for each device",
    "trace diff": "a list of `Diff`, one for each name that both have",
    "trace ranks": "a `Ranks`",
    "trace open": "`url`, the address to open, and `port`, that of this machine",
    "trace slice": "`saved_as`, `events` in it, `of` how many, and `size_bytes`",
    "trace download": "a list of what was saved, each with `name`, `attempt` and `saved_as`",
    "secret set": "a `SecretView`",
    "secret rm": "a list of the names that are forgotten",
    "secret ls": "a list of `SecretView`",
    "admin init": "`url`, the address to open once",
    "admin users add": "`name`, `url` and `expires_in`, in seconds",
    "admin users ls": "a list of users, each with `name`, `project`, `is_admin`, `state` and `keys`",
    "admin users rm": "a list of the names that are removed",
    "admin agents ls": "a list of `AgentView`",
    "admin agents cordon": "the `AgentView`, as it is then",
    "admin agents drain": "the `AgentView`, as it is then, with `--wait` when nothing runs on it any more",
    "admin agents uncordon": "the `AgentView`, as it is then",
    "admin quota ls": "a list of `QuotaView`",
    "admin quota set": "the `QuotaView`, as it is then",
    "admin quota rm": "a list of the name for which nothing is set any more",
}
"""What each command prints."""

_STRUCTS: tuple[type[msgspec.Struct], ...] = (
    JobView, JobEnd, Why, Neighbour, GpuKind, TraceView, SecretView, AgentView, Cordon, QuotaView,
    report.Summary, report.TraceInfo, report.GpuTime, report.DeviceTime, report.Idle, report.Gap,
    report.Frame,
    report.Kernel, report.Op, report.Memory, report.MemoryPoint, report.MemoryBlock, report.Step,
    report.Finding, report.Diff, report.Side, report.Change, report.Part, report.Ranks, report.Rank,
    report.Collective,
)  # fmt: skip


def commands_with_json() -> set[str]:
    """The commands that have the option."""

    def has_it(options: Iterable[Option]) -> bool:
        return any("--json" in option.names for option in options)

    found = {command.name for command in COMMANDS if command is not PYTHON and has_it(command.options)}
    for group, (_, commands) in GROUPS.items():
        found |= {f"{group} {command.name}" for command in commands if has_it(command.options)}
    return found | ({"python"} if has_it(PYTHON.options) else set())


def json_page(
    generated: str, describe: Callable[[type[msgspec.Struct]], list[str]], fields: Callable[..., list[str]]
) -> str:
    """`describe` and `fields` print a struct."""
    lines = [
        "# JSON\n",
        generated,
        "What the command prints on stdout with `--json`. Times are seconds since the epoch by the server's",
        "clock. A field that this page does not name is new: ignore it.\n",
        "| command | prints |",
        "|---|---|",
    ]
    lines += [f"| `chisel {name}` | {shape} |" for name, shape in SHAPES.items()]
    for struct in _STRUCTS:
        lines += ["", f"## {struct.__name__}", "", *describe(struct), *fields(struct)]
    return "\n".join(lines) + "\n"
