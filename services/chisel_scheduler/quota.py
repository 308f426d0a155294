"""How many GPUs a user or a project may hold at once. Pure.

A job over a quota waits and is in nobody's way: it is left out before anybody chooses or reserves.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """`gpus` of `name`, a user or, if `of_project`, a project; `held` of them are in use."""

    name: str
    of_project: bool
    gpus: int
    held: int = 0


def exhausted(gpu_count: int, quotas: Iterable[Quota]) -> Quota | None:
    """The first of `quotas` that a job of `gpu_count` more GPUs would exceed; None when it may start."""
    return next((quota for quota in quotas if quota.held + gpu_count > quota.gpus), None)


def too_small(gpu_count: int, quotas: Iterable[Quota]) -> Quota | None:
    """The first of `quotas` that a job of `gpu_count` GPUs exceeds even when nothing else runs."""
    return next((quota for quota in quotas if gpu_count > quota.gpus), None)
