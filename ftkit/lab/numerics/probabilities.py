"""Softmax, temperature and seeded draws; logits beside log-probabilities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, nll_loss

from ftkit.data import load_tokenizer
from ftkit.generation import PRESETS, Sampling, generate_passages
from ftkit.lab.numerics.outcomes import Line, Panel, Table
from ftkit.models import load_model, log_probability_model

__all__ = ["Draws", "Logits", "Softmax", "measure_logits", "measure_softmax", "softmax"]


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


_MODEL = "new:ftkit_gpt2,num_hidden_layers=2,hidden_size=64,num_attention_heads=2,initializer_range=0.2"
"""Weights of this spread give a distribution that is far from even."""
_SHOWN_ROWS = 3  # rows of the figure: the outcome compares all


@dataclass(frozen=True)
class Logits:
    """One model with both forms of output."""

    question: ClassVar[str] = "Does it matter whether a model gives logits or log-probabilities?"
    lesson: ClassVar[str] = "06/015"

    losses: tuple[float, float]
    """Cross-entropy of the logits, negative log-likelihood of the log-probabilities."""
    wrong_loss: float
    """Negative log-likelihood taken of the logits themselves."""
    offset: float
    """Mean over the rows of what a logit exceeds its log-probability by."""
    offset_spread: float
    """Largest standard deviation of that inside a row."""
    by_temperature: dict[float, float]
    """Largest difference of the probabilities from both forms."""
    same: dict[str, float]
    """Share of tokens that both forms draw alike with one seed, by the rule of the draw."""
    rows: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]
    """Logits and log-probabilities of some places."""

    @property
    def agrees(self) -> bool:
        """One loss, one softmax at every temperature, the same tokens but under the penalty."""
        plain = all(share == 1 for rule, share in self.same.items() if "penalty" not in rule)
        small = max(abs(self.losses[0] - self.losses[1]), *self.by_temperature.values())
        return small < 1e-5 and plain and self.offset_spread < 1e-5

    def finding(self) -> str:
        """Differences, samples, offset, and the wrong pairing."""
        alike = [rule for rule, share in self.same.items() if share == 1]
        other = [f"{rule} ({share:.0%} alike)" for rule, share in self.same.items() if share < 1]
        told = f"the same tokens are drawn with {', '.join(alike)}" if alike else "no rule draws the same tokens"
        return (
            f"The losses differ by {abs(self.losses[0] - self.losses[1]):.1g}, the probabilities at temperatures "
            f"{min(self.by_temperature):g} to {max(self.by_temperature):g} by at most "
            f"{max(self.by_temperature.values()):.1g}; {told}"
            f"{', not all with ' + ', '.join(other) if other else ''}; lost is one number a row ({self.offset:.2f} on "
            f"average), by which a likelihood of logits is wrong ({self.wrong_loss:.2f} for {self.losses[0]:.2f})."
        )

    def table(self) -> Table:
        """Losses, temperatures, draws."""
        rows: list[tuple[float | str | None, ...]] = [
            ("cross-entropy of logits", self.losses[0]),
            ("likelihood of log-probabilities", self.losses[1]),
            ("likelihood of logits, a wrong pairing", self.wrong_loss),
            ("offset of a row, mean", self.offset),
            ("offset inside a row, largest std", self.offset_spread),
        ]
        rows += [(f"probabilities at temperature {t:g}, difference", d) for t, d in self.by_temperature.items()]
        rows += [(f"tokens drawn alike, {rule}", share) for rule, share in self.same.items()]
        return Table(("what", "value"), rows)

    def panels(self) -> list[Panel]:
        """Both forms of some rows, and the share of tokens that are drawn alike."""
        points = [Line(f"place {n}", x, y, "points") for n, (x, y) in enumerate(self.rows)]
        shares = Line("same tokens", list(self.same), list(self.same.values()), "points")
        return [
            Panel("", "One number a row", "Every place has a line of slope 1 and an offset of its own.",
                  "log-probability", "logit", points),
            Panel("drawn", "The same draw from both", "The same seed. A repetition penalty asks for the sign of a "
                  "logit, and all log-probabilities are negative.", "share of tokens drawn alike", "rule of the draw",
                  [shares]),
        ]  # fmt: skip


def measure_logits(
    temperatures: Sequence[float] = (0.5, 1.0, 2.0), new_tokens: int = 40, prompts: int = 16, seed: int = 42
) -> Logits:
    """Ask one small random GPT-2 in both ways.

    Args:
        temperatures: Temperatures of softmax and draw.
        new_tokens: Tokens of each sample.
        prompts: Samples.
        seed: Draws weights, tokens and samples.
    """
    tokenizer = load_tokenizer("byte")
    model = load_model(_MODEL, seed=seed, vocab_size=len(tokenizer))
    adapted = log_probability_model(model)
    generator = torch.Generator().manual_seed(seed)
    input_ids_BT = torch.randint(256, (8, 64), generator=generator)
    with torch.inference_mode():
        logits, log_p = (one(input_ids=input_ids_BT).logits[:, :-1].flatten(0, 1) for one in (model, adapted))
    targets = input_ids_BT[:, 1:].flatten()
    offsets = logits.double() - log_p.double()
    by_temperature = {t: float(((logits / t).softmax(-1) - (log_p / t).softmax(-1)).abs().max()) for t in temperatures}
    rules = {f"T = {t:g}": replace(PRESETS["plain"], temperature=t) for t in temperatures}
    rules |= {"top-k 50, top-p 0.95": PRESETS["top50"], "penalty 1.3": PRESETS["judged"]}
    starts = [[int(place)] for place in input_ids_BT.flatten()[:prompts]]
    same = {
        rule: _same(
            *([p.ids for p in _drawn_logits(one, tokenizer, starts, new_tokens, how, seed)] for one in (model, adapted))
        )
        for rule, how in rules.items()
    }
    return Logits(
        (float(cross_entropy(logits, targets)), float(nll_loss(log_p, targets))),
        float(nll_loss(logits, targets)),
        float(offsets.mean()),
        float(offsets.std(-1).max()),
        by_temperature,
        same,
        tuple((tuple(logits[n].tolist()), tuple(log_p[n].tolist())) for n in range(_SHOWN_ROWS)),
    )


def _drawn_logits(
    model: Any, tokenizer: Any, starts: list[list[int]], new_tokens: int, how: Sampling, seed: int
) -> Any:
    return generate_passages(model, tokenizer, starts, new_tokens=new_tokens, sampling=how, seed=seed)


def _same(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> float:
    """Share of tokens that are equal, place by place."""
    pairs = [pair for rows in zip(first, second, strict=True) for pair in zip(*rows, strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs)
