"""Norms: what repeated multiplication does to them, and what layer normalization does to mean, spread and shape."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ftkit.lab.numerics.outcomes import Line, Panel, Table, listed

__all__ = [
    "Drift",
    "LayerNorm",
    "LayerNormReport",
    "NormDrift",
    "layer_norm",
    "ln_report",
    "measure_layer_norm",
    "measure_norm_drift",
    "norm_drift",
]

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


def layer_norm(
    x: Tensor,
    dims: Sequence[int] = (-1,),
    gain: Tensor | float = 1.0,
    bias: Tensor | float = 0.0,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 over some dimensions, then gain and bias.

    Args:
        x: Any shape.
        dims: Dimensions that are normalised together; all of them normalise the whole tensor.
        gain: Factor afterwards, broadcast against ``x``.
        bias: Added afterwards, broadcast against ``x``.
        eps: Added to the variance under the root.

    Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450, as torch computes it.
    """
    centred = x - x.mean(tuple(dims), keepdim=True)
    variance = centred.square().mean(tuple(dims), keepdim=True)
    return centred / torch.sqrt(variance + eps) * gain + bias


@dataclass(frozen=True)
class LayerNorm:
    """One normalised tensor beside its input."""

    normalised: str
    """What was normalised together."""
    mean: tuple[float, float]
    """Over all elements, before and after."""
    std: tuple[float, float]
    """Over all elements, before and after, biased."""
    row_means: tuple[tuple[float, ...], tuple[float, ...]]
    """Of each row along the last dimension, before and after."""
    row_stds: tuple[tuple[float, ...], tuple[float, ...]]
    r: float
    """Pearson's correlation of input and output, over all elements."""
    x: tuple[float, ...]
    """Every element before."""
    y: tuple[float, ...]
    """Every element after."""


def ln_report(x: Tensor, dims: Sequence[int] = (-1,), gain: float = 1.0, bias: float = 0.0) -> LayerNorm:
    """What normalising does to a tensor.

    Args:
        x: Two dimensions or more.
        dims: As for ``layer_norm``.
        gain: As for ``layer_norm``.
        bias: As for ``layer_norm``.
    """
    x = x.double()
    y = layer_norm(x, dims, gain, bias)
    pair = (x, y)
    means, stds = ([t.mean(-1).flatten().tolist() for t in pair], [t.std(-1, False).flatten().tolist() for t in pair])
    return LayerNorm(
        "the whole tensor" if len({d % x.ndim for d in dims}) == x.ndim else "each row",
        (float(x.mean()), float(y.mean())),
        (float(x.std(correction=0)), float(y.std(correction=0))),
        (tuple(means[0]), tuple(means[1])),
        (tuple(stds[0]), tuple(stds[1])),
        float(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1]),
        tuple(x.flatten().tolist()),
        tuple(y.flatten().tolist()),
    )


@dataclass(frozen=True)
class LayerNormReport:
    """Agreement with torch, both ways of normalising, gains and biases, and the two formulas for small spreads."""

    question: ClassVar[str] = "What does layer normalisation do to mean, spread and shape, and is it torch's?"
    lesson: ClassVar[str] = "04/09"

    difference: float
    """Largest from torch's, over both ways, with gain and bias."""
    reports: tuple[LayerNorm, ...]
    swept: tuple[tuple[float, float, float, float], ...]
    """(gain, bias, mean, std) of each setting."""
    spreads: tuple[float, ...]
    """Standard deviations of inputs."""
    stds: dict[str, tuple[float, ...]]
    """Standard deviation afterwards of each input, by formula."""

    @property
    def worst(self) -> float:
        """How far a mean lies from its bias or a spread from its gain."""
        return max(max(abs(mean - bias), abs(std - gain)) for gain, bias, mean, std in self.swept)

    @property
    def agrees(self) -> bool:
        """torch's numbers to float32's rounding; mean = bias and spread = gain but for eps."""
        return self.difference < 1e-5 and self.worst < 1e-3

    def finding(self) -> str:
        """Differences, correlations, and where the lesson's formula goes wrong."""
        rows = ", ".join(f"{report.r:.4f} over {report.normalised}" for report in self.reports)
        ours, theirs = self.stds.values()
        gap, at = max(((abs(a - b), s) for a, b, s in zip(ours, theirs, self.spreads, strict=True)))
        return (
            f"Ours differs from torch's by at most {self.difference:.1g}; mean = bias and std = gain within "
            f"{self.worst:.1g}; correlation with the input: {rows}; dividing by std + eps instead gives a std that "
            f"differs by up to {gap:.2g} (inputs of std {at:.1g})."
        )

    def table(self) -> Table:
        """Before and after, then the sweep."""
        columns = ("normalised", "gain", "bias", "mean before", "mean", "std before", "std", "r with the input")
        rows: list[tuple[float | str | None, ...]] = [
            (r.normalised, 1.0, 0.0, r.mean[0], round(r.mean[1], 9), r.std[0], r.std[1], r.r) for r in self.reports
        ]
        rows += [
            ("the whole tensor", gain, bias, None, round(mean, 9), None, std, None)
            for gain, bias, mean, std in self.swept
        ]
        return Table(columns, rows)

    def panels(self) -> list[Panel]:
        """Elements before and after, and the two formulas."""
        points = [Line(f"{r.normalised}, r = {r.r:.4f}", r.x, r.y, "points") for r in self.reports]
        names = list(self.stds)
        curves = [Line(name, self.spreads, self.stds[name], "line" if name == names[0] else "dashed") for name in names]
        return [
            Panel(
                "", "Elements before and after", "Over the whole tensor they keep their line; row by row each row has "
                "a line of its own.", "element after normalising", "element before", points,
            ),
            Panel(
                "eps", "Where eps is added", "Standard deviation after normalising rows of ever smaller spread, with "
                "eps = 1e-5.", "standard deviation after", "standard deviation before", curves, "x",
            ),
        ]  # fmt: skip


def measure_layer_norm(
    shape: tuple[int, int] = (3, 10),
    gains: Sequence[float] = (1, 2, 3),
    biases: Sequence[float] = (0, 2, 5),
    seed: int = 42,
) -> LayerNormReport:
    """Normalise normal numbers of mean 3 and standard deviation 2 in both ways.

    Args:
        shape: Rows and columns.
        gains: Gains of the sweep.
        biases: Biases of the sweep.
        seed: Draws the numbers.
    """
    draw = torch.Generator().manual_seed(seed)
    x = 3 + 2 * torch.randn(shape, generator=draw)
    swept = []
    for gain in gains:
        for bias in biases:
            report = ln_report(x, (0, 1), gain, bias)
            swept.append((float(gain), float(bias), report.mean[1], report.std[1]))
    spreads = torch.logspace(-4, 1, 41, dtype=torch.float64)
    rows = torch.randn(1, 1000, generator=draw, dtype=torch.float64)
    rows = layer_norm(rows, eps=0.0) * spreads[:, None]
    by_std = (rows - rows.mean(-1, keepdim=True)) / (rows.std(-1, False, keepdim=True) + 1e-5)
    formulas = {"sqrt(variance + eps), torch": layer_norm(rows), "std + eps": by_std}
    return LayerNormReport(
        _difference(x, draw),
        (ln_report(x, (0, 1)), ln_report(x, (1,))),
        tuple(swept),
        tuple(spreads.tolist()),
        {name: tuple(found.std(-1, False).tolist()) for name, found in formulas.items()},
    )


def _difference(x: Tensor, draw: torch.Generator) -> float:
    """Largest difference from torch over the last dimension and over both, with random gain and bias."""
    largest = 0.0
    for dims in ((1,), (0, 1)):
        shape = [x.shape[dim] for dim in dims]
        gain, bias = (torch.randn(shape, generator=draw) for _ in range(2))
        theirs = nn.functional.layer_norm(x, shape, gain, bias)
        largest = max(largest, float((layer_norm(x, dims, gain, bias) - theirs).abs().max()))
    return largest
