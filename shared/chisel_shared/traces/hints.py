"""What the numbers mean: findings, each with its evidence and what to try, by what they cost at most.

A rule is a function from the facts to a finding or None. It names no cost that the trace does not show. What
each code means is in docs/reference/traces.md.
"""

from collections.abc import Callable

from chisel_shared.traces import idle_hints, kernel_hints
from chisel_shared.traces.facts import Facts
from chisel_shared.traces.report import Finding

Rule = Callable[[Facts], Finding | None]

RULES: dict[str, Rule] = {
    "slow-line": idle_hints.slow_line,
    "no-gpu": idle_hints.no_gpu,
    "host-bound": idle_hints.host_bound,
    "sync": idle_hints.sync,
    "data-loading": idle_hints.data_loading,
    "allocation": idle_hints.allocation,
    "small-kernels": idle_hints.small_kernels,
    "slow-optimizer": idle_hints.slow_optimizer,
    "exposed-comm": kernel_hints.exposed_comm,
    "exposed-copy": kernel_hints.exposed_copy,
    "pageable-copy": kernel_hints.pageable_copy,
    "dominant-kernel": kernel_hints.dominant_kernel,
    "unfused-attention": kernel_hints.unfused_attention,
    "unaligned-matmul": kernel_hints.unaligned_matmul,
    "fp32-matmul": kernel_hints.fp32_matmul,
    "throttled": kernel_hints.throttled,
}
"""By the code of the finding that each gives."""


def findings(facts: Facts) -> tuple[Finding, ...]:
    """The most costly first; of equals the one whose rule comes first."""
    found = [finding for rule in RULES.values() if (finding := rule(facts)) is not None]
    return tuple(sorted(found, key=lambda finding: -finding.us))
