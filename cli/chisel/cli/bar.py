"""A progress bar on stderr. Only for what takes long: loading rich costs more than most commands take."""

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn


class _Terminal(Console):
    """The cursor stays: whatever ends the process, nobody is left without one."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class Bar:
    """Begun with the first `update`, gone without a trace at its `end`."""

    def __init__(self, title: str) -> None:
        self._progress = Progress(
            title, BarColumn(), DownloadColumn(), TimeRemainingColumn(),
            console=_Terminal(stderr=True), transient=True,
        )  # fmt: skip

    def update(self, done: int, total: int) -> None:
        if not self._progress.tasks:
            self._progress.add_task("", completed=done, total=total)
            self._progress.start()  # no sooner: its first picture would be of nothing
        self._progress.update(self._progress.task_ids[0], completed=done, total=total)

    def end(self) -> None:
        self._progress.stop()
