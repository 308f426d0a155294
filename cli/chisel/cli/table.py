"""Every command, once: the quick parser, the help screens and the suggestions read this table."""

from chisel.cli.admin_table import ADMIN_COMMANDS, AGENTS_COMMANDS, QUOTA_COMMANDS, USERS_COMMANDS
from chisel.cli.entry import AS_JSON as AS_JSON
from chisel.cli.entry import Argument as Argument
from chisel.cli.entry import Command as Command
from chisel.cli.entry import Option as Option
from chisel.cli.trace_table import TRACE_COMMANDS

JOB = Argument("job", "A job's id, the beginning of one, or @last.")
JOBS = Argument("jobs", "Ids of jobs, beginnings of ids, or @last.", many=True)
RAW = Option(("--raw",), "Let every escape sequence through to the terminal.")

RUN_OPTIONS = (
    Option(
        ("--app-name", "-a", "--name"), "Job name for tracking; the script's name without this.", "NAME",
        leading=("--name",), layered=True,
    ),
    Option(
        ("--upload-dir", "-d"), "Directory to upload; the current one without this.", "DIR", layered=True
    ),
    Option(
        ("--requirements", "-r"),
        "Requirements file; the script's metadata or requirements.txt without this.", "FILE", layered=True,
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
        ("--retry-on",), "What else lets it run again: exit, exit:75, signal, oom, time_limit, any; again for"
        " each.", "CAUSE", kind="cause", many=True,
    ),
    Option(
        ("--lease",), "How long its machine may be out of contact before it runs again elsewhere; 10m"
        " without this.", "TIME", kind="duration", layered=True,
    ),
    Option(
        ("--priority",), "Higher ones start before all lower ones, of others too; 0 without this.", "NUMBER",
        kind="integer", layered=True,
    ),
    Option(
        ("--env",), "Set a variable of the job, or hand on the shell's; again for each.", "NAME[=VALUE]",
        many=True, leading=("--env",),
    ),
    Option(
        ("--secret",), "Let the job find a secret in its environment, as NAME or VARIABLE; again for each.",
        "[VARIABLE=]NAME", many=True,
    ),
    Option(
        ("--trace-stacks",), "Let every capture of the job record the Python lines too.", layered=True,
    ),
    Option(
        ("--preview", "-p"), "Show what would be uploaded, what is left out and why, and send nothing.",
        leading=("-p",),
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
        Argument("arguments", "The script's own arguments.", many=True, optional=True),
    ),
    RUN_OPTIONS,
    examples=(
        "chisel python train.py --gpu 4",
        "chisel python train.py --epochs 100 --app-name training",
        "chisel --gpu 2 python train.py --gpu is-now-the-scripts",
        "chisel python -m package.module --epochs 3",
        "chisel python -c 'import torch; print(torch.cuda.device_count())'",
        "chisel python --detach --time-limit 1h30m train.py",
        "chisel python train.py --preview",
    ),
)

COMMANDS = (
    PYTHON,
    Command(
        "ps",
        "List the jobs that have not ended, or the last one that has.",
        "jobs:ps",
        options=(
            Option(("--all", "-a"), "List ended jobs too."),
            Option(("--watch", "-w"), "Go on until Ctrl-C: redraw on a terminal, else a line per change."),
            Option(("--limit", "-n"), "List at most so many.", "COUNT", number=True, default=50),
            AS_JSON,
        ),
        examples=("chisel ps", "chisel ps --watch", "chisel ps --all -n 10", "chisel ps --json"),
        aliases=("list",),
    ),
    Command(
        "logs",
        "Print the output of a job. It comes on the descriptors the script wrote it to.",
        "logs:logs",
        (JOB,),
        (
            Option(("--follow", "-f"), "Go on until the job ends, and exit with its status."),
            Option(("--tail",), "Begin with the last so many lines.", "LINES", number=True),
            Option(
                ("--since",), "Begin with what came in the last 10m, or since 2030-01-31T12:00.", "TIME"
            ),
            Option(("--stderr",), "Only what went to stderr."),
            Option(("--timestamps", "-t"), "Put before each line when it came to the backend, in UTC."),
            Option(
                ("--rank",),
                "Only this rank. A job of one process is rank 0; ranks of a launcher share one output and"
                " cannot be told apart.",
                "N", number=True,
            ),
            RAW,
            Option(("--json",), "Print a line of JSON for each line."),
        ),
        examples=(
            "chisel logs @last",
            "chisel logs -f 3k9x",
            "chisel logs 3k9x --tail 20 --timestamps",
            "chisel logs -f 3k9x --since 10m --stderr",
        ),
    ),
    Command(
        "attach",
        "Watch a job from now on as if it had just been started here; Ctrl-C asks what to do.",
        "logs:attach",
        (JOB,),
        (Option(("--tail",), "Begin with the last so many lines.", "LINES", number=True, default=0), RAW),
        examples=("chisel attach @last", "chisel attach 3k9x --tail 20"),
    ),
    Command(
        "status",
        "Say everything about a job; without one, whether a backend runs on this machine.",
        "jobs:status",
        (Argument("job", "A job's id, the beginning of one, or @last.", optional=True),),
        (AS_JSON,),
        examples=("chisel status @last", "chisel status 3k9x --json", "chisel status"),
    ),
    Command(
        "why",
        "Say why a job waits: its place in the queue, who is ahead, who holds the GPUs.",
        "jobs:why",
        (JOB,),
        (AS_JSON,),
        examples=("chisel why @last", "chisel why 3k9x --json"),
        aliases=("explain",),
    ),
    Command(
        "wait",
        "Wait until jobs have ended; exit as the first of them that failed did.",
        "wait:wait",
        (JOBS,),
        (AS_JSON,),
        examples=("chisel wait @last && echo done", "chisel wait 3k9x 7fq2"),
    ),
    Command(
        "cancel",
        "End jobs: SIGINT, SIGTERM after a while, SIGKILL at last.",
        "cancel:cancel",
        (JOBS,),
        (
            Option(
                ("--signal",),
                "The first signal instead: INT, TERM, HUP, QUIT or KILL to all the job started, USR1 or USR2"
                " to the script alone.",
                "NAME",
            ),
            Option(("--grace",), "How long the job has after it, as 30s or 00:05:00.", "TIME"),
            Option(("--reason",), "Why, as the job's end will say.", "TEXT"),
            AS_JSON,
        ),
        examples=(
            "chisel cancel @last",
            "chisel cancel 3k9x 7fq2 --reason 'wrong data'",
            "chisel stop 3k9x --signal USR1 --grace 5m",
        ),
        aliases=("stop", "kill"),
    ),
    Command(
        "rerun",
        "Submit a job again, with the same files and arguments, and watch it.",
        "rerun:rerun",
        (JOB,),
        (Option(("--detach",), "Print the new job's id and leave."), AS_JSON),
        examples=("chisel rerun @last", "chisel rerun 3k9x --detach"),
    ),
    Command(
        "gpus",
        "List the GPUs there are and how many are free, by kind.",
        "jobs:gpus",
        options=(AS_JSON,),
        examples=("chisel gpus", "chisel gpus --json"),
    ),
    Command(
        "login",
        "Get an API key for a backend with a browser, here or on any other machine.",
        "login:login",
        (Argument("url", "The backend's address; the current one without this.", optional=True),),
        (
            Option(("--with-key",), "Take a key from stdin, or ask for it, instead."),
            Option(("--no-browser",), "Open no browser, print the address only."),
            AS_JSON,
        ),
        examples=("chisel login https://chisel.example.com", "chisel login --with-key"),
    ),
    Command(
        "logout",
        "Forget the API key of a backend, here and there.",
        "login:logout",
        (Argument("url", "The backend's address; the current one without this.", optional=True),),
        (Option(("--all",), "Of every backend."), AS_JSON),
        examples=("chisel logout", "chisel logout --all"),
    ),
    Command(
        "whoami",
        "Say whom you work as, where, and which key says so.",
        "login:whoami",
        options=(AS_JSON,),
        examples=("chisel whoami", "chisel whoami --json"),
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
        Option(("--foreground",), "Stay, and stop it on Ctrl-C."), AS_JSON,
    ), examples=("chisel up", "chisel up --foreground")),
    Command(
        "down", "Stop the backend on this machine.", "local:down", options=(AS_JSON,),
        examples=("chisel down",),
    ),
    Command(
        "config", "Say what holds for `chisel python` here, and which flag, variable or file says so.",
        "config:config",
        options=(Option(("--upload-dir", "-d"), "Look from this directory on.", "DIR"), AS_JSON),
        examples=("chisel config", "chisel config --json"),
    ),
    Command(
        "doctor", "Check, one thing after the other, whether a job could be submitted from here.",
        "doctor:doctor", options=(AS_JSON,), examples=("chisel doctor", "chisel doctor --json"),
    ),
    Command(
        "completion", "Print what makes a shell complete commands, options and ids of jobs.",
        "completion:completion", (Argument("shell", "bash, zsh or fish."),),
        examples=("chisel completion bash", "chisel completion fish"),
    ),
    Command(
        "version", "Print the version.", "about:version", options=(AS_JSON,), examples=("chisel version",)
    ),
)  # fmt: skip

SECRET_COMMANDS = (
    Command(
        "set",
        "Keep a secret for the jobs of this project: its value is typed unseen, or read from stdin, whose"
        " last line end is dropped.",
        "secret:set",
        (Argument("name", "The secret's name, which is also that of the job's variable."),),
        (Option(("--from-file",), "Take the value from a file, byte for byte.", "FILE"), AS_JSON),
        examples=("chisel secret set HF_TOKEN", "chisel secret set TLS_KEY --from-file key.pem"),
    ),
    Command(
        "ls",
        "List the project's secrets: names and when they were set. Values are shown to nobody.",
        "secret:ls",
        (),
        (AS_JSON,),
        examples=("chisel secret ls", "chisel secret ls --json"),
        aliases=("list",),
    ),
    Command(
        "rm",
        "Forget secrets. Jobs that run keep what they were given.",
        "secret:rm",
        (Argument("names", "Names of secrets.", many=True),),
        (AS_JSON,),
        examples=("chisel secret rm HF_TOKEN",),
    ),
)

GROUPS = {
    "secret": ("Values that jobs find in their environment and nobody else sees.", SECRET_COMMANDS),
    "trace": ("What functions decorated with @capture_trace did: read, compared and shown.", TRACE_COMMANDS),
    "admin": ("For those who run a backend.", ADMIN_COMMANDS),
    "admin users": ("Accounts.", USERS_COMMANDS),
    "admin quota": ("How many GPUs users and projects may have, and who goes first.", QUOTA_COMMANDS),
    "admin agents": ("Agents: the machines that jobs run on.", AGENTS_COMMANDS),
}
"""A group's name is one word, or two where it lies in another."""

BACKEND = ("login", "logout", "whoami", "up", "down", "config", "doctor", "completion", "version", "admin")
"""Words that are about a backend or this command; the help lists them apart from those about jobs."""


def find(words: list[str]) -> tuple[Command, list[str]] | None:
    """The command that `words` begin with, and the words behind its name."""
    table: tuple[Command, ...] = COMMANDS
    depth = 0
    for length in (1, 2):
        if (group := " ".join(words[:length])) in GROUPS:
            table, depth = GROUPS[group][1], length
    for command in table:
        if words[depth : depth + 1] and words[depth] in (command.name, *command.aliases):
            return command, words[depth + 1 :]
    return None


def names() -> list[str]:
    """What the first word can be."""
    return [name for command in COMMANDS for name in (command.name, *command.aliases)] + [
        name for name in GROUPS if " " not in name
    ]
