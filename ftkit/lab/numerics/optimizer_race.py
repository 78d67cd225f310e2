"""SGD, Adam and AdamW on one weight, and what becomes of a forgotten zero_grad (lesson 06/04)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ftkit.lab.numerics.outcomes import Line, Panel, Table, listed

__all__ = ["OptimizerRace", "Run", "measure_optimizer_race", "race"]


@dataclass(frozen=True)
class Run:
    """One optimizer's way."""

    weights: tuple[float, ...]
    """From the start on."""
    losses: tuple[float, ...]

    def off(self, target: float) -> float:
        """Distance from the target at the end."""
        return abs(self.weights[-1] - target)


def squared(weight: Tensor, target: float) -> Tensor:
    """(w - target)^2."""
    return (weight - target) ** 2


def race(
    optimizer: str,
    objective: Callable[[Tensor], Tensor],
    start: float = 2.0,
    learning_rate: float = 0.05,
    steps: int = 50,
    weight_decay: float = 0.0,
    reset: bool = True,
) -> Run:
    """Follow one weight in float64.

    Args:
        optimizer: ``SGD``, ``Adam`` or ``AdamW`` of torch.optim.
        objective: The loss of a weight.
        start: The weight before the first step.
        learning_rate: The rate.
        steps: Updates.
        weight_decay: Of AdamW; the others here have none.
        reset: Whether gradients are set to zero before each backward pass; otherwise they add up.
    """
    weight = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    kind = getattr(torch.optim, optimizer)
    chosen = kind([weight], lr=learning_rate, weight_decay=weight_decay)
    weights, losses = [start], [float(objective(weight.detach()))]
    for _ in range(steps):
        if reset:
            chosen.zero_grad()
        torch.autograd.backward(objective(weight))
        chosen.step()
        weights.append(float(weight.detach()))
        losses.append(float(objective(weight.detach())))
    return Run(tuple(weights), tuple(losses))


@dataclass(frozen=True)
class OptimizerRace:
    """All optimizers, with and without a reset of the gradients."""

    question: ClassVar[str] = "Which optimizer brings one weight to its target, and what if gradients are not reset?"
    lesson: ClassVar[str] = "06/03, 06/04"

    start: float
    target: float
    learning_rate: float
    runs: dict[str, Run]
    unreset: dict[str, Run]
    """The same without zero_grad."""
    same: bool
    """Whether AdamW without decay went Adam's way, bit for bit."""

    @property
    def expected(self) -> float:
        """Distance of SGD from the target by the closed formula."""
        steps = len(self.runs["SGD"].weights) - 1
        return abs(self.start - self.target) * abs(1 - 2 * self.learning_rate) ** steps

    @property
    def agrees(self) -> bool:
        """SGD ends where the formula says; AdamW without decay is Adam."""
        return abs(self.runs["SGD"].off(self.target) - self.expected) < 1e-9 and self.same

    def finding(self) -> str:
        """Distances with and without reset."""
        steps = len(self.runs["SGD"].weights) - 1
        with_reset, without = (
            ", ".join(f"{name} {run.off(self.target):.3g}" for name, run in runs.items())
            for runs in (self.runs, self.unreset)
        )
        best = min(self.runs, key=lambda name: self.runs[name].off(self.target))
        overshot = [name for name, run in self.unreset.items() if max(run.weights) > self.target]
        return (
            f"After {steps} steps at rate {self.learning_rate:g} {best} is nearest; distance from the target: "
            f"{with_reset} (SGD by the formula {self.expected:.3g}); AdamW with weight_decay 0 is "
            f"{'Adam bit for bit' if self.same else 'NOT Adam'}; without zero_grad: {without}"
            f"{f' (gone past it: {listed(overshot)})' if overshot else ''}."
        )

    def table(self) -> Table:
        """A row for each optimizer."""
        columns = ("optimizer", "weight at the end", "loss at the end", "without zero_grad: weight", "loss",
                   "largest weight")  # fmt: skip
        rows = [
            (name, run.weights[-1], run.losses[-1], other.weights[-1], other.losses[-1], max(other.weights))
            for name, run, other in ((name, run, self.unreset[name]) for name, run in self.runs.items())
        ]
        return Table(columns, rows)

    def panels(self) -> list[Panel]:
        """Weight and loss by step, and the weight without reset."""
        steps = list(range(len(self.runs["SGD"].weights)))
        goal = Line("target", [0, steps[-1]], [self.target] * 2, "reference")

        def ways(runs: dict[str, Run]) -> list[Line]:
            return [*(Line(name, steps, run.weights) for name, run in runs.items()), goal]

        losses = [Line(name, steps, run.losses) for name, run in self.runs.items()]
        return [
            Panel("", "The weight", "Dashed: the target.", "weight", "step", ways(self.runs)),
            Panel("loss", "The loss", "Of the same runs.", "squared distance", "step", losses, "y"),
            Panel("unreset", "The weight without zero_grad", "Every step uses the sum of all gradients so far. Dashed: "
                  "the target.", "weight", "step", ways(self.unreset)),
        ]  # fmt: skip


def measure_optimizer_race(
    start: float = 2.0, target: float = 5.0, learning_rate: float = 0.05, steps: int = 50, weight_decay: float = 0.01
) -> OptimizerRace:
    """Let all optimizers minimise the squared distance of one weight.

    Args:
        start: The weight before the first step.
        target: Where the loss is 0.
        learning_rate: The rate of all.
        steps: Updates.
        weight_decay: Of AdamW.
    """

    def run(name: str, decay: float = 0.0, reset: bool = True) -> Run:
        return race(name, lambda weight: squared(weight, target), start, learning_rate, steps, decay, reset)

    kinds: Sequence[tuple[str, float]] = (("SGD", 0.0), ("Adam", 0.0), ("AdamW", weight_decay))
    runs, unreset = ({name: run(name, decay, reset) for name, decay in kinds} for reset in (True, False))
    return OptimizerRace(start, target, learning_rate, runs, unreset, run("AdamW") == runs["Adam"])
