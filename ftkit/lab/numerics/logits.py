"""Logits or log-probabilities: what is the same, and what is lost (lesson 06/015).

The lesson says that temperature is lost with log-probabilities. It is not: a row of them differs from its logits by one
number, which every softmax takes away again. That number is what is lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch.nn.functional import cross_entropy, nll_loss

from ftkit.data import load_tokenizer
from ftkit.generation import PRESETS, Sampling, generate_passages
from ftkit.lab.numerics.outcomes import Line, Panel, Table
from ftkit.models import load_model, log_probability_model

__all__ = ["Logits", "measure_logits"]

_MODEL = "new:ftkit_gpt2,num_hidden_layers=2,hidden_size=64,num_attention_heads=2,initializer_range=0.2"
"""Weights of this spread give a distribution that is far from even."""
_SHOWN_ROWS = 3


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
            *([p.ids for p in _drawn(one, tokenizer, starts, new_tokens, how, seed)] for one in (model, adapted))
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


def _drawn(model: Any, tokenizer: Any, starts: list[list[int]], new_tokens: int, how: Sampling, seed: int) -> Any:
    return generate_passages(model, tokenizer, starts, new_tokens=new_tokens, sampling=how, seed=seed)


def _same(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> float:
    """Share of tokens that are equal, place by place."""
    pairs = [pair for rows in zip(first, second, strict=True) for pair in zip(*rows, strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs)
