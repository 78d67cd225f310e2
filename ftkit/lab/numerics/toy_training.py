"""Optimizers, loss shapes, gradient clipping and learning-rate schedules on one weight or a small model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ftkit.config import TrainingSettings
from ftkit.lab.numerics.outcomes import Line, Panel, Table, listed
from ftkit.tuning import ClipReport, clip_report, learning_rate_factor

__all__ = [
    "SHAPES",
    "GradientClipping",
    "LossShapes",
    "OptimizerRace",
    "Run",
    "Schedules",
    "measure_gradient_clipping",
    "measure_loss_shapes",
    "measure_optimizer_race",
    "measure_schedules",
    "race",
]


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


@dataclass(frozen=True)
class Clipped:
    """A gradient under one limit."""

    max_norm: float
    after: tuple[float, ...]
    """As torch left it."""
    r: float
    """Correlation of its values before and after."""
    report: ClipReport
    """What ``clip_report`` said beforehand."""

    @property
    def norm(self) -> float:
        """Norm that torch left."""
        return float(torch.tensor(self.after, dtype=torch.float64).norm())


@dataclass(frozen=True)
class GradientClipping:
    """One gradient under several limits."""

    question: ClassVar[str] = "What does clipping to a norm change in a gradient?"
    lesson: ClassVar[str] = "07/017"

    before: tuple[float, ...]
    clipped: tuple[Clipped, ...]

    @property
    def agrees(self) -> bool:
        """Correlation and cosine 1, torch's norm as it was predicted."""
        return all(
            abs(c.r - 1) < 1e-9 and abs(c.report.cosine - 1) < 1e-9 and abs(c.norm - c.report.clipped_norm) < 1e-5
            for c in self.clipped
        )

    def finding(self) -> str:
        """Norms, factors and the least correlation."""
        norm = self.clipped[0].report.norm
        parts = ", ".join(
            f"{c.norm:.3g} (times {c.report.factor:.3g}) under the limit {c.max_norm:g}" for c in self.clipped
        )
        least = min(c.r for c in self.clipped)
        return (
            f"A gradient of norm {norm:.3g} becomes {parts}; the correlation with what it was is at least {least:.6f}."
        )

    def table(self) -> Table:
        """A row for each limit."""
        columns = ("limit", "norm before", "norm after", "factor", "norm lost", "r before and after")
        rows = [
            (f"{c.max_norm:g}", c.report.norm, c.norm, c.report.factor, c.report.lost_norm, c.r) for c in self.clipped
        ]
        return Table(columns, rows)

    def panels(self) -> list[Panel]:
        """Values before and after."""
        lines = [Line(f"limit {c.max_norm:g}", self.before, c.after, "points") for c in self.clipped]
        return [
            Panel("", "Values of the gradient", "Each limit has a line through 0: one factor for all values.",
                  "after clipping", "before clipping", lines)
        ]  # fmt: skip


def measure_gradient_clipping(
    values: int = 9, max_norms: Sequence[float] = (0.5, 1.0, 2.0, 100.0), seed: int = 42
) -> GradientClipping:
    """Clip the gradient of a sum of squares.

    Args:
        values: Weights.
        max_norms: Limits.
        seed: Draws the weights.
    """
    weights = torch.randn(values, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    clipped = []
    for max_norm in max_norms:
        model = nn.ParameterDict({"weights": nn.Parameter(weights.clone())})
        torch.autograd.backward(model["weights"].square().sum())
        gradient = model["weights"].grad
        assert gradient is not None
        before, report = gradient.clone(), clip_report(model, max_norm)
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        r = float(torch.corrcoef(torch.stack([before, gradient]))[0, 1])
        clipped.append(Clipped(max_norm, tuple(gradient.tolist()), r, report))
    return GradientClipping(tuple(before.tolist()), tuple(clipped))


SHAPES: dict[str, dict[str, Any]] = {
    "constant": {"lr_scheduler_type": "constant"},
    "linear": {"lr_scheduler_type": "linear"},
    "cosine": {"lr_scheduler_type": "cosine"},
    "cosine of two waves": {"lr_scheduler_type": "cosine", "lr_cycles": 2.0},
    "linear over 85 %": {"lr_scheduler_type": "linear", "schedule_steps": 0.85},
    "linear over 150 %": {"lr_scheduler_type": "linear", "schedule_steps": 1.5},
}
"""Settings of each shape; ``schedule_steps`` as a share of the run."""
_NEAR_PEAK = 0.99  # a rate within 1 % of its peak counts as the peak


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
