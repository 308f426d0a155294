"""The slopes of a soak: a line through what comes after the warm-up."""

import pytest

from tests.chaos.soak import Held, slopes, text_of


def test_a_slope_is_told_by_what_comes_after_the_warm_up() -> None:
    samples = [Held("auth", at=0.0, pss_bytes=500_000_000, descriptors=99)] + [
        Held("auth", at=360.0 * n, pss_bytes=10_000_000 + 100_000 * n, descriptors=12) for n in range(1, 10)
    ]
    memory, descriptors = slopes(samples)
    assert memory.hourly == pytest.approx(1.0)
    assert (descriptors.hourly, descriptors.last) == (0.0, 12.0)
    assert "| auth | PSS, MB | +1.00 | 10.9 |" in text_of([memory])


def test_only_agents_have_control_groups() -> None:
    samples = [
        Held(name, at=at, pss_bytes=1, descriptors=1, cgroups=int(at / 3600))
        for name in ("agent:a", "nats")
        for at in (0.0, 3600.0)
    ]
    assert [(one.name, one.hourly) for one in slopes(samples) if one.what == "cgroups"] == [("agent:a", 1.0)]
