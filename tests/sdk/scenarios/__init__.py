"""Scripts that use `capture_trace`, by name; `scenario.py` says what each is expected to do."""

from tests.sdk.scenarios import company, ends, faults, functions
from tests.sdk.scenarios.scenario import Scenario as Scenario

SCENARIOS = functions.SCENARIOS | ends.SCENARIOS | company.SCENARIOS | faults.SCENARIOS
