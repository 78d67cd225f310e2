"""Arms that take turns, their times, and the numbers that are made of them."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

DEVICE = Accelerator().device

Arm = Callable[[], object]
Times = dict[str, dict[str, list[float]]]
"""By arm: wall ``seconds``, and ``cpu_seconds`` of all threads, one for each counted round."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    repeats: int | None = None
    quick: bool = False
    sentences: Path | None = None
    encoder: str | None = None
    compiled: bool = False
    causal: str | None = None

    def rounds(self, usual: int, quick: int = 1) -> int:
        """How often each arm is measured."""
        return self.repeats or (quick if self.quick else usual)


@dataclass
class Section:
    """One comparison: what took part, and what came out."""

    name: str
    times: Times
    results: list[dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As it stands in the JSON."""
        arms = {
            arm: {"least": min(times["seconds"]), "median": statistics.median(times["seconds"]), **times}
            for arm, times in self.times.items()
        }
        return {"name": self.name, "arms": arms, "results": self.results, "facts": self.facts}


class Clock:
    """Wall and processor time since it was made, or since ``restart``; it waits for the accelerator's work."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start again."""
        _synchronize()
        self._wall, self._busy = time.perf_counter(), time.process_time()

    def note(self, times: Times, arm: str) -> None:
        """Add the time since the start to an arm's."""
        _synchronize()
        found = times.setdefault(arm, {"seconds": [], "cpu_seconds": []})
        found["seconds"].append(time.perf_counter() - self._wall)
        found["cpu_seconds"].append(time.process_time() - self._busy)


def _synchronize() -> None:
    if DEVICE.type != "cpu":
        torch.accelerator.synchronize()


def one_round(times: Times, arms: dict[str, Arm], number: int) -> None:
    """Run every arm once, beginning with another one each time."""
    first = number % max(len(arms), 1)
    names = [*arms][first:] + [*arms][:first]
    for name in names:
        clock = Clock()
        arms[name]()
        clock.note(times, name)


def in_turns(arms: dict[str, Arm], rounds: int) -> Times:
    """Run all arms ``rounds`` times after a round that does not count."""
    times: Times = {}
    one_round({}, arms, 0)
    for number in range(rounds):
        one_round(times, arms, number)
    return times


def made_of(
    times: Times,
    measure: str,
    formula: Callable[[dict[str, float]], float],
    target: float | None = None,
    unit: str = "x",
    at_most: bool = False,
) -> dict[str, Any]:
    """A number from the times of arms: of the least of each, of the medians, and of the least processor times."""
    found = {
        "least": formula({arm: min(found["seconds"]) for arm, found in times.items()}),
        "median": formula({arm: statistics.median(found["seconds"]) for arm, found in times.items()}),
        "processor": formula({arm: min(found["cpu_seconds"]) for arm, found in times.items()}),
    }
    return {"measure": measure, **found, "unit": unit, "target": target, "at_most": at_most}


def times_as_fast(times: Times, arm: str, beside: str, target: float | None = None) -> dict[str, Any]:
    """How many rounds an arm makes while another makes one."""
    return made_of(times, f"{arm} : {beside}", lambda seconds: seconds[beside] / seconds[arm], target)
