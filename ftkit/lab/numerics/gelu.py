"""GELU in both its forms beside ReLU: values, slopes, zeros and time (lesson 04/04)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from transformers.activations import NewGELUActivation

from ftkit.lab.numerics.outcomes import Line, Panel, Table, median_seconds

__all__ = ["Gelu", "gelu", "measure_gelu"]


def gelu(x: Tensor, tanh: bool = False) -> Tensor:
    """x times the normal distribution function, exactly or by its approximation with tanh, which GPT-2 has.

    Source: Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415, section 2.
    """
    if tanh:
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


_FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "GELU": torch.nn.functional.gelu,
    "GELU tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "ReLU": torch.nn.functional.relu,
}
_TIMED = _FORMS | {"GELU tanh in eight operations": NewGELUActivation()}


@dataclass(frozen=True)
class Gelu:
    """Three activations on a grid, on normal values and on a clock."""

    question: ClassVar[str] = "How far apart are GELU's two forms, and what does it do that ReLU does not?"
    lesson: ClassVar[str] = "04/04"

    x: tuple[float, ...]
    values: dict[str, tuple[float, ...]]
    slopes: dict[str, tuple[float, ...]]
    ours: float
    """Largest difference of the forms written out here from torch's."""
    apart: float
    """Largest difference of the two forms of GELU on the grid."""
    apart_at: float
    r: dict[str, float]
    """Correlation with exact GELU on the grid."""
    zeros: dict[str, float]
    """Share of exact zeros on normal values."""
    samples: int
    ratios: dict[str, float]
    """Median time as a multiple of ReLU's."""
    device: str

    @property
    def agrees(self) -> bool:
        """Written out it is torch's; the forms lie within 1e-3; ReLU makes half of normal values 0 and GELU none."""
        halves = abs(self.zeros["ReLU"] - 0.5) < 4 * math.sqrt(0.25 / self.samples)
        return self.ours < 1e-6 and self.apart < 1e-3 and halves and self.zeros["GELU"] < 1e-3

    def finding(self) -> str:
        """Distance, correlation, zeros, times."""
        zeros = ", ".join(f"{name} {share:.1%}" for name, share in self.zeros.items() if name != "GELU tanh")
        times = ", ".join(f"{name} {ratio:.1f}" for name, ratio in self.ratios.items() if name != "ReLU")
        return (
            f"The two forms differ by at most {self.apart:.2g} (at {self.apart_at:.2f}) and correlate with r = "
            f"{self.r['GELU tanh']:.6f} (ReLU {self.r['ReLU']:.4f}); exact zeros on normal values: {zeros}; "
            f"time with ReLU as 1: {times} ({self.device})."
        )

    def table(self) -> Table:
        """A row for each form."""
        columns = ("form", "r with GELU", "exact zeros, normal values", "least value", "time, ReLU = 1")
        rows: list[tuple[float | str | None, ...]] = [
            (name, self.r[name], self.zeros[name], min(self.values[name]), self.ratios[name]) for name in _FORMS
        ]
        rows += [(name, None, None, None, ratio) for name, ratio in self.ratios.items() if name not in _FORMS]
        return Table(columns, rows)

    def panels(self) -> list[Panel]:
        """Curves, slopes, distance of the forms."""
        distance = [b - a for a, b in zip(self.values["GELU"], self.values["GELU tanh"], strict=True)]
        return [
            Panel("", "Activations", "The two forms of GELU lie on each other.", "value", "x",
                  self._lines(self.values)),
            Panel("slopes", "Their slopes", "By automatic differentiation.", "derivative", "x",
                  self._lines(self.slopes)),
            Panel("apart", "How far the two forms lie apart", "In float64.", "tanh form minus exact form", "x",
                  [Line("difference", self.x, distance)]),
        ]  # fmt: skip

    def _lines(self, found: dict[str, tuple[float, ...]]) -> list[Line]:
        return [Line(name, self.x, y, "dashed" if name == "GELU tanh" else "line") for name, y in found.items()]


def measure_gelu(
    points: int = 333, samples: int = 1_000_000, repeats: int = 30, seed: int = 42, device: torch.device | None = None
) -> Gelu:
    """Compare the activations.

    Args:
        points: Of the grid from -3 to 3.
        samples: Normal values.
        repeats: Rounds of the timing.
        seed: Draws the values.
        device: Where times are taken; the CPU without it.
    """
    device = device or torch.device("cpu")
    x = torch.linspace(-3, 3, points, dtype=torch.float64, requires_grad=True)
    values = {name: form(x) for name, form in _FORMS.items()}
    slopes = {name: torch.autograd.grad(y.sum(), x, retain_graph=True)[0] for name, y in values.items()}
    fixed = {name: y.detach() for name, y in values.items()}
    x = x.detach()
    apart = (fixed["GELU tanh"] - fixed["GELU"]).abs()
    ours = max((gelu(x) - fixed["GELU"]).abs().max(), (gelu(x, tanh=True) - fixed["GELU tanh"]).abs().max())
    normal = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    zeros = {name: float((form(normal) == 0).double().mean()) for name, form in _FORMS.items()}
    there = normal.to(device)
    seconds = median_seconds({name: partial(form, there) for name, form in _TIMED.items()}, repeats, device)
    return Gelu(
        tuple(x.tolist()),
        {name: tuple(y.tolist()) for name, y in fixed.items()},
        {name: tuple(slope.tolist()) for name, slope in slopes.items()},
        float(ours),
        float(apart.max()),
        float(x[apart.argmax()]),
        {name: float(torch.corrcoef(torch.stack([fixed["GELU"], y]))[0, 1]) for name, y in fixed.items()},
        zeros,
        samples,
        {name: taken / seconds["ReLU"] for name, taken in seconds.items()},
        device.type,
    )
