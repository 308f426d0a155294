"""How much of the pool somebody has had lately, as one number to compare people by. Pure.

The number is in GPUs: those held now, and the mean of those held in the past, in which the recent past
counts most. Divided by the weight, twice the weight is twice the GPUs at the same place in the queue.
"""

import math
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """`gpu_seconds` of attempts that have ended, decayed up to `counted_at`."""

    gpus_held: int = 0
    gpu_seconds: float = 0.0
    counted_at: datetime | None = None


NOTHING = Usage()


def decayed(gpu_seconds: float, seconds: float, *, half_life_seconds: float) -> float:
    """What `gpu_seconds` count for after `seconds` more. A clock that went back changes nothing."""
    return gpu_seconds * math.pow(0.5, max(0.0, seconds) / half_life_seconds)


def accrued(gpus: int, seconds: float, *, half_life_seconds: float) -> float:
    """What `gpus` held for `seconds` until now count for: their first second has decayed already."""
    lasting = half_life_seconds / math.log(2)
    return gpus * lasting * (1.0 - math.pow(0.5, max(0.0, seconds) / half_life_seconds))


def level(usage: Usage, now: datetime, *, half_life_seconds: float, weight: float = 1.0) -> float:
    """Where in the queue this usage puts its user at `now`: lower goes first."""
    past = 0.0
    if usage.counted_at is not None:
        elapsed = (now - usage.counted_at).total_seconds()
        past = decayed(usage.gpu_seconds, elapsed, half_life_seconds=half_life_seconds)
    mean = past * math.log(2) / half_life_seconds
    return (usage.gpus_held + mean) / weight
