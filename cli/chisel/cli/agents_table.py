"""The commands of `chisel admin agents`, as rows of the table of commands."""

from chisel.cli.entry import Argument, Command, Option

_AGENT = Argument("agent", "An agent's name, its id or the beginning of its id.")
_REASON = Option(("--reason",), "Why, as others will read it; an earlier reason stays without this.", "TEXT")
_AS_JSON = Option(("--json",), "Print JSON.")

AGENTS_COMMANDS = (
    Command(
        "ls",
        "List the agents: how they stand, what is free and runs on them, who closed them and why.",
        "agents:ls",
        options=(_AS_JSON,),
        examples=("chisel admin agents ls", "chisel admin agents ls --json"),
        aliases=("list",),
    ),
    Command(
        "cordon",
        "Give an agent no new jobs until it is uncordoned; what runs on it goes on.",
        "agents:cordon",
        (_AGENT,),
        (_REASON, _AS_JSON),
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
            _AS_JSON,
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
        (_AS_JSON,),
        examples=("chisel admin agents uncordon gpu-01",),
    ),
)
