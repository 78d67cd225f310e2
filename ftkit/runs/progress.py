"""Progress for people: a bar on a terminal, a plain line now and then everywhere else."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Progress", "progress"]

_logger = logging.getLogger("ftkit.progress")
_SECONDS_BETWEEN_LINES = 15.0  # a file or a pipe gets at most four lines a minute


class Progress:
    """Counts up to ``total`` and shows it; ``advance`` takes what should stand beside the count.

    Args:
        title: What is going on, e.g. ``"alice"``.
        total: How many steps there are.
        start: How many are done already, after a resume.
    """

    def __init__(self, title: str, total: int, start: int = 0) -> None:
        self.title, self.total, self.done = title, total, start
        self._started = self._last_line = time.monotonic()
        self._start = start

    def advance(self, note: str = "") -> None:
        """One more step is done."""
        self.done += 1
        now = time.monotonic()
        if now - self._last_line >= _SECONDS_BETWEEN_LINES or self.done == self.total:
            self._last_line = now
            left = (now - self._started) / max(self.done - self._start, 1) * (self.total - self.done)
            tail = f", {left:.0f} s left" if self.done < self.total else f", {now - self._started:.0f} s"
            _logger.info("%s %d/%d%s%s", self.title, self.done, self.total, f", {note}" if note else "", tail)


class _Bar(Progress):
    """The same as a live bar on a terminal."""

    def __init__(self, title: str, total: int, start: int = 0) -> None:
        super().__init__(title, total, start)
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.bar = RichProgress(
            TextColumn("{task.description:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}"),
        )
        self._task = self.bar.add_task(title, total=total, completed=start, note="")

    def advance(self, note: str = "") -> None:
        """One more step is done."""
        self.done += 1
        self.bar.update(self._task, completed=self.done)
        if note:
            self.bar.update(self._task, note=note)


@contextmanager
def progress(title: str, total: int, start: int = 0) -> Iterator[Progress]:
    """Show the progress of a loop.

    Args:
        title: What is going on.
        total: How many steps there are.
        start: How many are done already.

    Yields:
        An object whose ``advance(note)`` is called after each step. Nothing is shown where ftkit's log is silent.
    """
    if sys.stdout.isatty() and _logger.isEnabledFor(logging.INFO):
        bar = _Bar(title, total, start)
        with bar.bar:
            yield bar
    else:
        yield Progress(title, total, start)
