"""What the scheduler does about a bus that cannot store."""

from pathlib import Path

from chisel_scheduler.bus_watch import ALARM, BusWatch

FULL = {"OUT": "no space left on device"}


class Streams:
    def __init__(self) -> None:
        self.state: dict[str, str] = {}
        self.ensured = 0

    async def ensure(self, *, max_bytes: int) -> None:
        self.ensured += 1

    async def failed(self) -> dict[str, str]:
        return self.state


async def test_the_alarm_is_raised_in_every_round_until_all_is_well(tmp_path: Path) -> None:
    streams, alarm = Streams(), tmp_path / "alarm"
    watch = BusWatch(streams=streams, max_bytes=1, alarm=alarm)
    await watch.run_once()
    assert not alarm.exists()
    streams.state = FULL
    await watch.run_once()
    await watch.run_once()
    assert alarm.read_bytes() == 2 * ALARM
    streams.state = {}
    await watch.run_once()
    assert alarm.read_bytes() == 2 * ALARM
    assert streams.ensured == 4


async def test_an_alarm_that_cannot_be_raised_ends_nothing(tmp_path: Path) -> None:
    streams = Streams()
    streams.state = FULL
    await BusWatch(streams=streams, max_bytes=1, alarm=tmp_path / "no" / "alarm").run_once()
    await BusWatch(streams=streams, max_bytes=1, alarm=None).run_once()
    assert streams.ensured == 2
