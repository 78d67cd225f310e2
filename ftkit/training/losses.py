"""Objectives beyond those of a family's own task: fewer targets, softer targets, and distributions instead of tokens.

Shapes: B rows, T tokens, V vocabulary rows, N positions that are asked.
"""

import copy
import math
from typing import Literal

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from ftkit.data import TokenSet
from ftkit.errors import ConfigError
from ftkit.training.objectives import IGNORED, LOG_PROBABILITIES, Batch, Objective, next_token_targets, output_logits

__all__ = ["NLL", "Where", "kl_to_base", "last_tokens", "smoothed", "token_set_kl"]

Where = Literal["all", "last"]


def _num_next(batch: Batch) -> int:
    return int((batch["labels"][:, 1:] != IGNORED).sum())


def _nll_sum(log_p_BTV: torch.Tensor, batch: Batch) -> torch.Tensor:
    targets = next_token_targets(batch["labels"]).flatten()
    return F.nll_loss(log_p_BTV.flatten(0, 1).float(), targets, ignore_index=IGNORED, reduction="sum")


NLL = Objective("nll", _nll_sum, _num_next, takes=LOG_PROBABILITIES)
"""``NEXT_TOKEN`` for a model that gives log-probabilities (see ``log_probability_model``)."""


def last_tokens(count: int = 1) -> Objective:
    """``NEXT_TOKEN`` for the last targets of each row alone: a fraction of the signal for the same forward pass.

    Args:
        count: Targets a row, at least 1; a row that has fewer gives what it has.

    Source: lessons 06/010 and 06/018, with count 1.
    """
    if count < 1:
        raise ConfigError(f"last_tokens: {count} targets a row leave nothing to learn; give 1 or more")

    def targets(batch: Batch) -> torch.Tensor:
        targets_BT = next_token_targets(batch["labels"])
        left_BT = (targets_BT != IGNORED).flip(1).cumsum(1).flip(1)  # targets from here to the end of the row
        return torch.where(left_BT <= count, targets_BT, IGNORED)

    def loss_sum(logits_BTV: torch.Tensor, batch: Batch) -> torch.Tensor:
        targets_BT = targets(batch)
        asked_BT = targets_BT != IGNORED
        return F.cross_entropy(logits_BTV[asked_BT].float(), targets_BT[asked_BT], reduction="sum")

    name = "last_token" if count == 1 else f"last_tokens:{count}"
    return Objective(name, loss_sum, lambda batch: int((targets(batch) != IGNORED).sum()), targets=targets)


def smoothed(share: float) -> Objective:
    """``NEXT_TOKEN`` with label smoothing: the target is right with 1 - share, and anything with the rest.

    Args:
        share: Above 0 and below 1; spread evenly over all V rows, the right one included.

    Source: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7.
    """
    if not 0 < share < 1:
        raise ConfigError(
            f"smoothed: the share is {share:g}; it must be above 0 and below 1 (next_token smooths nothing)"
        )

    def loss_sum(logits_BTV: torch.Tensor, batch: Batch) -> torch.Tensor:
        targets = next_token_targets(batch["labels"]).flatten()
        flat = logits_BTV.flatten(0, 1).float()
        return F.cross_entropy(flat, targets, ignore_index=IGNORED, reduction="sum", label_smoothing=share)

    return Objective(f"smoothed:{share:g}", loss_sum, _num_next)


def _positions(batch: Batch, where: Where) -> torch.Tensor:
    """Which positions are asked, bool [B, T]: those that are not padding, or the last such of each row."""
    mask = batch.get("attention_mask")
    real_BT = torch.ones_like(batch["input_ids"], dtype=torch.bool) if mask is None else mask.bool()
    return real_BT & (real_BT.flip(1).cumsum(1).flip(1) == 1) if where == "last" else real_BT


def token_set_kl(tokens: TokenSet, mass: float = 1.0, where: Where = "all", *, causal: bool = True) -> Objective:
    """KL(target || model), where the target likes a set of tokens and looks at nothing else.

    Every token of the set has the probability ``mass`` / |S|, every other row (1 - ``mass``) / (V - |S|).

    Args:
        tokens: The set S, a mask over the model's V rows.
        mass: What the set gets together, from 0 to 1; with 1 the target is uniform over the set.
        where: Every position, or the last of each row.
        causal: Whether the model is a decoder.

    Returns:
        The objective; its baseline is m ln(m V / |S|) + (1 - m) ln((1 - m) V / (V - |S|)), the divergence of a model to
        which all rows are equally likely.

    Source: lessons 06/010 and 07/05.
    """
    if not 0 <= mass <= 1:
        raise ConfigError(f"token_set: the mass is {mass:g}; it is a share, from 0 to 1")
    num_rows, size = len(tokens.mask), len(tokens)
    inside, outside = mass / size, (1 - mass) / (num_rows - size)
    target_V = torch.from_numpy(tokens.mask).float() * (inside - outside) + outside
    negentropy = sum(m * math.log(p) for m, p in ((mass, inside), (1 - mass, outside)) if m > 0)

    def loss_sum(logits_BTV: torch.Tensor, batch: Batch) -> torch.Tensor:
        log_p_NV = logits_BTV[_positions(batch, where)].float().log_softmax(-1)
        return negentropy * len(log_p_NV) - (log_p_NV @ target_V.to(log_p_NV.device)).sum()

    described = f"token_set:{tokens.name}:{mass:g}" + (":last" if where == "last" else "")
    return Objective(
        described,
        loss_sum,
        lambda batch: int(_positions(batch, where).sum()),
        lambda num_choices: negentropy + math.log(num_choices),
        causal=causal,
        of_text=False,
    )


def kl_to_base(base: PreTrainedModel, *, causal: bool = True) -> Objective:
    """KL(base || model) at every position: what the model was is a target too, against forgetting.

    Args:
        base: The model as it was, with the same vocabulary; a frozen copy of it is made, in eval mode.
        causal: Whether the models are decoders.

    Returns:
        The objective; its baseline is 0, where training starts from the base.

    Source: Li and Hoiem 2016, https://arxiv.org/abs/1606.09282; as a penalty, Ziegler et al. 2019,
        https://arxiv.org/abs/1909.08593, equation 2 (there in the other direction).
    """
    frozen = copy.deepcopy(base).eval().requires_grad_(False)

    def loss_sum(logits_BTV: torch.Tensor, batch: Batch) -> torch.Tensor:
        frozen.to(logits_BTV.device)
        with torch.no_grad():
            base_BTV = output_logits(frozen, batch, objective)
        asked_BT = _positions(batch, "all")
        log_p_NV, log_base_NV = (x[asked_BT].float().log_softmax(-1) for x in (logits_BTV, base_BTV))
        return F.kl_div(log_p_NV, log_base_NV, reduction="sum", log_target=True)

    objective = Objective(
        "kl_to_base",
        loss_sum,
        lambda batch: int(_positions(batch, "all").sum()),
        lambda num_choices: 0.0,
        causal=causal,
        of_text=False,
    )
    return objective
