"""`chisel admin quota`: how many GPUs users and projects may have, and what they weigh in fair share."""

import json as text
from typing import Any
from urllib.parse import quote

from chisel.cli import wording
from chisel.cli.backend import api
from chisel.cli.render import Screen
from chisel.cli.values import UsageError


def ls(json: bool) -> int:
    screen = Screen()
    with api(screen) as backend:
        quotas = text.loads(backend.get_bytes("/api/v1/quotas"))["quotas"]
    if json:
        screen.result(text.dumps(quotas, indent=2))
    elif quotas:
        screen.result(table(quotas))
    else:
        screen.say("no quota is set, and nobody has had a GPU yet")
    return 0


def set_(name: str, project: bool, gpus: str | None, weight: str | None, json: bool) -> int:
    wish: dict[str, Any] = {}
    if gpus is not None:
        wish["gpus"] = _gpus(gpus)
    if weight is not None:
        wish["weight"] = _weight(weight)
    if not wish:
        raise UsageError("nothing to set: give --gpus, --weight or both")
    screen = Screen()
    with api(screen) as backend:
        made = text.loads(backend.put_bytes(_path(name, project), text.dumps(wish).encode()))
    if json:
        screen.result(text.dumps(made, indent=2))
    else:
        screen.say(sentence(made))
    return 0


def rm(name: str, project: bool, json: bool) -> int:
    screen = Screen()
    with api(screen) as backend:
        backend.delete_bytes(_path(name, project))
    screen.say(f"{_called(name, project)} may have any number of GPUs and weighs 1")
    if json:
        screen.json([name])
    return 0


def table(quotas: list[dict[str, Any]]) -> str:
    """Users and projects, a line each."""
    rows = [("NAME", "KIND", "QUOTA", "IN USE", "WEIGHT", "GPU HOURS")]
    for one in quotas:
        limit = "-" if one["gpus"] is None else str(one["gpus"])
        hours = f"{one['gpu_hours']:.1f}"
        rows.append((one["name"], one["kind"], limit, str(one["gpus_held"]), f"{one['weight']:g}", hours))
    return wording.table(rows)


def sentence(made: dict[str, Any]) -> str:
    """What holds now."""
    who = _called(made["name"], made["kind"] == "project")
    gpus, held = made["gpus"], made["gpus_held"]
    limit = "any number of GPUs" if gpus is None else f"{gpus} GPU{'' if gpus == 1 else 's'} at once"
    said = f"{who} may have {limit} and weighs {made['weight']:g}"
    if gpus is not None and held > gpus:
        return f"{said}; {held} are in use, and what runs goes on"
    return said


def _called(name: str, project: bool) -> str:
    return f"project {name}" if project else name


def _path(name: str, project: bool) -> str:
    return f"/api/v1/quotas/{'projects' if project else 'users'}/{quote(name, safe='')}"


def _gpus(value: str) -> int | None:
    if value.lower() == "none":
        return None
    if not value.isascii() or not value.isdecimal():
        raise UsageError(f"--gpus wants a whole number or none, not {value!r}")
    return int(value)


def _weight(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"--weight wants a number, not {value!r}") from None
