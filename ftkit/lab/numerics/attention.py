"""Attention written out, fused and compiled: equal, causal, how fast, and why scores are divided by sqrt(d)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ftkit.data import load_tokenizer
from ftkit.data.voices import voice_text
from ftkit.lab.numerics.outcomes import Line, Panel, Table, listed, median_seconds
from ftkit.models import load_model
from ftkit.models.modeling_ftkit_gpt2 import eager_attention_forward

__all__ = [
    "Attention",
    "AttentionScale",
    "attention_weights",
    "manual_attention",
    "measure_attention",
    "measure_attention_scale",
    "score_spread",
]

Form = Callable[[Tensor, Tensor, Tensor], Tensor]


class _Causal(nn.Module):
    """What the written-out attention of ftkit's GPT-2 asks of a layer."""

    is_causal = True


_LAYER = _Causal().eval()


def manual_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The attention of ftkit's own GPT-2: scores, causal mask, softmax, mixture; all (B, H, T, D)."""
    mixed, _ = eager_attention_forward(_LAYER, query, key, value, None, query.shape[-1] ** -0.5)
    return mixed.transpose(1, 2)


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """What the written-out attention multiplies values by, (B, H, T, T)."""
    return eager_attention_forward(_LAYER, query, key, key, None, query.shape[-1] ** -0.5)[1]


def _fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)


@dataclass(frozen=True)
class Attention:
    """The forms on random queries, keys and values."""

    question: ClassVar[str] = (
        "Is attention written out the same as torch's fused one, is it causal, and how fast is it?"
    )
    lesson: ClassVar[str] = "04/011, 04/014"

    forms: tuple[str, ...]
    not_compiled: str
    """Why there is no compiled form; empty where there is one."""
    tokens: tuple[int, ...]
    differences: dict[str, tuple[float, ...]]
    """Largest difference from the fused form in float64, by form and number of tokens."""
    leaks: dict[str, float]
    """Largest change of an output when only tokens after it change, by form."""
    future: float
    """Largest weight on a later token."""
    row_sums: float
    """Largest distance of a row of weights from 1."""
    times: dict[str, tuple[float, ...]]
    """Written-out time over the form's, by form and number of tokens."""
    device: str

    @property
    def agrees(self) -> bool:
        """float32's rounding apart, the same; nothing of the future arrives."""
        close = all(max(found) < 1e-5 for found in self.differences.values())
        return close and not any(self.leaks.values()) and self.future == 0 and self.row_sums < 1e-5

    def finding(self) -> str:
        """Differences, causality, times, and why something was not run."""
        apart = max(max(found) for found in self.differences.values())
        leak = max(self.leaks.values())
        said = (
            "later tokens change nothing before them"
            if leak == 0
            else f"LATER TOKENS CHANGE EARLIER ONES by {leak:.1g}"
        )
        faster = ", ".join(
            f"{name} {min(times):.2g} to {max(times):.2g}" for name, times in self.times.items() if name != "manual"
        )
        tail = f"; torch.compile was not run: {self.not_compiled}" if self.not_compiled else ""
        return (
            f"The forms {listed(self.forms)} lie within {apart:.1g} of float64; {said}; times as "
            f"fast as manual at {self.tokens[0]} to {self.tokens[-1]} tokens: {faster} ({self.device}){tail}."
        )

    def table(self) -> Table:
        """A row for each form and number of tokens."""
        columns = ("form", "tokens", "difference from float64", "leak from the future", "times as fast as manual")
        rows = [
            (form, tokens, self.differences[form][n], self.leaks[form], self.times[form][n])
            for form in self.forms
            for n, tokens in enumerate(self.tokens)
        ]
        return Table(columns, rows)

    def panels(self) -> list[Panel]:
        """Speed and rounding by number of tokens."""
        fast = [Line(f, self.tokens, self.times[f], "reference" if f == "manual" else "line") for f in self.forms]
        apart = [Line(f, self.tokens, self.differences[f]) for f in self.forms]
        return [
            Panel("", "Speed", f"Times as fast as written out, medians side by side on {self.device}.",
                  "times as fast as manual", "tokens", fast, "x"),
            Panel("rounding", "Rounding", "Largest difference from SDPA in float64.",
                  "largest difference", "tokens", apart, "x"),
        ]  # fmt: skip


def measure_attention(
    tokens: Sequence[int] = (8, 64, 256, 512),
    repeats: int = 30,
    seed: int = 42,
    device: torch.device | None = None,
    compiler: Callable[[Form], Form] | None = torch.compile,
) -> Attention:
    """Compare the forms.

    Args:
        tokens: Numbers of tokens.
        repeats: Rounds of the timing.
        seed: Draws queries, keys and values.
        device: Where all is computed; the CPU without it.
        compiler: What makes the compiled form; ``None`` leaves it out.
    """
    device = device or torch.device("cpu")
    generator = torch.Generator().manual_seed(seed)
    batches = {n: torch.randn(3, 4, 4, n, 32, generator=generator).to(device) for n in tokens}
    forms: dict[str, Form] = {"manual": manual_attention, "SDPA": _fused}
    compiled, reason = _compiled(compiler, batches[tokens[0]])
    if compiled:
        forms["compiled"] = compiled
    differences: dict[str, list[float]] = {name: [] for name in forms}
    times: dict[str, list[float]] = {name: [] for name in forms}
    for batch in batches.values():
        query, key, value = batch
        exact = _fused(*batch.double())  # written out, the softmax of ftkit's GPT-2 is float32 whatever comes in
        for name, form in forms.items():
            differences[name].append(float((form(query, key, value) - exact).abs().max()))
        arms = {name: partial(form, *batch) for name, form in forms.items()}
        seconds = median_seconds(arms, repeats, device)
        for name in forms:
            times[name].append(seconds["manual"] / seconds[name])
    last = batches[tokens[-1]]
    weights = attention_weights(last[0], last[1])
    return Attention(
        tuple(forms),
        reason,
        tuple(tokens),
        {name: tuple(found) for name, found in differences.items()},
        {name: leak(form, last, generator) for name, form in forms.items()},
        float(weights.triu(1).max()),
        float((weights.sum(-1) - 1).abs().max()),
        {name: tuple(found) for name, found in times.items()},
        device.type,
    )


def leak(form: Form, batch: Tensor, generator: torch.Generator) -> float:
    """Largest change of the first half of the outputs when queries, keys and values of the second half change.

    Args:
        form: An attention.
        batch: Queries, keys and values, (3, B, H, T, D).
        generator: Draws what stands there instead.
    """
    half = batch.shape[-2] // 2
    changed = batch.clone()
    changed[..., half:, :] = torch.randn(changed[..., half:, :].shape, generator=generator).to(batch.device)
    return float((form(*batch) - form(*changed))[..., :half, :].abs().max())


def _compiled(compiler: Callable[[Form], Form] | None, batch: Tensor) -> tuple[Form | None, str]:
    """The compiled form after its first call, or why there is none."""
    if compiler is None:
        return None, "it was switched off"
    try:
        form = compiler(manual_attention)
        form(*batch)
    except Exception as error:  # whatever the compiler misses: a C++ compiler, headers, a platform
        return (
            None,
            f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason'}",
        )
    return form, ""


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
