"""The pages of docs/reference for those who type commands and those who set up services."""

import importlib
from collections.abc import Sequence

from pydantic.fields import FieldInfo

from chisel.cli.table import COMMANDS, GROUPS, PYTHON, RUN_OPTIONS, Command, Option
from chisel_shared.contract.job import EXIT_STATUSES
from chisel_shared.runtime.settings import ServiceSettings
from tests.support.source import ROOT, SERVICES, member_docs

_RUN = """\
## chisel python

    chisel [options] python [options] SCRIPT [its arguments] [options] [-- its arguments]

Runs a script on GPUs as `python` would run it here. The upload directory travels whole, the script runs
in the same place below it, its output arrives live on the same descriptors, and its exit status is the
command's.

    chisel [options] python [options] -m MODULE ...
    chisel [options] python [options] -c CODE ...

Options may stand before or behind `python` and behind the script. Those taken from behind the script
are named on stderr, and everything else there is the script's. Behind `--` every word is the script's;
so is every word behind the script, `--` too, when options stand before `python`. Scripts often have options
called `--name`, `--json`, `--quiet`, `-q`, `-p` and `--raw`: these are ours before the script only. Of
python's own options `-u`, `-B`, `-O`, `-OO`, `-W` and `-X` may stand before the script.
"""

_INTERACTIVE = """\

On a terminal, when nothing gives an app name, it is asked for: Enter runs the job with what is shown, a name
goes on to the upload directory, the requirements file and the GPUs, with what is free now. `-i` asks for all
of them. An answer is checked at once, the command line that needs no answers is shown, and Ctrl-C leaves with
nothing submitted. `app-name = "…"` or `interactive = false` in a configuration file, `--quiet`, `--json` and
`--detach` ask nothing, and without a terminal nothing ever asks.

A requirements file that is named must exist. Without one the `dependencies` of the script's own metadata
(`# /// script`) are used, or else a `requirements.txt`. `requires-python` there is checked against the Python
that the agent runs jobs with.

`--detach` prints the id of the job on stdout and leaves with 0. `--json` prints the job as JSON on stdout
when it has ended, or with `--detach` when it is accepted; the script's own stdout then goes to stderr.
`--result FILE` writes the same JSON to a file and leaves the output alone.

Ctrl-C on a terminal asks whether to cancel, to detach (exit status 0) or to keep watching; a second one
cancels and shows what the script prints until its end; a third leaves at once. Without a terminal, and for
SIGTERM anywhere, the job is cancelled, and a second signal leaves at once. `--on-interrupt cancel` or
`detach` asks nothing. A closed terminal or a lost network never cancels a job.

On a terminal the script's escape sequences pass when they draw: colours, the cursor, erasing, hyperlinks.
Those that set titles or the clipboard, or make the terminal answer, are left out; `--raw` lets them pass.
What goes to a file or a pipe is never changed.

With no backend named and none stored, the extra `local` uses the one that runs on this machine or starts
it, and one line on stderr says which.

# Configuration

What is not said on the command line of `chisel python` may be said elsewhere. The first place counts:

1. a flag, as `--time-limit 2h`,
2. its variable in the environment, as `CHISEL_TIME_LIMIT`; a switch takes `true` or `false`,
3. the nearest `chisel.toml`, or `pyproject.toml` with a `[tool.chisel]`, in the upload directory or above it,
4. `~/.chisel/config.toml`.

```toml
# chisel.toml
app-name = "training"
gpu = 4
time-limit = "2h"
```

Paths in a project's file are relative to it. A name that is no setting is an error. `chisel config` shows
every setting with the place that gave it.

# Other commands
"""

_REST = """\

# Exit status

{statuses}

`chisel python`, `logs -f`, `attach`, `wait` and `rerun` exit as the job did, the others with 0 when they did
what was asked. A script may itself exit with any of these; `chisel status JOB --json` tells which it was, by
the reason. Every way a job can end is in [states.md](states.md).

# JSON

With `--json` stdout holds one document and nothing else; everything that is said goes to stderr. The shapes
are those of the API, with ids in full; fields are added, never removed or given another meaning, and they
are in [json.md](json.md).

# Environment variables

## Yours

| variable | meaning |
|---|---|
| `CHISEL_BACKEND_URL` | the backend to use; without it the stored one, then the one of this machine |
| `CHISEL_API_KEY` | the key to use; never stored, comes before every stored one |
| `CHISEL_LOCAL_DIR` | where the backend of this machine keeps everything; `~/.chisel/local` without it |
| `CHISEL_AGENT_GPUS` | for `chisel up`: `sim:8` offers simulated GPUs, `auto` those of the driver, or eight simulated ones where there are none |
| `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | the HTTP proxy to go through by CONNECT, as `http://NAME:PASSWORD@HOST:PORT`, and the hosts that are reached directly; small letters come first; this machine never needs a proxy |
| `CHISEL_CA_FILE` | a PEM file with more authorities to trust; `SSL_CERT_FILE` names the ones to trust instead of the system's |
| `NO_COLOR` | no colours |

## A job's

| variable | meaning |
|---|---|
| `CHISEL_BACKEND_RUN` | `1` on a backend, absent elsewhere |
| `CHISEL_JOB_ID` | the job |
| `CHISEL_ATTEMPT` | which attempt at it this is, from 1 |
| `CHISEL_BACKEND_APP_NAME` | its app name |
| `CHISEL_TRACE_DIR` | files that appear here whole are kept as the job's traces |
| `CHISEL_TRACE_STACKS` | `1` after `chisel python --trace-stacks`: captures record the Python lines too |
| `CHISEL_GPU_COUNT` | how many GPUs it has |
| `CUDA_VISIBLE_DEVICES` | which ones |
| `MASTER_ADDR`, `MASTER_PORT` | where its ranks meet; the port is the job's own |
| `PYTHONUNBUFFERED` | `1`, so that output is live |

Everything else of the machine it runs on stays there, but for an allow-list of harmless ones (`PATH`,
`LANG`, proxies and certificates, …).

# Files

| file | what |
|---|---|
| `~/.chisel/credentials.json` | keys by backend; mode 0600 in a folder of mode 0700 |
| `~/.chisel/config.toml` | the user's settings, below those of the project |
| `chisel.toml`, `pyproject.toml` | the project's settings |
| `~/.chisel/local/` | the backend of this machine: data, logs, sockets, the key of its one user |
"""  # noqa: E501 - a row of a table is one line


def commands_page(generated: str) -> str:
    """Every command with its options, from the table the command itself is made of."""
    lines = [
        "# Commands\n",
        generated,
        "`chisel` alone prints help; `chisel COMMAND --help` explains one.\n",
        _RUN,
    ]
    lines += [*_options(RUN_OPTIONS), "", *_examples(PYTHON), _INTERACTIVE]
    for command in COMMANDS:
        if command.name != "python":
            lines += _command(command, command.name)
    for group, (_, commands) in GROUPS.items():
        for command in commands:
            lines += _command(command, f"{group} {command.name}")
    lines += [
        "## chisel --version, chisel -v\n",
        "Print the version.\n",
        "## chisel --logout\n",
        "Forget the stored API keys, of every backend, and have the backends forget them too.",
    ]
    statuses = [f"| {status} | {meaning} |" for status, meaning in EXIT_STATUSES]
    rest = _REST.replace("{statuses}", "\n".join(["| status | when |", "|---|---|", *statuses]))
    return "\n".join(lines) + "\n" + rest


def _command(command: Command, name: str) -> list[str]:
    words = []
    for argument in command.arguments:
        word = argument.name.upper() + ("..." if argument.many else "")
        words.append(f"[{word}]" if argument.optional else word)
    if command.options:
        words.insert(0, "[options]")
    lines = [f"## chisel {name}\n", "    " + " ".join(["chisel", name, *words]) + "\n", command.help]
    if command.aliases:
        group = name.removesuffix(command.name)
        lines[-1] += " Also: " + ", ".join(f"`chisel {group}{alias}`" for alias in command.aliases) + "."
    if command.arguments:
        lines += ["", *[f"- `{argument.name.upper()}`: {argument.help}" for argument in command.arguments]]
    if command.options:
        lines += ["", *_options(command.options)]
    return [*lines, "", *_examples(command), ""]


def _examples(command: Command) -> list[str]:
    return ["```sh", *command.examples, "```"]


def _options(options: Sequence[Option]) -> list[str]:
    lines = ["| option | |", "|---|---|"]
    for option in options:
        names = ", ".join(
            f"`{name}{' ' + option.metavar if option.metavar else ''}`" for name in option.names
        )
        default = f" Default: `{option.default}`." if option.default is not None else ""
        lines.append(f"| {names} | {option.help}{default} |")
    return lines


def settings_page(generated: str) -> str:
    """Every variable a service reads, from the settings classes."""
    lines = [
        "# Settings\n",
        generated,
        "Each service reads its environment once, at its start. A value that makes no sense ends it with 2",
        "and a sentence. `chisel up` sets all of this by itself.",
    ]
    for service in SERVICES:
        kind = _settings_of(service)
        docs = _docs_of(kind)
        lines += ["", f"## {service}", "", "| variable | default | meaning |", "|---|---|---|"]
        prefix = kind.model_config.get("env_prefix", "")
        for name, field in kind.model_fields.items():
            lines.append(f"| `{prefix}{name.upper()}` | {_default(field)} | {docs.get(name, '')} |")
    return "\n".join(lines) + "\n"


def _settings_of(service: str) -> type[ServiceSettings]:
    module = importlib.import_module(f"chisel_{service}.settings")
    (found,) = (
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, ServiceSettings) and kind.__module__ == module.__name__
    )
    return found


def _docs_of(kind: type[ServiceSettings]) -> dict[str, str]:
    """The paragraphs below the fields, of the class and of what it stands on."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, ServiceSettings):
            module = importlib.import_module(base.__module__)
            assert module.__file__ is not None
            docs |= member_docs(ROOT / module.__file__, base.__name__)
    return docs


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    if field.default_factory is not None or str(field.default).startswith("/"):
        return "*of the machine*"
    if field.default in ("", None):
        return ""
    return f"`{field.default}`"
