"""The commands below `chisel trace`."""

from chisel.cli.entry import AS_JSON, Argument, Command, Option

_STATUS = "\n\nExits with 3 when there is no such trace, and with 4 when it is not"
_STATUSES = _STATUS + " whole: what could be read is shown."
_SLICED = _STATUS + " whole: the slice is of what could be read."
_STORED = _STATUS + " stored: on its way, or lost."
_WHICH = (
    "A file, a job, or JOB/TRACE, where TRACE is a name such as train_step, train_step.2 or train_step.rank1."
)
_TRACE = Argument("trace", _WHICH)
_QUIET = Option(("--quiet", "-q"), "Print one line.")


def _top(default: int | None, help: str) -> Option:
    return Option(("--top",), help, "COUNT", number=True, default=default)


TRACE_COMMANDS = (
    Command(
        "ls",
        "List the traces of a job, or a file: what they are of, how busy the GPU was, and where they are.",
        "trace:ls",
        (Argument("job", "A job, or JOB/TRACE, or a file."),),
        (AS_JSON,),
        examples=("chisel trace ls @last", "chisel trace ls 3k9x/train_step"),
    ),
    Command(
        "summary",
        "Say what the GPU did and what it waited for, what to try, and what took the time." + _STATUSES,
        "trace_reports:summary",
        (_TRACE,),
        (
            _top(None, "List so many kernels, operators, findings and gaps; what fits a screen without."),
            _QUIET,
            AS_JSON,
        ),
        examples=(
            "chisel trace summary @last",
            "chisel trace summary @last/train_step.2 --top 20",
            "chisel trace summary traces/train_step.json.gz --json",
        ),
    ),
    Command(
        "open",
        "Show a trace in Perfetto: at ui.perfetto.dev, whose page takes it from this machine, or with"
        " --offline in the backend's own copy." + _STORED,
        "trace_open:open_trace",
        (_TRACE,),
        (
            Option(("--offline",), "Use no address but the backend's and this machine's."),
            Option(("--no-browser",), "Open no browser, print the address only."),
            Option(("--quiet", "-q"), "Say nothing but errors."),
            AS_JSON,
        ),
        examples=(
            "chisel trace open @last/train_step",
            "chisel trace open train_step.json --offline",
            "chisel trace open @last --no-browser",
        ),
    ),
    Command(
        "diff",
        "Compare B with A, each a file, a job or a job's trace with all its calls: by how much, where, and"
        " whether that is more than chance." + _STATUSES + " With 1 when --fail-over says so.",
        "trace_reports:diff",
        (Argument("a", "The one to compare with, as for summary."), Argument("b", "The other one.")),
        (
            Option(("--fail-over",), "Exit with 1 when B is slower by more than this, as 5%.", "PERCENT"),
            _top(8, "List so many kernels and operators; 8 without this."),
            _QUIET,
            AS_JSON,
        ),
        examples=(
            "chisel trace diff 3k9x 7fq2",
            "chisel trace diff 3k9x/train_step @last/train_step --fail-over 5%",
            "chisel trace diff before.json after.json --json",
        ),
    ),
    Command(
        "ranks",
        "Put the ranks of a job side by side, and say which of them makes the others wait." + _STATUSES,
        "trace_reports:ranks",
        (Argument("traces", "A job or JOB/NAME, or a trace of each rank.", many=True),),
        (_top(8, "List so many kinds of collectives; 8 without this."), AS_JSON),
        examples=(
            "chisel trace ranks @last",
            "chisel trace ranks @last/train_step",
            "chisel trace ranks step.rank0.json step.rank1.json",
        ),
    ),
    Command(
        "memory",
        "Show the memory of a call that was traced with profile_memory=True: a chart, the peak, and what lay"
        " there then." + _STATUSES,
        "trace_reports:memory",
        (_TRACE,),
        (_top(10, "List so many operators; 10 without this."), AS_JSON),
        examples=("chisel trace memory @last/train_step", "chisel trace memory train_step.json --json"),
    ),
    Command(
        "slice",
        "Save a part of a trace as a trace of its own: some steps, a stretch of time, or all without what"
        " makes it large." + _SLICED,
        "trace_slice:slice_trace",
        (_TRACE,),
        (
            Option(("--steps",), "Only these steps of an optimizer or profiler, as 2 or 2-3.", "NUMBERS"),
            Option(("--start", "--from"), "From this moment of the recording on, as 10ms.", "TIME"),
            Option(("--end", "--to"), "Up to this moment of the recording, as 1.5s.", "TIME"),
            Option(("--drop",), "Leave out python, flows, memory, or a category such as cpu_op.", "NAMES"),
            Option(("--output", "-o"), "The file to save; TRACE.slice.json.gz without this.", "FILE"),
            AS_JSON,
        ),
        examples=(
            "chisel trace slice @last/train_step --steps 2-3 -o part.json.gz",
            "chisel trace slice train_step.json --drop python,flows",
            "chisel trace slice train_step.json --from 10ms --to 20ms",
        ),
    ),
    Command(
        "download",
        "Save the newest traces of a job as files. A download that broke goes on where it was." + _STORED,
        "trace:download",
        (
            Argument(
                "job", "A job's id, the beginning of one, or @last; a file, to save it in another form."
            ),
            Argument("name", "One trace; all without this.", optional=True),
        ),
        (
            Option(("--output", "-o"), "The directory to save in.", "DIR", default="."),
            Option(("--raw",), "As JSON, which is also what is saved without any of these."),
            Option(("--gz",), "Compressed, which Perfetto opens as it is."),
            Option(("--speedscope",), "As a flame graph for speedscope.app, of Python and operators."),
            Option(("--folded",), "As folded stacks, for flamegraph.pl and others."),
            Option(("--quiet", "-q"), "Say nothing but errors."),
            AS_JSON,
        ),
        examples=(
            "chisel trace download @last",
            "chisel trace download 3k9x matrix_ops -o traces",
            "chisel trace download @last train_step --gz",
        ),
    ),
)
