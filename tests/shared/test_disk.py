"""What counts as too little room."""

from pathlib import Path

import pytest

from chisel_shared.runtime.disk import Room, room


@pytest.mark.parametrize(
    ("free", "total", "reserve", "short"),
    [
        (99, 10_000, 100, True),
        (100, 10_000, 100, False),
        (4, 100, 100, True),
        (5, 100, 100, False),
        (0, 100, 0, False),
        (0, 0, 100, False),
    ],
)
def test_a_reserve_is_a_number_of_bytes_and_at_most_a_twentieth(
    free: int, total: int, reserve: int, *, short: bool
) -> None:
    assert Room(free_bytes=free, total_bytes=total).is_short_of(reserve) is short


def test_a_folder_has_some(tmp_path: Path) -> None:
    found = room(tmp_path)
    assert 0 < found.free_bytes <= found.total_bytes
