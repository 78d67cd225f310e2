"""Clipping a gradient by its norm: another length, the same direction (lesson 07/017)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from ftkit.lab.numerics.outcomes import Line, Panel, Table
from ftkit.tuning import ClipReport, clip_report

__all__ = ["GradientClipping", "measure_gradient_clipping"]


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
