"""`--env` and `--secret`: what a job finds in its environment beside what every job finds."""

from typing import NamedTuple

from chisel import settings
from chisel.cli.choices import Choices
from chisel.cli.values import UsageError


class Variables(NamedTuple):
    """Values by variable, and names of secrets by variable."""

    env: dict[str, str]
    secrets: dict[str, str]


def read_variables(choices: Choices) -> Variables:
    """What the command line asks for; `UsageError` names what cannot be."""
    said = choices.texts("env"), choices.texts("secret")
    stacks = {"CHISEL_TRACE_STACKS": "1"} if choices.flag("trace_stacks") else {}
    if not any(said):
        return Variables(stacks, {})
    from chisel_shared.contract.errors import UserError

    try:
        found = _read(*said)
    except UserError as error:
        raise UsageError(str(error)) from error
    return Variables(found.env | stacks, found.secrets)


def _read(envs: tuple[str, ...], secrets: tuple[str, ...]) -> Variables:
    from chisel_shared.contract.variables import MAX_ENV_BYTES, check_name, check_secret, check_value

    found = Variables({}, {})
    for text in envs:
        name, equals, given = text.partition("=")
        check_name(name)
        value = given if equals else settings.variable(name)
        if value is None:
            raise UsageError(f"--env {name}: the shell has no variable {name}; write --env {name}=VALUE")
        check_value(name, value)
        found.env[name] = value
    if sum(len(name) + len(value.encode()) + 2 for name, value in found.env.items()) > MAX_ENV_BYTES:
        raise UsageError(
            f"--env: names and values may take {MAX_ENV_BYTES // 1024} KiB together: put what is large into a"
            " file of the directory"
        )
    for text in secrets:
        variable, _, name = text.rpartition("=")
        variable = variable or name
        check_secret(variable, name)
        if variable in found.env:
            raise UsageError(f"{variable} is given twice: by --env and by --secret")
        found.secrets[variable] = name
    return found
