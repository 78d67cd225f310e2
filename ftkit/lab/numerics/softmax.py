"""Temperature, softmax applied again and again, and what a seeded draw gives (lessons 04/05, 04/06, 04/08)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ftkit.lab.numerics.outcomes import Line, Panel, Table

__all__ = ["Draws", "Softmax", "measure_softmax", "softmax"]


def softmax(values: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax over the last dimension, in a form that no value overflows.

    Args:
        values: Logits.
        temperature: Values are divided by it; 0 gives all probability to the largest (the first of equal ones).
    """
    if temperature == 0:
        return torch.nn.functional.one_hot(values.argmax(-1), values.shape[-1]).to(values.dtype)
    exponentials = torch.exp((values - values.amax(-1, keepdim=True)) / temperature)
    return exponentials / exponentials.sum(-1, keepdim=True)


@dataclass(frozen=True)
class Draws:
    """Frequencies of a seeded draw."""

    probabilities: tuple[float, ...]
    frequencies: tuple[float, ...]
    draws: int

    @property
    def errors(self) -> float:
        """Largest distance of a frequency from its probability in standard errors."""
        pairs = zip(self.probabilities, self.frequencies, strict=True)
        return max(abs(f - p) / math.sqrt(p * (1 - p) / self.draws) for p, f in pairs)


@dataclass(frozen=True)
class Softmax:
    """Three logits by temperature, twenty values through eight softmaxes, and two draws."""

    question: ClassVar[str] = "What do temperature and repetition make of a softmax, and do draws follow it?"
    lesson: ClassVar[str] = "04/05, 04/06, 04/08"

    logits: tuple[float, ...]
    probabilities: dict[float, tuple[float, ...]]
    """By temperature."""
    entropies: dict[float, float]
    """In nats, by temperature."""
    greedy: float
    """Largest distance from all probability on the largest logit, at temperature 0.01."""
    repeated: tuple[tuple[float, float], ...]
    """Least and largest of the values after each softmax."""
    count: int
    """How many values were repeated."""
    draws: dict[str, Draws]

    @property
    def left(self) -> float:
        """Largest distance from 1/n after the last softmax."""
        return max(abs(value - 1 / self.count) for value in self.repeated[-1])

    @property
    def agrees(self) -> bool:
        """Entropy rises with temperature, 0.01 is greedy, repetition ends at 1/n, draws within 4 standard errors."""
        entropies = [self.entropies[t] for t in sorted(self.entropies)]
        rises = all(a < b for a, b in pairwise(entropies))
        return rises and self.greedy < 1e-6 and self.left < 1e-3 and all(d.errors < 4 for d in self.draws.values())

    def finding(self) -> str:
        """Entropies, the way to 1/n, and the shares of both draws."""
        low, high = min(self.entropies), max(self.entropies)
        shares = "; ".join(
            f"{name}: {'/'.join(f'{100 * f:.1f}' for f in d.frequencies)} % drawn for "
            f"{'/'.join(f'{100 * p:.1f}' for p in d.probabilities)} %"
            for name, d in self.draws.items()
        )
        return (
            f"Entropy goes from {self.entropies[low]:.2f} nats at temperature {low:g} to {self.entropies[high]:.2f} at "
            f"{high:g} (even: {math.log(len(self.logits)):.2f}); after {len(self.repeated)} softmaxes {self.count} "
            f"values lie within {self.left:.1g} of 1/{self.count}; {shares}."
        )

    def table(self) -> Table:
        """Temperatures, then draws."""
        names = [f"p of {logit:g}" for logit in self.logits]
        rows: list[tuple[float | str | None, ...]] = [
            (f"temperature {t:g}", *p, self.entropies[t]) for t, p in self.probabilities.items()
        ]
        for name, drawn in self.draws.items():
            rows += [(name, *drawn.probabilities, None), (f"{name}, drawn", *drawn.frequencies, None)]
        return Table(("of", *names, "entropy, nats"), rows)

    def panels(self) -> list[Panel]:
        """Probabilities by temperature, spread by repetition, draws."""
        temperatures = list(self.probabilities)
        by_logit = [
            Line(f"logit {logit:g}", temperatures, [p[n] for p in self.probabilities.values()])
            for n, logit in enumerate(self.logits)
        ]
        ends = [[pair[side] for pair in self.repeated] for side in (0, 1)]
        times = list(range(1, len(self.repeated) + 1))
        drawn = [
            line
            for name, d in self.draws.items()
            for line in (
                Line(name, [f"value {logit:g}" for logit in self.logits], d.frequencies, "points"),
                Line(name, [f"value {logit:g}" for logit in self.logits], d.probabilities, "dashed"),
            )
        ]
        return [
            Panel("", "Temperature", "The higher, the more even.", "probability", "temperature", by_logit, "x"),
            Panel(
                "repeated", "Softmax of a softmax", f"{self.count} values. Dashed: 1/{self.count}.", "probability",
                "softmaxes",
                [
                    Line("largest", times, ends[1]),
                    Line("least", times, ends[0]),
                    Line("even", [1, len(times)], [1 / self.count] * 2, "reference"),
                ],
            ),
            Panel("drawn", "Draws", f"Points: shares of {next(iter(self.draws.values())).draws:,} draws. Dashed: "
                  "probabilities.", "share", "what is drawn", drawn),
        ]  # fmt: skip


def measure_softmax(
    logits: Sequence[float] = (1, 2, 5),
    temperatures: Sequence[float] = (0.5, 1, 2, 5, 10),
    draws: int = 10_000,
    seed: int = 42,
) -> Softmax:
    """Temperatures, repetition and draws.

    Args:
        logits: Three values or so, above 0: they are drawn by as weights too.
        temperatures: Temperatures.
        draws: Draws of each kind.
        seed: Draws the twenty values and the samples.
    """
    values = torch.tensor(logits, dtype=torch.float64)
    probabilities = {float(t): softmax(values, t) for t in temperatures}
    entropies = {t: float(-(p * p.log()).sum()) for t, p in probabilities.items()}
    generator = torch.Generator().manual_seed(seed)
    row, repeated = torch.randn(20, generator=generator, dtype=torch.float64), []
    for _ in range(8):
        row = softmax(row)
        repeated.append((float(row.min()), float(row.max())))
    shares = {"as weights": values / values.sum(), "through softmax": softmax(values)}
    return Softmax(
        tuple(float(logit) for logit in logits),
        {t: tuple(p.tolist()) for t, p in probabilities.items()},
        entropies,
        float((softmax(values, 0.01) - softmax(values, 0)).abs().max()),
        tuple(repeated),
        len(row),
        {name: _drawn(share, draws, generator) for name, share in shares.items()},
    )


def _drawn(probabilities: Tensor, draws: int, generator: torch.Generator) -> Draws:
    chosen = torch.multinomial(probabilities, draws, replacement=True, generator=generator)
    counts = torch.bincount(chosen, minlength=len(probabilities))
    return Draws(tuple(probabilities.tolist()), tuple((counts / draws).tolist()), draws)
