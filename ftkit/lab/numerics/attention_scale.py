"""Why attention divides by sqrt(d): how scores spread, and what that does to softmax (lesson 06/011)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ftkit.data import load_tokenizer
from ftkit.data.voices import voice_text
from ftkit.lab.numerics.outcomes import Line, Panel, Table
from ftkit.models import load_model

__all__ = ["AttentionScale", "measure_attention_scale", "score_spread"]

_FEWEST_KEYS = 8
"""Rows that see fewer keys have no spread to speak of."""


@dataclass(frozen=True)
class AttentionScale:
    """Random queries and keys of several widths, and the scores of a model."""

    question: ClassVar[str] = "Why are attention scores divided by sqrt(d)?"
    lesson: ClassVar[str] = "06/011"

    widths: tuple[int, ...]
    tokens: int
    stds: tuple[float, ...]
    """Standard deviation of Q K^T by width."""
    entropies: dict[str, tuple[float, ...]]
    """Mean entropy of the softmax over keys in nats by width, ``plain`` and ``scaled``."""
    largest: dict[str, tuple[float, ...]]
    """Mean largest probability by width, ``plain`` and ``scaled``."""
    model: str = ""
    layers: tuple[float, ...] = ()
    """Standard deviation of the model's scores, as softmax gets them, layer by layer."""

    @property
    def deviation(self) -> float:
        """Largest relative distance from sqrt(d)."""
        return max(abs(std / math.sqrt(d) - 1) for d, std in zip(self.widths, self.stds, strict=True))

    @property
    def agrees(self) -> bool:
        """Within a tenth of sqrt(d) at every width; scaling opens the softmax of the widest."""
        return self.deviation < 0.1 and self.largest["scaled"][-1] < self.largest["plain"][-1]

    def finding(self) -> str:
        """Spread, largest probability with and without scaling, and the model."""
        plain, scaled = (self.largest[kind][-1] for kind in ("plain", "scaled"))
        text = (
            f"The std of Q K^T stays within {self.deviation:.1%} of sqrt(d) for d = {self.widths[0]} to "
            f"{self.widths[-1]}; at d = {self.widths[-1]} the largest of {self.tokens} probabilities is {plain:.2f} "
            f"unscaled and {scaled:.2f} scaled (even: {1 / self.tokens:.2f})"
        )
        if self.layers:
            text += f"; the scores of {self.model} have a std of {min(self.layers):.2g} to {max(self.layers):.2g}"
        return f"{text}."

    def table(self) -> Table:
        """Some widths, then the layers of the model."""
        columns = ("width", "std of Q K^T", "sqrt(d)", "largest p, unscaled", "largest p, scaled",
                   "entropy, unscaled", "entropy, scaled")  # fmt: skip
        chosen = sorted({round(place) for place in np.linspace(0, len(self.widths) - 1, 6)})
        rows: list[tuple[float | str | None, ...]] = [
            (
                f"d = {self.widths[n]}", self.stds[n], math.sqrt(self.widths[n]), self.largest["plain"][n],
                self.largest["scaled"][n], self.entropies["plain"][n], self.entropies["scaled"][n],
            )
            for n in chosen
        ]  # fmt: skip
        rows += [(f"{self.model}, block {n}", std, *[None] * 5) for n, std in enumerate(self.layers)]
        return Table(columns, rows)

    def panels(self) -> list[Panel]:
        """Spread by width, softmax by width, the model by layer."""
        roots = [math.sqrt(d) for d in self.widths]
        names = {"plain": "unscaled", "scaled": "scaled by 1/sqrt(d)"}
        found = [
            Panel(
                "", "Spread of the scores", f"{self.tokens} random queries and keys. Dashed: the square root of d.",
                "standard deviation of Q K^T", "width d",
                [Line("measured", self.widths, self.stds), Line("sqrt(d)", self.widths, roots, "reference")],
            ),
            Panel(
                "softmax", "What softmax makes of them", f"Mean over the queries. Dashed: ln {self.tokens}, all "
                "equally likely.", "entropy, nats", "width d",
                [
                    *(Line(names[kind], self.widths, self.entropies[kind]) for kind in names),
                    Line("even", [self.widths[0], self.widths[-1]], [math.log(self.tokens)] * 2, "reference"),
                ],
            ),
        ]  # fmt: skip
        if self.layers:
            found.append(
                Panel(
                    "model", "Scores of a model", f"{self.model}: as softmax gets them, over the keys that a query "
                    "may see.", "standard deviation of the scores", "block",
                    [Line(self.model, list(range(len(self.layers))), self.layers)],
                )
            )  # fmt: skip
        return found


def measure_attention_scale(
    widths: Sequence[int] = tuple(range(2, 101, 2)),
    tokens: int = 50,
    draws: int = 20,
    seed: int = 42,
    model: str | None = None,
) -> AttentionScale:
    """Scores of random queries and keys, and those of a model where one is given.

    Args:
        widths: Widths d of a head.
        tokens: Queries and keys.
        draws: Pairs of Q and K for each width.
        seed: Draws them.
        model: A causal model as ``load_model`` takes it. One that is made here reads random tokens, any other a text.
    """
    draw = torch.Generator().manual_seed(seed)
    stds: list[float] = []
    entropies: dict[str, list[float]] = {"plain": [], "scaled": []}
    largest: dict[str, list[float]] = {"plain": [], "scaled": []}
    for width in widths:
        queries, keys = torch.randn(2, draws, tokens, width, generator=draw)
        scores = queries @ keys.transpose(-1, -2)
        stds.append(float(scores.std()))
        for kind, factor in (("plain", 1.0), ("scaled", width**-0.5)):
            log_p = (scores * factor).log_softmax(-1)
            entropies[kind].append(float(-(log_p.exp() * log_p).sum(-1).mean()))
            largest[kind].append(float(log_p.exp().amax(-1).mean()))
    name, layers = _looked_at(model, tokens, seed) if model else ("", [])
    by_kind = [{kind: tuple(values) for kind, values in found.items()} for found in (entropies, largest)]
    return AttentionScale(tuple(widths), tokens, tuple(stds), by_kind[0], by_kind[1], name, tuple(layers))


def _looked_at(spec: str, tokens: int, seed: int) -> tuple[str, list[float]]:
    """A model's name and the spread of its scores."""
    model = load_model(spec, seed=seed, attn_implementation="eager")
    if spec.startswith("new:"):
        generator = torch.Generator().manual_seed(seed)
        rows = model.config.get_text_config().vocab_size
        name = f"{spec.removeprefix('new:').partition(',')[0]}, random weights"
        return name, score_spread(model, torch.randint(rows, (4, tokens), generator=generator))
    ids = load_tokenizer(spec)(voice_text("keeper", 8 * tokens, seed))["input_ids"]
    return Path(spec).name, score_spread(model, torch.tensor(ids[: 4 * tokens]).view(4, tokens))


@torch.inference_mode()
def score_spread(model: PreTrainedModel, input_ids_BT: Tensor) -> list[float]:
    """Standard deviation of a model's attention scores, layer by layer.

    The scores are read from the attention weights: a softmax takes one number away from every row, so that within a
    row the logarithms of the weights spread as the scores do. So any model that gives its weights can be asked.

    Args:
        model: A causal model with eager attention.
        input_ids_BT: Token ids.
    """
    was_training = model.training
    model.eval()
    weights = model(input_ids=input_ids_BT, output_attentions=True).attentions
    model.train(was_training)
    width = input_ids_BT.shape[1]
    spreads = []
    for layer_BHTS in weights:
        rows = []
        for query in range(min(_FEWEST_KEYS, width) - 1, width):
            logs = layer_BHTS[:, :, query, : query + 1].double().clamp(min=1e-30).log()
            rows.append(logs.var(-1, correction=0).mean())
        spreads.append(math.sqrt(float(torch.stack(rows).mean())))
    return spreads
