"""The commands of `chisel admin`, for those who run a backend, as rows of the table of commands."""

from chisel.cli.entry import AS_JSON, Argument, Command, Option

ADMIN_COMMANDS = (
    Command(
        "init",
        "Print the address where the first admin opens an account; it works once.",
        "admin:init",
        (Argument("url", "The backend's address; the one of this machine without this.", optional=True),),
        (
            Option(("--token-file",), "The file of the auth service's CHISEL_AUTH_ADMIN_TOKEN_FILE.", "FILE"),
            AS_JSON,
        ),
        examples=(
            "chisel admin init",
            "chisel admin init https://chisel.example.com --token-file admin-token",
        ),
    ),
)

USERS_COMMANDS = (
    Command(
        "add",
        "Invite somebody: prints an address that opens the account once.",
        "admin:add",
        (Argument("name", "The account's name: small letters, digits, dots, dashes, underscores."),),
        (
            Option(("--admin",), "May also see to accounts, agents and quotas."),
            Option(("--project",), "The project to work in, made if new; yours without this.", "NAME"),
            AS_JSON,
        ),
        examples=("chisel admin users add bob", "chisel admin users add eve --project vision"),
    ),
    Command(
        "ls", "List accounts and invitations.", "admin:ls", options=(AS_JSON,),
        examples=("chisel admin users ls",),
    ),
    Command(
        "rm",
        "End accounts, with their keys and sessions, or invitations.",
        "admin:rm",
        (Argument("names", "Names of accounts.", many=True),),
        (AS_JSON,),
        examples=("chisel admin users rm bob",),
    ),
)  # fmt: skip

_AGENT = Argument("agent", "An agent's name, its id or the beginning of its id.")
_REASON = Option(("--reason",), "Why, as others will read it; an earlier reason stays without this.", "TEXT")

AGENTS_COMMANDS = (
    Command(
        "ls",
        "List the agents: how they stand, what is free and runs on them, who closed them and why.",
        "agents:ls",
        options=(AS_JSON,),
        examples=("chisel admin agents ls", "chisel admin agents ls --json"),
        aliases=("list",),
    ),
    Command(
        "cordon",
        "Give an agent no new jobs until it is uncordoned; what runs on it goes on.",
        "agents:cordon",
        (_AGENT,),
        (_REASON, AS_JSON),
        examples=("chisel admin agents cordon gpu-01", "chisel admin agents cordon 3k9x --reason 'odd fan'"),
    ),
    Command(
        "drain",
        "Empty an agent: it gets no new jobs, and what still runs at the deadline is ended. Jobs with retries"
        " left then run elsewhere, which is not counted; the others are cancelled.",
        "agents:drain",
        (_AGENT,),
        (
            Option(
                ("--deadline",),
                "End what still runs after so long, as 30m, or then, as 2030-01-31T12:00; else never.",
                "TIME",
            ),
            _REASON,
            Option(("--wait",), "Return when nothing runs on it any more."),
            AS_JSON,
        ),
        examples=(
            "chisel admin agents drain gpu-01 --reason 'new driver' --wait",
            "chisel admin agents drain gpu-01 --deadline 30m",
            "chisel admin agents drain gpu-01 --deadline 2030-01-31T12:00",
        ),
    ),
    Command(
        "uncordon",
        "Give an agent jobs again, after a cordon or a drain.",
        "agents:uncordon",
        (_AGENT,),
        (AS_JSON,),
        examples=("chisel admin agents uncordon gpu-01",),
    ),
)

_NAME = Argument("name", "An account's name, or with --project a project's.")
_PROJECT = Option(("--project",), "NAME is a project.")

QUOTA_COMMANDS = (
    Command(
        "ls",
        "List what users and projects may have, hold and have had lately.",
        "quota:ls",
        options=(AS_JSON,),
        examples=("chisel admin quota ls", "chisel admin quota ls --json"),
        aliases=("list",),
    ),
    Command(
        "set",
        "Set how many GPUs a user or a project may hold at once, or what it weighs. What runs goes on.",
        "quota:set_",
        (_NAME,),
        (
            _PROJECT,
            Option(("--gpus",), "At most so many at once; none for any number.", "COUNT"),
            Option(
                ("--weight",), "Of a user of weight 2 jobs go first until it had twice as much; 1 at first.",
                "NUMBER",
            ),
            AS_JSON,
        ),
        examples=(
            "chisel admin quota set bob --gpus 8",
            "chisel admin quota set vision --project --gpus 32 --weight 2",
            "chisel admin quota set bob --gpus none",
        ),
    ),
    Command(
        "rm",
        "Forget what was set for a user or a project: any number of GPUs, weight 1.",
        "quota:rm",
        (_NAME,),
        (_PROJECT, AS_JSON),
        examples=("chisel admin quota rm bob", "chisel admin quota rm vision --project"),
    ),
)  # fmt: skip
