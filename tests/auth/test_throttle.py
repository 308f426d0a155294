"""Who counts as the same, and what is told to one who tries too often."""

import pytest

from chisel_auth import throttle

SAME = [
    ("192.0.2.1", "192.0.2.1"),
    ("192.0.2.1", "::ffff:192.0.2.1"),
    ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
]
OTHERS = [
    ("192.0.2.1", "192.0.2.2"),
    ("2001:db8:1:2::1", "2001:db8:1:3::1"),
    ("", "192.0.2.1"),
    ("no address", "another"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_neighbours(one: str, other: str) -> None:
    assert throttle.login(one) == throttle.login(other)


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_strangers(one: str, other: str) -> None:
    assert throttle.login(one) != throttle.login(other)


def test_a_sign_in_counts_for_the_pair_the_address_and_the_account() -> None:
    pair, address, account = throttle.sign_in("Ada ", "192.0.2.1")
    assert throttle.sign_in("ada", "192.0.2.1") == (pair, address, account)
    assert throttle.sign_in("bob", "192.0.2.1")[1] == address
    assert throttle.sign_in("ada", "192.0.2.9")[2] == account
    assert len({pair.subject, address.subject, account.subject}) == 3
    assert throttle.sign_in("bob", "192.0.2.1")[0] != pair
    assert b"ada" not in pair.subject


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "in 1 s"), (59.6, "in 60 s"), (119, "in 119 s"), (300, "in 5 minutes")]
)
def test_how_long_to_wait(seconds: float, told: str) -> None:
    assert str(throttle.refuse(seconds)).endswith(told)
