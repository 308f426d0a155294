"""What the table of commands is made of."""

from typing import NamedTuple


class Argument(NamedTuple):
    """A positional value; `many` takes all that follow, at least one unless `optional`."""

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


AS_JSON = Option(("--json",), "Print JSON.")
