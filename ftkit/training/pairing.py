"""Whether a model's output is in the form that an objective takes.

All forms have the same shape, so nothing breaks when they are mixed up: a softmax over probabilities trains, slowly,
to a loss that cannot fall below ln V - 1, and the negative of a logit falls without end. A few rows tell them apart.
"""

from typing import Any

import torch
from transformers import PreTrainedModel

from ftkit.errors import ConfigError
from ftkit.models import log_probability_model

__all__ = ["LOGITS", "LOG_PROBABILITIES", "check_pairing", "form_of_output", "with_output_of"]

LOGITS, LOG_PROBABILITIES, PROBABILITIES = "logits", "log-probabilities", "probabilities"

_ROWS = 64
_TOLERANCE = 0.01
"""Rounding of a log-softmax in bfloat16 moves a row's logsumexp by less; no row of logits of a model is so near to 0
by chance, let alone all of them."""


def form_of_output(output: torch.Tensor) -> str:
    """``logits``, ``log-probabilities`` or ``probabilities``.

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
