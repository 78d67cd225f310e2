"""Attention written out, torch's fused one and a compiled one: equal, causal, and how fast (lessons 04/011, 04/014)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from ftkit.lab.numerics.outcomes import Line, Panel, Table, listed
from ftkit.lab.numerics.timing import median_seconds
from ftkit.models.modeling_ftkit_gpt2 import eager_attention_forward

__all__ = ["Attention", "attention_weights", "manual_attention", "measure_attention"]

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
