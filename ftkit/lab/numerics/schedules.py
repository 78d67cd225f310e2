"""Learning-rate schedules as ftkit's trainings use them, before anything is trained (lessons 07/017 and 07/018)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ftkit.config import TrainingSettings
from ftkit.lab.numerics.outcomes import Line, Panel, Table
from ftkit.tuning import learning_rate_factor

__all__ = ["SHAPES", "Schedules", "measure_schedules"]

SHAPES: dict[str, dict[str, Any]] = {
    "constant": {"lr_scheduler_type": "constant"},
    "linear": {"lr_scheduler_type": "linear"},
    "cosine": {"lr_scheduler_type": "cosine"},
    "cosine of two waves": {"lr_scheduler_type": "cosine", "lr_cycles": 2.0},
    "linear over 85 %": {"lr_scheduler_type": "linear", "schedule_steps": 0.85},
    "linear over 150 %": {"lr_scheduler_type": "linear", "schedule_steps": 1.5},
}
"""Settings of each shape; ``schedule_steps`` as a share of the run."""
_NEAR_PEAK = 0.99


@dataclass(frozen=True)
class Schedules:
    """Factors on the peak rate, update by update."""

    question: ClassVar[str] = "What learning rate does each schedule give, and which updates learn nothing?"
    lesson: ClassVar[str] = "07/017, 07/018"

    warmup: int
    factors: dict[str, tuple[float, ...]]
    """From the first update on."""

    def idle(self, name: str) -> int:
        """Updates with the rate 0."""
        return sum(factor == 0 for factor in self.factors[name])

    def peaks(self, name: str) -> int:
        """How often the rate comes to its peak."""
        high = [factor > _NEAR_PEAK for factor in self.factors[name]]
        return sum(now and not before for before, now in zip([False, *high], high, strict=False))

    @property
    def agrees(self) -> bool:
        """All rise to 1 at the end of the warm-up and never above it."""
        return all(f[self.warmup - 1] == 1 and max(f) == 1 and min(f) >= 0 for f in self.factors.values())

    def finding(self) -> str:
        """The peak, the rate of the last update, idle updates."""
        updates = len(next(iter(self.factors.values())))
        last = ", ".join(f"{name} {factors[-1]:.3g}" for name, factors in self.factors.items())
        idle = ", ".join(f"{self.idle(name)} under {name}" for name in self.factors if self.idle(name))
        waves = ", ".join(f"{name} {self.peaks(name)} times" for name in self.factors if self.peaks(name) > 1)
        return (
            f"The warm-up ends at update {self.warmup} of {updates}; share of the peak at the last: {last}; updates "
            f"that learn nothing: {idle or 'none'}{f'; at the peak: {waves}' if waves else ''}."
        )

    def table(self) -> Table:
        """A row for each schedule."""
        columns = ("schedule", "first update", "mean", "last update", "updates at rate 0", "times at the peak")
        rows = [
            (name, f[0], sum(f) / len(f), f[-1], self.idle(name), self.peaks(name)) for name, f in self.factors.items()
        ]
        return Table(columns, rows)

    def panels(self) -> list[Panel]:
        """Rate by update."""
        lines = [Line(name, list(range(1, len(f) + 1)), f) for name, f in self.factors.items()]
        caption = "As a share of the peak rate."
        return [Panel("", "Learning rate", caption, "share of the peak", "update", lines)]


def measure_schedules(
    updates: int = 200, warmup: float = 0.1, shapes: Mapping[str, Mapping[str, Any]] = SHAPES
) -> Schedules:
    """Ask ftkit's own schedule for every update.

    Args:
        updates: Of the run.
        warmup: Share of them.
        shapes: Settings of each schedule by its name.
    """
    factors = {}
    for name, given in shapes.items():
        chosen = {**given, "schedule_steps": round(given.get("schedule_steps", 0) * updates)}
        settings = TrainingSettings(max_steps=updates, warmup_steps=warmup, **chosen)
        factors[name] = tuple(learning_rate_factor(step, settings) for step in range(1, updates + 1))
    return Schedules(round(warmup * updates), factors)
