"""What is minimised: a sum of losses in nats and the number of targets it is over.

Sums, not means: the engine divides once by the targets of the whole batch, so that the loss of a step does not depend
on how its windows are split over micro-batches and processes.

Shapes: B rows, T tokens, V vocabulary rows, C classes.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from ftkit.data import TokenSet
from ftkit.errors import ConfigError
from ftkit.models import log_probability_model
from ftkit.training.heads import chunked_cross_entropy, has_plain_head, hidden_states_of

__all__ = [
    "CLASSIFICATION",
    "IGNORED",
    "LOGITS",
    "LOG_PROBABILITIES",
    "MASKED_TOKENS",
    "NEXT_TOKEN",
    "NLL",
    "Batch",
    "LossModule",
    "Objective",
    "WeightedSum",
    "Where",
    "check_pairing",
    "form_of_output",
    "kl_to_base",
    "last_tokens",
    "loss_sums",
    "next_token_targets",
    "output_logits",
    "smoothed",
    "token_set_kl",
    "with_output_of",
]

LOGITS, LOG_PROBABILITIES, PROBABILITIES = "logits", "log-probabilities", "probabilities"

_ROWS = 64  # rows that are checked: a wrong kind of output shows in the first
_TOLERANCE = 0.01
"""Rounding of a log-softmax in bfloat16 moves a row's logsumexp by less; no row of logits of a model is so near to 0
by chance, let alone all of them."""


def form_of_output(output: torch.Tensor) -> str:
    """Say whether an output holds ``logits``, ``log-probabilities`` or ``probabilities``.

    Args:
        output: What a model gives, [..., V]; the first rows are looked at.
    """
    rows = output.detach().flatten(0, -2)[:_ROWS].float()
    if bool((rows.logsumexp(-1).abs() < _TOLERANCE).all()):
        return LOG_PROBABILITIES
    if bool((rows >= 0).all() and ((rows.sum(-1) - 1).abs() < _TOLERANCE).all()):
        return PROBABILITIES
    return LOGITS


def with_output_of(model: PreTrainedModel, objective: Any) -> PreTrainedModel:
    """Return the model with the output that an objective takes: for ``nll`` log-probabilities, with the same weights.

    Args:
        model: A model that gives logits.
        objective: An ``Objective`` or a ``WeightedSum``; one that mixes both forms is refused at the first step.
    """
    takes = {part.takes for _, part in objective.parts}
    return log_probability_model(model) if takes == {LOG_PROBABILITIES} else model


def check_pairing(output: torch.Tensor, takes: str, name: str) -> None:
    """Refuse an objective that would read a model's output as something else than it is.

    Args:
        output: What the model gives, [..., V].
        takes: The form that the objective takes, ``logits`` or ``log-probabilities``.
        name: The objective's name.

    Raises:
        ConfigError: Another form was found; with what to do.
    """
    found = form_of_output(output)
    if found == takes:
        return
    if found == PROBABILITIES:
        what = "probabilities (no row has a negative number, and each adds up to 1)"
        remedy = "leave the softmax out of the model, or take the logarithm there and choose the objective nll"
    elif found == LOG_PROBABILITIES:
        what = "log-probabilities (the logsumexp of every row is 0), so the softmax would be taken twice"
        remedy = "leave log_probability_model out, or choose the objective nll"
    else:
        offset = float(output.detach().flatten(0, -2)[0].float().logsumexp(-1))
        what = f"logits (the logsumexp of the first row is {offset:.3g}, not 0), whose negative has no lower bound"
        remedy = "choose the objective next_token, or give the model as log_probability_model(model)"
    raise ConfigError(f"objective {name}: it takes {takes}, and the model gives {what}; {remedy}")


Batch = dict[str, torch.Tensor]

IGNORED = -100
"""The label that counts nowhere; torch's and transformers' own."""


@dataclass(frozen=True)
class Objective:
    """A loss with one signature."""

    name: str
    loss_sum: Callable[[torch.Tensor, Batch], torch.Tensor]
    """Logits [B, T, V] (classes: [B, C]) and batch to a 0-dimensional float32 tensor: the sum over targets in nats."""
    num_targets: Callable[[Batch], int]
    """How many targets that sum is over, from the batch alone."""
    baseline: Callable[[int], float] = math.log
    """From V (or C) the mean loss in nats of a model that thinks everything equally likely; that of step 0."""
    causal: bool = True
    """Whether the model is a decoder, whose forward passes would keep keys and values for generation."""
    of_text: bool = True
    """Whether the targets are what a trained model predicts well, so that it should start below the baseline."""
    takes: str = LOGITS
    """What the model must give: ``logits`` or ``log-probabilities``."""
    targets: Callable[[Batch], torch.Tensor] | None = None
    """Targets [B, T] where ``loss_sum`` is nothing but their cross-entropy: then no step needs all logits at once."""

    @property
    def parts(self) -> tuple[tuple[float, "Objective"], ...]:
        """Itself, with weight 1."""
        return ((1.0, self),)


@dataclass(frozen=True)
class WeightedSum:
    """Several objectives over one forward pass; each is divided by its own number of targets, then weighted."""

    parts: tuple[tuple[float, Objective], ...]
    """Weights and objectives."""

    @property
    def name(self) -> str:
        """As it is written in settings."""
        return " + ".join(
            objective.name if weight == 1 else f"{weight:g}*{objective.name}" for weight, objective in self.parts
        )

    @property
    def of_text(self) -> bool:
        """Whether a trained model should start below the baseline with every part."""
        return all(objective.of_text for _, objective in self.parts)

    def baseline(self, num_choices: int) -> float:
        """The parts' baselines, weighted; ``num_choices`` is V (or C)."""
        return sum(weight * objective.baseline(num_choices) for weight, objective in self.parts)


def next_token_targets(labels_BT: torch.Tensor) -> torch.Tensor:
    """Labels moved one place to the left: position t is asked for token t + 1. The only place where labels are shifted.

    Args:
        labels_BT: Token ids aligned with the inputs, -100 where nothing is asked.

    Returns:
        Targets aligned with the logits, -100 at the last position.
    """
    return F.pad(labels_BT[:, 1:], (0, 1), value=IGNORED)


def _summed(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy summed over the targets that are asked for."""
    flat = logits.flatten(0, -2).float()
    return F.cross_entropy(flat, targets.flatten(), ignore_index=IGNORED, reduction="sum")


def _shifted(batch: Batch) -> torch.Tensor:
    return next_token_targets(batch["labels"])


def _next_token_sum(logits_BTV: torch.Tensor, batch: Batch) -> torch.Tensor:
    return _summed(logits_BTV, _shifted(batch))


def _label_sum(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    return _summed(logits, batch["labels"])


def _num_labels(batch: Batch) -> int:
    return int((batch["labels"] != IGNORED).sum())


def _num_shifted(batch: Batch) -> int:
    return int((batch["labels"][:, 1:] != IGNORED).sum())


NEXT_TOKEN = Objective("next_token", _next_token_sum, _num_shifted, targets=_shifted)
"""Cross-entropy of each token given those before it; ``labels`` [B, T] are aligned with ``input_ids``."""

MASKED_TOKENS = Objective("masked_tokens", _label_sum, _num_labels, causal=False)
"""Cross-entropy of the tokens that were asked for, given both sides; ``labels`` [B, T] stand where they are asked."""

CLASSIFICATION = Objective("classification", _label_sum, _num_labels, causal=False)
"""Cross-entropy of one class per row; ``labels`` [B]."""


class LossModule(nn.Module):
    """Model and objective as the one module that accelerate prepares, so that wrapper hooks fire on every forward.

    Args:
        model: The model.
        objective: What to minimise.
    """

    def __init__(self, model: PreTrainedModel, objective: Objective | WeightedSum) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self._checked = False

    @property
    def config(self) -> Any:
        """The model's configuration; DeepSpeed and FSDP read it from what they wrap."""
        return self.model.config

    @property
    def _no_split_modules(self) -> list[str]:
        """Classes of the model's blocks, each of which FSDP divides by itself.

        A block with a tensor that another place shares (BERT's embeddings and its head) stays with the rest: one tensor
        cannot be in two parts.
        """
        owners: dict[int, int] = {}
        for _, parameter in self.model.named_parameters(remove_duplicate=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
        wanted = set(self.model._no_split_modules or ())
        blocks = [module for module in self.model.modules() if type(module).__name__ in wanted]
        tied = {type(block).__name__ for block in blocks if any(owners[id(p)] > 1 for p in block.parameters())}
        return sorted({type(block).__name__ for block in blocks} - tied)

    def tie_weights(self, **kwargs: Any) -> None:
        """Tie the model's shared weights again, after a wrapper has moved them."""
        self.model.tie_weights(**kwargs)

    def forward(self, batch: Batch) -> torch.Tensor:
        """The sums of all parts, [K].

        Raises:
            ConfigError: At the first call: the model's output is not in the form that a part takes.
        """
        sums_K = loss_sums(self.model, batch, self.objective, check=not self._checked)
        self._checked = True
        return torch.stack(sums_K)


def output_logits(model: PreTrainedModel, batch: Batch, objective: Objective | WeightedSum) -> torch.Tensor:
    """What a model gives for a batch, aligned with it: [B, T, V], of a classifier [B, C].

    Args:
        model: The model.
        batch: Its inputs, and ``labels``.
        objective: What it is for.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    options = {"use_cache": False} if any(part.causal for _, part in objective.parts) else {}
    logits: torch.Tensor = model(**inputs, **options).logits
    if logits.ndim == 3:
        logits = logits[:, -batch["input_ids"].shape[1] :]  # prompt tuning puts its virtual tokens first
    return logits


def loss_sums(
    model: PreTrainedModel, batch: Batch, objective: Objective | WeightedSum, *, check: bool = False
) -> list[torch.Tensor]:
    """One forward pass and the sum over targets of each part of an objective, without all logits where that can be.

    Args:
        model: The model.
        batch: Its inputs, and ``labels``.
        objective: What to minimise.
        check: Whether to look that the output is in the form that each part takes; a plain head gives logits.

    Raises:
        ConfigError: It is looked for, and is not.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    asked = [part.targets for _, part in objective.parts]
    if all(asked) and has_plain_head(model) and not _in_float16(batch["input_ids"].device):
        head: Any = model.get_output_embeddings()
        hidden_ND = hidden_states_of(model, inputs).flatten(0, 1)
        return [
            chunked_cross_entropy(hidden_ND, head.weight, targets(batch).flatten(), IGNORED, head.bias)
            for targets in asked
            if targets is not None
        ]
    logits = output_logits(model, batch, objective)
    for _, part in objective.parts if check else ():
        check_pairing(logits, part.takes, part.name)
    return [part.loss_sum(logits, batch) for _, part in objective.parts]


def _in_float16(device: torch.device) -> bool:
    """Whether autocast computes in float16, where gradients that loss scaling has not yet enlarged would vanish."""
    return torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.float16


# Objectives beyond those of a family's own task: fewer targets, softer targets, and distributions instead of tokens.
#
# Shapes: B rows, T tokens, V vocabulary rows, N positions that are asked.


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
