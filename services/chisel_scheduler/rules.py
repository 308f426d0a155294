"""The numbers that policy goes by, as settings give them."""

from dataclasses import dataclass

HALF_LIFE_SECONDS = 86_400.0
RESERVE_AFTER_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRules:
    """See the settings of the same names."""

    half_life_seconds: float = HALF_LIFE_SECONDS
    reserve_after_seconds: float = RESERVE_AFTER_SECONDS


DEFAULT_RULES = PolicyRules()
