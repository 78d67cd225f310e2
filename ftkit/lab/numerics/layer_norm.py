"""Layer normalisation written out, and what it does to mean, spread and shape (lesson 04/09).

torch divides by sqrt(variance + eps) with the biased variance. The lesson's text divides by (standard deviation + eps),
which is another number wherever the spread is small; both are measured here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ftkit.lab.numerics.outcomes import Line, Panel, Table

__all__ = ["LayerNorm", "LayerNormReport", "layer_norm", "ln_report", "measure_layer_norm"]


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
