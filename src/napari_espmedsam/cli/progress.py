"""A progress bar on the terminal's error stream; silent where that is a file or a pipe."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class TileProgress:
    """Show how much of one image is done.

    Parameters
    ----------
    name : str
        Shown before the bar.
    """

    def __init__(self, name: str) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(name, total=1.0)

    def __enter__(self) -> TileProgress:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def __call__(self, fraction: float) -> None:
        """Set the share that is done, 0 to 1."""
        self._progress.update(self._task, completed=fraction)
