"""Which model predicts whose text best? Needs no judge and lets nobody write.

A model that has learned to write like a text predicts its unseen text better than other models do. So every
model reads held-out text of every corpus; and a passage is attributed to the model that it costs least.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ftkit.data import TokenStore
from ftkit.evidence.intervals import Interval, bits_per_byte, gain_in_bits, wilson
from ftkit.memory import memory_phase
from ftkit.training import HeldOutLoss, HeldOutWindows, token_losses

__all__ = ["Attribution", "Predictive", "WindowLosses", "predictive_comparison", "window_losses"]

_ENOUGH = 0.9
"""Accuracy whose whole interval must lie above for a passage to count as long enough; 40 passages can show it."""
_LENGTHS = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Tokens of passages that are tried, beside the whole window."""


@dataclass(frozen=True)
class WindowLosses:
    """What each token of some windows costs a model; the first token of a window is not asked for."""

    nats: np.ndarray
    """[windows, T - 1]."""
    bytes: np.ndarray
    """UTF-8 bytes that each of these tokens covers and that the tokenizer can write."""
    unknown: np.ndarray | None = None
    """Bytes of each that the tokenizer cannot write; an unknown token costs nothing. ``None`` where there are none."""

    def total(self) -> HeldOutLoss:
        """Sums of the windows."""
        unknown = self.unknown if self.unknown is not None else np.zeros_like(self.bytes)
        targets = ((unknown == 0) | (self.bytes > 0)).sum(1)
        return HeldOutLoss(self.nats.sum(1), targets, self.bytes.sum(1), unknown.sum(1) if unknown.any() else None)


@dataclass(frozen=True)
class Attribution:
    """How often passages of one length go to the model that learned from their corpus."""

    tokens: int
    """Tokens of a passage, the first included, with nothing before them."""
    bytes: float
    """Mean UTF-8 bytes that are predicted in it."""
    accuracy: Interval
    """Mean over the corpora of the share that goes to its own model; Wilson's interval over passages."""


@dataclass(frozen=True)
class Predictive:
    """k models on held-out text of k corpora."""

    passages: dict[str, int]
    """Windows of each corpus."""
    bits_per_byte: dict[str, dict[str, Interval]]
    """By model, the base first, and corpus."""
    gain: dict[str, dict[str, Interval]]
    """Bits per byte that each tuned model saves over the base, by model and corpus, paired."""
    margin: dict[str, Interval]
    """By corpus: bits per byte that its own model saves over the best of the others, paired."""
    attributed: dict[str, dict[str, int]]
    """Whole windows, by true corpus and by the model that they cost least."""
    chance: float
    """Accuracy of guessing: the floor; the ceiling is 1."""
    by_length: tuple[Attribution, ...]
    """Accuracy by length of the passage; the last is the whole window."""
    enough_tokens: int | None
    """Shortest of these lengths from which on the accuracy is at least 0.9 with its whole interval; ``None``: none."""

    @property
    def accuracy(self) -> Interval:
        """Of whole windows."""
        return self.by_length[-1].accuracy

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"accuracy": self.accuracy.as_dict()}


@memory_phase("evaluate")
@torch.inference_mode()
def window_losses(
    model: PreTrainedModel,
    heldout: Mapping[str, TokenStore],
    window_tokens: int,
    max_windows: int | None = 64,
    batch_rows: int = 16,
) -> dict[str, WindowLosses]:
    """Let a model read held-out text of several corpora.

    Args:
        model: A causal language model; it is left in the mode it was in.
        heldout: Held-out tokens by corpus, from one tokenizer for all models that are compared.
        window_tokens: T, tokens in a window.
        max_windows: Windows of each corpus, spread evenly; ``None`` takes all.
        batch_rows: Windows in a forward pass, fewer where their logits would be large.

    Returns:
        Losses by corpus, of the same windows for every model.
    """
    found = {}
    for name, store in heldout.items():
        windows = HeldOutWindows(store, window_tokens)
        numbers = windows.spread(max_windows)
        losses = [loss_BT for _, _, loss_BT, _ in token_losses(model, windows, numbers, batch_rows)]
        nats = torch.cat(losses)[:, :-1].double().cpu().numpy()
        covered, unknown = store.covered(window_tokens * numbers[:, None] + np.arange(1, window_tokens))
        found[name] = WindowLosses(nats, covered - unknown, unknown if unknown.any() else None)
    return found


def predictive_comparison(
    base: Mapping[str, WindowLosses], tuned: Mapping[str, Mapping[str, WindowLosses]]
) -> Predictive:
    """Compare models by how well they predict each other's text.

    Args:
        base: The base's losses by corpus; ``window_losses`` returned them, as those of the tuned models.
        tuned: Losses of the model of each corpus, by model and by corpus; the names of models and corpora are the same.

    Returns:
        Losses, gains, attribution, and the length of passage that it needs.

    Source: Stropkay et al. 2025, https://arxiv.org/abs/2510.21958, there with models trained from scratch.
    """
    names = list(tuned)
    totals = {model: {name: losses[name].total() for name in names} for model, losses in tuned.items()}
    floor = {name: base[name].total() for name in names}
    tokens = 1 + base[names[0]].nats.shape[1]
    lengths = [length for length in _LENGTHS if length < tokens] + [tokens]
    by_length = tuple(_attribution(tuned, names, length) for length in lengths)
    winners = _winners(tuned, names, tokens)
    enough = None
    for found in reversed(by_length):
        if found.accuracy.low < _ENOUGH:
            break
        enough = found.tokens
    return Predictive(
        passages={name: len(base[name].nats) for name in names},
        bits_per_byte={
            model: {name: bits_per_byte(total) for name, total in found.items()}
            for model, found in {"base model": floor, **totals}.items()
        },
        gain={
            model: {name: gain_in_bits(floor[name], total) for name, total in found.items()}
            for model, found in totals.items()
        },
        margin={name: _margin(totals, name) for name in names} if len(names) > 1 else {},
        attributed={
            name: {model: int((winners[name] == place).sum()) for place, model in enumerate(names)} for name in names
        },
        chance=1 / len(names),
        by_length=by_length,
        enough_tokens=enough,
    )


def _winners(tuned: Mapping[str, Mapping[str, WindowLosses]], names: Sequence[str], tokens: int) -> dict[str, Any]:
    """For each corpus, the number of the cheapest model of each passage; -1 where the cheapest cost the same."""
    found = {}
    for name in names:
        costs = np.stack([tuned[model][name].nats[:, : tokens - 1].sum(1) for model in names])
        ties = (costs == costs.min(0)).sum(0) > 1
        found[name] = np.where(ties, -1, costs.argmin(0))
    return found


def _attribution(tuned: Mapping[str, Mapping[str, WindowLosses]], names: Sequence[str], tokens: int) -> Attribution:
    """Accuracy over corpora of equal weight. The interval is that of the smallest corpus' number of passages for each,
    so that a long text does not promise what a short one cannot keep."""
    winners = _winners(tuned, names, tokens)
    chance = 1 / len(names)
    right = [
        float((np.where(winners[name] == -1, chance, winners[name] == place)).mean())
        for place, name in enumerate(names)
    ]
    passages = len(names) * min(map(len, winners.values()))
    num_bytes = np.mean([tuned[name][name].bytes[:, : tokens - 1].sum(1).mean() for name in names])
    return Attribution(tokens, float(num_bytes), wilson(float(np.mean(right)) * passages, passages))


def _margin(totals: Mapping[str, Mapping[str, HeldOutLoss]], name: str) -> Interval:
    others = [found[name] for model, found in totals.items() if model != name]
    best = min(others, key=lambda total: float(total.nats.sum()))  # of the same windows
    return gain_in_bits(best, totals[name][name])
