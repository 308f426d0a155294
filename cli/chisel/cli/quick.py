"""Parsing of plain command lines, so that the commands people wait for need not load typer.

It understands what is written as the help shows it and nothing else: anything in doubt, and every
mistake, is left to typer, which knows how to explain it.
"""

from chisel.cli.table import Command

Values = dict[str, object]


def parse(command: Command, words: list[str]) -> Values | None:
    """The parameters of the command's function; None when typer has to look at it."""
    values: Values = {option.key: option.default if option.metavar else False for option in command.options}
    by_name = {name: option for option in command.options for name in option.names}
    positional: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        option = by_name.get(name)
        if option is None:
            if word.startswith("-"):
                return None
            positional.append(word)
        elif not option.metavar:
            if equals:
                return None
            values[option.key] = True
        else:
            if not equals:
                value = next(rest, "")
            if not value or value.startswith("-") or (equals and not name.startswith("--")):
                return None
            if option.number and not (value.isascii() and value.isdecimal()):
                return None
            values[option.key] = int(value) if option.number else value
    return values if _place(command, positional, values) else None


def _place(command: Command, positional: list[str], values: Values) -> bool:
    """Give positional words to the command's arguments; whether there are as many as it wants."""
    for argument in command.arguments:
        if argument.many:
            values[argument.name] = tuple(positional)
            return bool(positional)
        if positional:
            values[argument.name] = positional.pop(0)
        elif argument.optional:
            values[argument.name] = None
        else:
            return False
    return not positional
