"""The commands of `chisel admin quota`, as rows of the table of commands."""

from chisel.cli.entry import Argument, Command, Option

_NAME = Argument("name", "An account's name, or with --project a project's.")
_PROJECT = Option(("--project",), "NAME is a project.")
_AS_JSON = Option(("--json",), "Print JSON.")

QUOTA_COMMANDS = (
    Command(
        "ls",
        "List what users and projects may have, hold and have had lately.",
        "quota:ls",
        options=(_AS_JSON,),
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
            _AS_JSON,
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
        (_PROJECT,),
        examples=("chisel admin quota rm bob", "chisel admin quota rm vision --project"),
    ),
)  # fmt: skip
