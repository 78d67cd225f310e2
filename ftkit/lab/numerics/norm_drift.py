"""What repeated multiplication does to a norm, which is why networks are normalised (lesson 04/09)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from ftkit.lab.numerics.outcomes import Line, Panel, Table, listed

__all__ = ["Drift", "NormDrift", "measure_norm_drift", "norm_drift"]

_HELD = 0.05
"""A norm whose factor per step lies nearer to 1 than this holds."""
Product = Literal["element-wise", "matmul"]


@dataclass(frozen=True)
class Drift:
    """The Frobenius norm of a matrix that is multiplied again and again."""

    product: Product
    scale: float
    expected: float
    """Factor of a step by the formula: the scale; for matrices of n x n normal numbers scale * sqrt(n)."""
    norms: tuple[float, ...]
    """From the start on, computed in float64."""
    ends_at: int | None
    """The step after which float32 holds an infinity or nothing but zeros; ``None``: it was not reached."""
    end: str
    """``overflows``, ``is zero`` or nothing."""

    @property
    def factor(self) -> float:
        """Factor of a step, as the geometric mean over all steps."""
        return float((self.norms[-1] / self.norms[0]) ** (1 / (len(self.norms) - 1)))

    @property
    def course(self) -> str:
        """``shrunk``, ``held`` or ``blown up``."""
        return "held" if abs(self.factor - 1) < _HELD else "blown up" if self.factor > 1 else "shrunk"


def norm_drift(
    scale: float, size: int = 30, steps: int = 50, seed: int = 42, product: Product = "matmul", most_steps: int = 1000
) -> Drift:
    """Follow one norm.

    Args:
        scale: What each product is multiplied by.
        size: Rows and columns of the matrix.
        steps: Products whose norm is kept.
        seed: Draws the matrices.
        product: Times the scale alone, or times a new matrix of standard normal numbers and the scale.
        most_steps: Products after which float32 is no longer followed.
    """
    draw = torch.Generator().manual_seed(seed)
    exact = torch.randn(size, size, dtype=torch.float64, generator=draw)
    rounded, norms, ends_at, end = exact.float(), [float(exact.norm())], None, ""
    for step in range(1, most_steps + 1):
        if product == "matmul":
            matrix = torch.randn(size, size, dtype=torch.float64, generator=draw)
            exact, rounded = scale * matrix @ exact, scale * matrix.float() @ rounded
        else:
            exact, rounded = scale * exact, scale * rounded
        if step <= steps:
            norms.append(float(exact.norm()))
        if not ends_at and not (rounded.isfinite().all() and rounded.any()):
            ends_at, end = step, "overflows" if not rounded.isfinite().all() else "is zero"
        if ends_at and step >= steps:
            break
    expected = scale * math.sqrt(size) if product == "matmul" else scale
    return Drift(product, scale, expected, tuple(norms), ends_at, end)


@dataclass(frozen=True)
class NormDrift:
    """Several scales, both products."""

    question: ClassVar[str] = "What becomes of a norm that is multiplied again and again?"
    lesson: ClassVar[str] = "04/09"

    size: int
    drifts: tuple[Drift, ...]

    def of(self, product: Product) -> list[Drift]:
        """The drifts of one product."""
        return [drift for drift in self.drifts if drift.product == product]

    @property
    def agrees(self) -> bool:
        """Scales are met exactly, matrices within 5 %: of a product of random ones the mean logarithm lies lower."""
        return all(
            math.isclose(drift.factor, drift.expected, rel_tol=0.05 if drift.product == "matmul" else 1e-9)
            for drift in self.drifts
        )

    def finding(self) -> str:
        """What each scale does, and which float32 does not survive."""
        growth = [drift.factor / drift.scale for drift in self.of("matmul")]
        parts = [
            f"Element by element a norm is {self._courses('element-wise')}; through random matrices it is "
            f"{self._courses('matmul')}, each of them growing by {sum(growth) / len(growth):.2f} times its scale "
            f"(sqrt(n) = {math.sqrt(self.size):.2f})"
        ]
        if ended := [drift for drift in self.of("matmul") if drift.ends_at]:
            first = min(ended, key=lambda drift: drift.ends_at or 0)
            parts.append(f"float32 {first.end} at step {first.ends_at} with scale {first.scale:.3g}")
        return "; ".join(parts) + "."

    def _courses(self, product: Product) -> str:
        found: dict[str, list[str]] = {}
        for drift in self.of(product):
            found.setdefault(drift.course, []).append(f"{drift.scale:.3g}")
        return ", ".join(f"{course} by {listed(scales)}" for course, scales in found.items())

    def table(self) -> Table:
        """A row for each scale of each product."""
        columns = ("product", "scale", "factor per step", "by the formula", "the norm", "in float32")
        rows = [
            (d.product, d.scale, d.factor, d.expected, d.course, f"{d.end} at step {d.ends_at}" if d.end else "finite")
            for d in self.drifts
        ]
        return Table(columns, rows)

    def panels(self) -> list[Panel]:
        """Norm by step for each product."""
        found = []
        titles = {
            "element-wise": "times a scale",
            "matmul": f"times scale and a random {self.size} x {self.size} matrix",
        }
        products: tuple[Product, ...] = ("element-wise", "matmul")
        for product in products:
            lines = [line for drift in self.of(product) for line in _lines(drift)]
            caption = "Solid: measured. Dashed: the factor of the formula at every step."
            found.append(Panel(product, f"Norm {titles[product]}", caption, "Frobenius norm", "step", lines, "y"))
        return found


def _lines(drift: Drift) -> list[Line]:
    steps = range(len(drift.norms))
    formula = [drift.norms[0] * drift.expected**step for step in steps]
    name = f"scale {drift.scale:.3g}"
    return [Line(name, list(steps), drift.norms), Line(name, list(steps), formula, "dashed")]


def measure_norm_drift(
    scales: Sequence[float] = (0.5, 1.0, 1.5, 2.0), size: int = 30, steps: int = 50, seed: int = 42
) -> NormDrift:
    """Follow the norm for each scale, by the scale alone and through random matrices.

    The matrices get the scale 1 / sqrt(size) too, the one that holds: with all others of the lesson they blow up.

    Args:
        scales: What products are multiplied by.
        size: Rows and columns.
        steps: Products.
        seed: Draws the matrices.
    """
    plain = [norm_drift(scale, size, steps, seed, "element-wise") for scale in scales]
    through = [norm_drift(scale, size, steps, seed) for scale in (1 / math.sqrt(size), *scales)]
    return NormDrift(size, (*plain, *through))
