"""The result of a numerical experiment: a sentence made of its numbers, a small table, lines to draw, and times."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch

__all__ = ["Line", "Outcome", "Panel", "Table", "as_evidence", "listed", "median_seconds", "summary", "timing_device"]

_DIGITS = 7  # what a float32 holds


@dataclass(frozen=True)
class Line:
    """One line of a figure."""

    of: str
    """Its name; lines of one name have one colour."""
    x: Sequence[float | str]
    """Places; texts stand side by side in the order in which they come."""
    y: Sequence[float]
    drawn: Literal["line", "dashed", "points", "reference"] = "line"
    """``reference`` is a line that belongs to nobody, such as a target."""


@dataclass(frozen=True)
class Panel:
    """A figure before it is drawn."""

    name: str
    """Of the experiment's figures; the first has the experiment's own name where this is empty."""
    title: str
    caption: str
    measure: str
    """What the vertical axis shows, with its unit."""
    across: str
    """What the horizontal axis shows."""
    lines: Sequence[Line]
    log: Literal["", "x", "y", "xy"] = ""
    """Logarithmic axes."""


@dataclass(frozen=True)
class Table:
    """A small table; the first cell of a row is its name."""

    columns: Sequence[str]
    rows: Sequence[Sequence[float | str | None]]


class Outcome(Protocol):
    """What every experiment returns."""

    question: ClassVar[str]
    lesson: ClassVar[str]

    @property
    def agrees(self) -> bool:
        """Whether what was measured is what theory says, by a bound that stands in the experiment's own code."""

    def finding(self) -> str:
        """The answer in one line, made of the numbers."""

    def table(self) -> Table:
        """The numbers that a reader wants to look up."""

    def panels(self) -> list[Panel]:
        """What can be drawn."""


def as_evidence(outcome: Outcome) -> dict[str, Any]:
    """An outcome as ``evidence.json`` holds it, from which the report draws it."""
    return {
        "question": outcome.question,
        "lesson": outcome.lesson,
        "finding": outcome.finding(),
        "agrees": outcome.agrees,
        "table": _rounded(asdict(outcome.table())),
        "panels": [_rounded(asdict(panel)) for panel in outcome.panels()],
    }


def _rounded(value: Any) -> Any:
    """Numbers with as many digits as a reader or a figure can use."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def summary(found: dict[str, Any]) -> str:
    """All experiments of a run in one line: how many agree with theory, and which do not."""
    others = [name for name, evidence in found.items() if not evidence["agrees"]]
    agreeing = len(found) - len(others)
    told = f"{agreeing} of {len(found)} experiments agree with what theory says"
    return f"{told}; look at {listed(others)}." if others else f"{told}."


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def timing_device(use_cpu: bool = False) -> torch.device:
    """Where times are taken: the accelerator, where there is one and it is wanted, else the CPU."""
    found = None if use_cpu else torch.accelerator.current_accelerator(check_available=True)
    return found or torch.device("cpu")


def median_seconds(arms: Mapping[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, float]:
    """The median time of a call of each arm.

    The arms take turns, each round beginning with another one, so that what else the machine does meets all of them.

    Args:
        arms: What is timed, by name.
        repeats: Rounds that count; one before them does not.
        device: Where the arms compute; it has finished before every start and before every stop.
    """
    times: dict[str, list[float]] = {name: [] for name in arms}
    names = list(arms)
    for turn in range(repeats + 1):
        place = turn % len(names)
        for name in names[place:] + names[:place]:
            _finish(device)
            start = time.perf_counter()
            arms[name]()
            _finish(device)
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def _finish(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
