"""Every command, once: the quick parser, the help screens and the suggestions read this table."""

from typing import NamedTuple


class Argument(NamedTuple):
    """A positional value; `many` takes all that follow, at least one."""

    name: str
    help: str
    many: bool = False
    optional: bool = False


class Option(NamedTuple):
    """`names[0]` is the long one. Without a `metavar` it is a switch. `number`: the value is a count.

    The rest is for options of `chisel python`. `kind`: who reads the value, of `values.READERS`. `many`:
    it may be given again and again. `leading`: names that are ours before the script only, because
    scripts have options of that name. `layered`: the environment and configuration files may give it.
    """

    names: tuple[str, ...]
    help: str
    metavar: str = ""
    number: bool = False
    default: int | str | None = None
    kind: str = "text"
    many: bool = False
    leading: tuple[str, ...] = ()
    layered: bool = False

    @property
    def key(self) -> str:
        """The parameter of the command's function."""
        return self.names[0].lstrip("-").replace("-", "_")


class Command(NamedTuple):
    """`home` is `module:function` below `chisel.cli`; the function gets one keyword per parameter and
    returns the exit status. `examples` are whole command lines, shown by `--help`; `aliases` are other
    names for it."""

    name: str
    help: str
    home: str
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    examples: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


JOB = Argument("job", "A job's id, the beginning of one, or @last.")
AS_JSON = Option(("--json",), "Print JSON.")

RUN_OPTIONS = (
    Option(
        ("--app-name", "-a", "--name"), "Job name for tracking; the script's name without this.", "NAME",
        leading=("--name",), layered=True,
    ),
    Option(
        ("--upload-dir", "-d"), "Directory to upload; the current one without this.", "DIR", layered=True
    ),
    Option(
        ("--requirements", "-r"), "Requirements file; requirements.txt without this.", "FILE", layered=True
    ),
    Option(
        ("--gpu", "-g"), "How many GPUs: 1, 2, 4 or 8; 1 without this.", "COUNT", kind="gpu", layered=True
    ),
    Option(("--interactive", "-i"), "Ask for these on the terminal.", layered=True),
    Option(("--detach",), "Submit the job, print its id and leave.", layered=True),
    Option(
        ("--time-limit",), "End the job after so long, as 1h30m or HH:MM:SS.", "TIME",
        kind="duration", layered=True,
    ),
    Option(
        ("--retries",), "Run it again so many times when its machine is lost; 0 without this.", "COUNT",
        kind="count", layered=True,
    ),
    Option(
        ("--priority",), "Among your own jobs, higher ones start first; 0 without this.", "NUMBER",
        kind="integer", layered=True,
    ),
    Option(("--no-pull",), "Leave what the job wrote into ./outputs where it is.", layered=True),
    Option(
        ("--on-interrupt",), "What Ctrl-C means: ask, cancel or detach; ask without this.", "WHAT",
        kind="on_interrupt", layered=True,
    ),
    Option(
        ("--quiet", "-q"), "Say nothing but errors.", leading=("--quiet", "-q"), layered=True
    ),
    Option(
        ("--raw",), "Let every terminal escape of the script through.", leading=("--raw",), layered=True
    ),
    Option(
        ("--json",), "Print the job as JSON when it has ended; the script's stdout goes to stderr.",
        leading=("--json",),
    ),
    Option(("--result",), "Write the job as JSON to a file when it has ended.", "FILE"),
)  # fmt: skip

PYTHON = Command(
    "python",
    "Run a script on GPUs. The options may stand anywhere; everything behind -- is the script's.",
    "run:run",
    (
        Argument("script", "The script, a file in the upload directory."),
        Argument("arguments", "The script's own arguments.", many=True),
    ),
    RUN_OPTIONS,
    examples=(
        "chisel python train.py --gpu 4",
        "chisel python train.py --epochs 100 --app-name training",
        "chisel --gpu 2 python train.py --gpu is-now-the-scripts",
        "chisel python -m package.module --epochs 3",
        "chisel python -c 'import torch; print(torch.cuda.device_count())'",
        "chisel python --detach --time-limit 1h30m train.py",
    ),
)

COMMANDS = (
    PYTHON,
    Command(
        "logs",
        "Print the output of a job from its first byte.",
        "logs:logs",
        (JOB,),
        (Option(("--follow", "-f"), "Go on until the job ends, and exit with its status."),),
        examples=("chisel logs @last", "chisel logs -f 3k9x"),
    ),
    Command(
        "ps",
        "List the jobs that have not ended, or the last one that has.",
        "jobs:ps",
        options=(
            Option(("--all", "-a"), "List ended jobs too."),
            Option(("--limit", "-n"), "List at most so many.", "COUNT", number=True, default=50),
            AS_JSON,
        ),
        examples=("chisel ps", "chisel ps --all -n 10", "chisel ps --json"),
    ),
    Command(
        "cancel",
        "End jobs: SIGINT, SIGTERM after a while, SIGKILL at last.",
        "jobs:cancel",
        (Argument("jobs", "Ids of jobs, or @last.", many=True),),
        examples=("chisel cancel @last", "chisel cancel 3k9x 7fq2"),
    ),
    Command(
        "pull",
        "Save what a job wrote into ./outputs. A file of your own that differs stays as it is.",
        "pull:pull",
        (JOB, Argument("path", "One file or folder of them; all without this.", optional=True)),
        (
            Option(("--output", "-o"), "The directory to save in.", "DIR", default="outputs"),
            Option(("--force",), "Overwrite files that differ."),
            AS_JSON,
        ),
        examples=("chisel pull @last", "chisel pull 3k9x plots -o results", "chisel pull 3k9x --force"),
    ),
    Command("up", "Start a backend on this machine.", "local:up", options=(
        Option(("--foreground",), "Stay, and stop it on Ctrl-C."),
    ), examples=("chisel up", "chisel up --foreground")),
    Command("down", "Stop the backend on this machine.", "local:down", examples=("chisel down",)),
    Command("status", "Say whether a backend runs on this machine, and of what it consists.", "local:status",
            options=(AS_JSON,), examples=("chisel status", "chisel status --json")),
    Command("version", "Print the version.", "about:version", examples=("chisel version",)),
)  # fmt: skip

TRACE_COMMANDS = (
    Command(
        "ls",
        "List the traces of a job.",
        "trace:ls",
        (JOB,),
        (AS_JSON,),
        examples=("chisel trace ls @last",),
    ),
    Command(
        "download",
        "Save the newest traces of a job as files.",
        "trace:download",
        (JOB, Argument("name", "One trace; all without this.", optional=True)),
        (Option(("--output", "-o"), "The directory to save in.", "DIR", default="."),),
        examples=("chisel trace download @last", "chisel trace download 3k9x matrix_ops -o traces"),
    ),
)

GROUPS = {"trace": ("Traces that functions decorated with @capture_trace saved.", TRACE_COMMANDS)}


def find(words: list[str]) -> tuple[Command, list[str]] | None:
    """The command that `words` begin with, and the words behind its name."""
    table: tuple[Command, ...] = COMMANDS
    depth = 0
    if words and words[0] in GROUPS:
        table, depth = GROUPS[words[0]][1], 1
    for command in table:
        if words[depth : depth + 1] and words[depth] in (command.name, *command.aliases):
            return command, words[depth + 1 :]
    return None


def names() -> list[str]:
    """What the first word can be."""
    return [name for command in COMMANDS for name in (command.name, *command.aliases)] + list(GROUPS)
