"""What did it forget, and how much of that must be paid? Loss on general text, distance from the base, and scaling.

A change of weights can be taken back in part: base + scale x (tuned - base). Of an adapter whose effect adds to the
weights that is the adapter, scaled. The curve shows what each scale has learned and forgotten, so that one can choose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from ftkit.data import TokenStore
from ftkit.errors import ModelError
from ftkit.evidence.interpolation import ScaledPoint
from ftkit.evidence.intervals import Interval, bootstrap, gain_in_bits, relative_rise
from ftkit.memory import memory_phase
from ftkit.models import base_or_beneath, is_adapter, virtual_tokens
from ftkit.training import NEXT_TOKEN, HeldOutLoss, HeldOutWindows, evaluated_batches, held_out_loss
from ftkit.training.evaluation import KeptStates, rows_at_once
from ftkit.training.objectives import output_logits
from ftkit.tuning import merge_adapter
from ftkit.tuning.blend import Blend

if TYPE_CHECKING:
    from peft import PeftModel

    from ftkit.evidence.comparison import Comparison

__all__ = [
    "SCALES",
    "distances_from_base",
    "divergence_from_base",
    "scaled_models",
    "scaling_curve",
]

SCALES = (0.25, 0.5, 0.75, 1.25)
"""Scales that are measured between and beyond the base (0) and the tuned model (1)."""
_CURVE_WINDOWS = 12
"""Windows of each of two texts at a point of the curve: 24 in all. With 32 the curve took most of an evaluation."""


@memory_phase("evaluate")
@torch.inference_mode()
def divergence_from_base(
    base: PreTrainedModel | None,
    tuned: PreTrainedModel,
    store: TokenStore,
    window_tokens: int,
    max_windows: int | None = 32,
    batch_rows: int = 8,
    states: tuple[KeptStates, KeptStates] | None = None,
) -> Interval:
    """KL(base || tuned) over the next token, in bits per token; intervals resample windows.

    Args:
        base: The model before; ``None`` where ``tuned`` is an adapter that contains it.
        tuned: The model after, with the same vocabulary.
        store: The text whose beginnings are asked.
        window_tokens: T, tokens in a window.
        max_windows: Windows of the text, spread evenly; ``None`` takes all.
        batch_rows: Windows in a forward pass, fewer where their logits would be large.
        states: What both heads read at the windows that are asked, instead of ``max_windows``.
    """
    windows = HeldOutWindows(store, window_tokens)
    numbers = windows.spread(max_windows) if states is None else states[0].numbers
    of_base, of_tuned = states or (None, None)
    found = []
    rows = rows_at_once(tuned, 2 * window_tokens, batch_rows)  # of two models, and their difference
    models = [tuned] if base is None else [base, tuned]
    for part, batch in evaluated_batches(models, windows, numbers, rows):
        with base_or_beneath(base, tuned) as before:
            log_p_BTV = _log_probabilities(before, batch["input_ids"], of_base.of(numbers[part]) if of_base else None)
        log_q_BTV = _log_probabilities(tuned, batch["input_ids"], of_tuned.of(numbers[part]) if of_tuned else None)
        log_ratio_BTV = log_q_BTV.neg_().add_(log_p_BTV)  # in place: each of these is as large as all logits
        kl_BT = log_ratio_BTV.mul_(log_p_BTV.exp_()).sum(-1)[:, :-1]
        del log_p_BTV, log_q_BTV, log_ratio_BTV
        found.append(kl_BT.double().mean(1).cpu().numpy() / math.log(2))
    return bootstrap(lambda kl: kl.mean(-1), np.concatenate(found))


def _log_probabilities(model: PreTrainedModel, ids_BT: torch.Tensor, states_BTD: torch.Tensor | None) -> torch.Tensor:
    if states_BTD is not None:
        head: Any = model.get_output_embeddings()
        logits_BTV: torch.Tensor = head(states_BTD)
        return logits_BTV.float().log_softmax(-1)
    batch = {"input_ids": ids_BT.to(next(model.parameters()).device)}
    return output_logits(model, batch, NEXT_TOKEN).float().log_softmax(-1)


def scaled_models(
    base: PreTrainedModel, tuned: PreTrainedModel, scales: Sequence[float]
) -> Iterator[tuple[float, PreTrainedModel]]:
    """The base with its change scaled, one scale after the other in one model.

    Args:
        base: The model before.
        tuned: The model after; an adapter is merged first, in a copy.
        scales: 0 gives the base, 1 the tuned model.

    Yields:
        Scale and model; the model is used again for the next scale. Nothing where the change is no change of weights:
        virtual tokens, or other tensors than the base's.
    """
    if virtual_tokens(tuned):
        return
    plain: PreTrainedModel = merge_adapter(cast("PeftModel", tuned)) if is_adapter(tuned) else tuned
    try:
        blend = Blend(base, plain)
    except ModelError:
        return
    for scale in scales:
        yield scale, blend.at(scale)


def scaling_curve(
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    target: TokenStore,
    general: TokenStore,
    window_tokens: int,
    scales: Sequence[float] = SCALES,
    max_windows: int | None = _CURVE_WINDOWS,
) -> tuple[ScaledPoint, ...]:
    """What is learned and forgotten at every scale of the change, by scale, 0 and 1 included.

    Args:
        base: The model before.
        tuned: The model after.
        target: Held-out text of what it learned.
        general: Other text.
        window_tokens: Tokens in a window.
        scales: Scales beside 0 and 1.
        max_windows: Windows of each text, spread evenly; ``None`` takes all.

    Returns:
        The points; none for a model whose change is no change of weights.
    """

    texts = [HeldOutWindows(store, window_tokens) for store in (target, general)]

    def losses(model: PreTrainedModel) -> tuple[HeldOutLoss, HeldOutLoss]:
        one, other = (held_out_loss(model, rows, max_windows) for rows in texts)
        return one, other

    before = losses(base)
    found = []
    for scale, model in scaled_models(base, tuned, sorted({0.0, 1.0, *scales})):
        after = losses(model) if scale else before
        found.append(ScaledPoint(scale, gain_in_bits(before[0], after[0]), relative_rise(before[1], after[1])))
    return tuple(found)


def distances_from_base(comparison: Comparison) -> tuple[Interval | None, Interval | None]:
    """Divergence from the base on general text and on held-out text of the target; see ``divergence_from_base``.

    Args:
        comparison: Base, tuned model and both texts.

    Returns:
        Both, or ``None`` twice where the two models do not predict the next of the same tokens.
    """
    base, tuned, general = comparison.base, comparison.tuned, comparison.general_text
    rows = {model.config.get_text_config().vocab_size for model in (base, tuned) if model is not None}
    if general is None or not comparison.predicts_same_tokens or len(rows) > 1:
        return None, None
    on_general, on_target = (
        divergence_from_base(base, tuned, text, comparison.window_tokens, states=comparison.states_of(text))
        for text in (general, comparison.heldout_text)
    )
    return on_general, on_target
