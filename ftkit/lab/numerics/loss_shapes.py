"""The absolute and the squared error as losses of one weight (lesson 06/09)."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from ftkit.lab.numerics.optimizer_race import Run, race, squared
from ftkit.lab.numerics.outcomes import Line, Panel, Table

__all__ = ["LossShapes", "measure_loss_shapes"]

_LAST = 10
"""Steps at the end over which a weight may swing."""


@dataclass(frozen=True)
class LossShapes:
    """SGD on both losses."""

    question: ClassVar[str] = "Why does the absolute error oscillate where the squared error settles?"
    lesson: ClassVar[str] = "06/09"

    start: float
    target: float
    learning_rate: float
    runs: dict[str, Run]

    def swing(self, name: str) -> float:
        """Largest minus least weight of the last steps."""
        last = self.runs[name].weights[-_LAST:]
        return max(last) - min(last)

    def turns(self, name: str) -> int:
        """How often the weight turned round in all."""
        weights = self.runs[name].weights
        moves = [b - a for a, b in pairwise(weights)]
        return sum(a * b < 0 for a, b in pairwise(moves))

    @property
    def expected(self) -> float:
        """Distance that the squared error leaves, by the closed formula."""
        steps = len(self.runs["L2"].weights) - 1
        return abs(self.start - self.target) * abs(1 - 2 * self.learning_rate) ** steps

    @property
    def agrees(self) -> bool:
        """The slope of the absolute error is 1 however near it is, so it swings by the rate or stands still."""
        swung = min(abs(self.swing("L1") - self.learning_rate), abs(self.swing("L1")))
        return swung < 1e-9 and abs(self.runs["L2"].off(self.target) - self.expected) < 1e-9

    def finding(self) -> str:
        """Turns, swing and distance of both."""
        parts = [
            f"{name} turns round {self.turns(name)} times, moves by {self.swing(name):.2g} over the last {_LAST} steps "
            f"and ends {run.off(self.target):.2g} from the target"
            for name, run in self.runs.items()
        ]
        return f"{'; '.join(parts)} (rate {self.learning_rate:g}; L2 by the formula {self.expected:.2g})."

    def table(self) -> Table:
        """A row for each loss."""
        columns = ("loss", "weight at the end", "turns", f"swing of the last {_LAST} steps", "loss at the end")
        rows = [
            (name, run.weights[-1], self.turns(name), self.swing(name), run.losses[-1])
            for name, run in self.runs.items()
        ]
        return Table(columns, rows)

    def panels(self) -> list[Panel]:
        """Weight by step."""
        steps = list(range(len(self.runs["L2"].weights)))
        lines = [Line(name, steps, run.weights) for name, run in self.runs.items()]
        lines.append(Line("target", [0, steps[-1]], [self.target] * 2, "reference"))
        return [Panel("", "The weight under both losses", "Dashed: the target.", "weight", "step", lines)]


def measure_loss_shapes(
    start: float = 2.0, target: float = 3.0, learning_rate: float = 0.05, steps: int = 50
) -> LossShapes:
    """Let SGD minimise both losses.

    Args:
        start: The weight before the first step.
        target: Where both losses are 0.
        learning_rate: The rate.
        steps: Updates.
    """
    runs = {
        "L1": race("SGD", lambda weight: (weight - target).abs(), start, learning_rate, steps),
        "L2": race("SGD", lambda weight: squared(weight, target), start, learning_rate, steps),
    }
    return LossShapes(start, target, learning_rate, runs)
