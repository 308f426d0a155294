"""Who says and who takes each message, read off the services' source."""

import ast
from dataclasses import dataclass

from chisel_shared.contract.messages import MESSAGES
from tests.support.source import SERVICES, last_name, python_files, tree

_TAKES = {"serve", "subscribe"}


@dataclass(frozen=True, slots=True)
class Routes:
    """The services that make a message, and those that serve or subscribe to it."""

    said_by: tuple[str, ...]
    taken_by: tuple[str, ...]


def routes() -> dict[str, Routes]:
    """Every message class by name. A service says what it makes; it takes what it serves or
    subscribes to, by a call or by a table of (message, handler)."""
    names = {kind.__name__ for kind in MESSAGES.values()}
    said: dict[str, set[str]] = {name: set() for name in names}
    taken: dict[str, set[str]] = {name: set() for name in names}
    for service in SERVICES:
        for path in python_files(f"services/chisel_{service}"):
            for node in ast.walk(tree(path)):
                for name in _said_by(node) & names:
                    said[name].add(service)
                if (name := _taken_by(node)) in names:
                    taken[name].add(service)
    return {
        name: Routes(tuple(sorted(said[name] - taken[name])), tuple(sorted(taken[name])))
        for name in sorted(names)
    }


def _said_by(node: ast.AST) -> set[str]:
    """The classes that a call makes, or has made: one may be decoded from what a user sent."""
    if not isinstance(node, ast.Call) or last_name(node.func) in _TAKES:
        return set()
    return {last_name(node.func), *(last_name(argument) for argument in node.args)}


def _taken_by(node: ast.AST) -> str:
    """The class that a subscription, or a row of a table of handlers, is for."""
    if isinstance(node, ast.Call) and last_name(node.func) in _TAKES and node.args:
        return last_name(node.args[0])
    if isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[1], ast.Attribute):
        return last_name(node.elts[0])
    return ""
