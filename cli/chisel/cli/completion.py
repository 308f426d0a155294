"""`chisel completion SHELL`: a script for the shell, written from the table of commands.

Words come from the table and are in the script; only ids of jobs are asked for, by `chisel completion jobs`.
"""

from chisel.cli import table
from chisel.cli.render import Screen
from chisel.cli.values import UsageError
from chisel_shared.contract.errors import ChiselError

SHELLS = ("bash", "zsh", "fish")
_MOST_JOBS = 20
_OF_JOBS = ("job", "jobs", "trace", "traces", "a", "b")
"""Arguments that may be a job; where a trace is wanted the shell offers files too."""


def completion(shell: str) -> int:
    screen = Screen()
    if shell == "jobs":
        return _jobs(screen)
    if shell not in SHELLS:
        raise UsageError(f"there are completions for {', '.join(SHELLS)}, not for {shell}")
    screen.result({"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]())
    return 0


def _jobs(screen: Screen) -> int:
    """Ids of the newest jobs. What goes wrong is not said: somebody is in the middle of a line."""
    from chisel import auth, settings
    from chisel.client import Client

    try:
        # Nothing is started and nobody asked to log in for a completion.
        url = settings.named_backend() or auth.stored_backend()
        local = None if url else settings.local_backend()
        url = url or (local.url if local else "")
        found = auth.find_key(url) if url else None
        if found is None:
            return 0
        with Client(url=url, api_key=found.key) as client:
            jobs = client.views(limit=_MOST_JOBS)
    except (ChiselError, OSError):
        return 0
    if jobs:
        screen.result("\n".join(job.id for job in jobs))
    return 0


def _words() -> dict[str, list[str]]:
    """What may follow a command or a group; `""` is the beginning of the line."""
    words = {"": [*table.names(), "--version", "--help"]}
    tables = {"": table.COMMANDS} | {name: commands for name, (_, commands) in table.GROUPS.items()}
    for group, commands in tables.items():
        if group:
            words[group] = [command.name for command in commands]
        for command in commands:
            options = [name for option in command.options for name in option.names] + ["--help"]
            for name in (command.name, *command.aliases):
                words[f"{group} {name}".strip()] = options
    for group in table.GROUPS:
        parent, _, name = group.rpartition(" ")
        if parent:
            words[parent].append(name)
    return words


def _take_jobs() -> list[str]:
    found = []
    tables = {"": table.COMMANDS} | {name: commands for name, (_, commands) in table.GROUPS.items()}
    for group, commands in tables.items():
        for command in commands:
            if any(argument.name in _OF_JOBS for argument in command.arguments):
                found += [f"{group} {name}".strip() for name in (command.name, *command.aliases)]
    return [name for name in found if name != "python"]


def _cases() -> str:
    lines = [f"    {name!r}) words={' '.join(options)!r} ;;" for name, options in _words().items() if name]
    return "\n".join(lines)


def _bash() -> str:
    jobs = "|".join(repr(name) for name in _take_jobs())
    return f"""\
# chisel completion bash >> ~/.bashrc
_chisel() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words={" ".join(_words()[""])!r} command="" one
  local -i at
  for ((at = 1; at < COMP_CWORD; at++)); do
    one="${{COMP_WORDS[at]}}"
    case "${{command:+$command }}$one" in
{chr(10).join(f"      {name!r}) command={name!r} ;;" for name in _words() if name)}
      python\\ *) ;;
    esac
  done
  case "$command" in
{_cases()}
  esac
  COMPREPLY=()
  if [[ $current != -* ]]; then
    case "$command" in
      {jobs}) words="@last $(chisel completion jobs 2>/dev/null)" ;;
      python) COMPREPLY=($(compgen -f -- "$current")); return ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o bashdefault -o default -F _chisel chisel chisel-gpu"""


def _zsh() -> str:
    return "# chisel completion zsh >> ~/.zshrc\nautoload -U +X bashcompinit && bashcompinit\n" + _bash()


def _fish() -> str:
    lines = ["# chisel completion fish > ~/.config/fish/completions/chisel.fish", "complete -c chisel -f"]
    for name, words in _words().items():
        parts = name.split()
        seen = "; and ".join(f"__fish_seen_subcommand_from {part}" for part in parts)
        when = seen or "__fish_use_subcommand"
        lines.append(f"complete -c chisel -n {when!r} -a {' '.join(words)!r}")
    for name in _take_jobs():
        when = "; and ".join(f"__fish_seen_subcommand_from {part}" for part in name.split())
        lines.append(f"complete -c chisel -n {when!r} -a '@last (chisel completion jobs 2>/dev/null)'")
    lines.append("complete -c chisel -n '__fish_seen_subcommand_from python' -F")
    return "\n".join(lines)
