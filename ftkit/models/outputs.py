"""The same weights with another form of output: the logarithms of the probabilities instead of logits.

A row of logits and its log-softmax differ by one number for the whole row, which every softmax takes away again. So
nothing that is drawn from them changes, at any temperature, top-k or top-p; only the repetition penalty, which asks for
the sign of a logit, can tell them apart. (Lesson 06/015 says that temperature is lost. It is not: softmax(log p / T) is
softmax(z / T).)
"""

import copy
import math
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

__all__ = ["ROUNDING", "log_probability_model", "relative_difference"]


def _as_log_probabilities(module: nn.Module, arguments: Any, output: Any) -> Any:
    output.logits = output.logits.float().log_softmax(-1)
    return output


def log_probability_model(model: PreTrainedModel) -> PreTrainedModel:
    """A model whose ``.logits`` are log-probabilities, to be trained with the objective ``nll``.

    Args:
        model: A language model or classifier; it keeps its own output.

    Returns:
        A second face of the same weights: training either changes both. Saved, it is the model that was given, which
        gives logits.
    """
    adapted = copy.copy(model)
    # The copy's dictionary of hooks would be the model's own. It is set past nn.Module, which has no way to replace it.
    object.__setattr__(adapted, "_forward_hooks", OrderedDict(model._forward_hooks))
    adapted.register_forward_hook(_as_log_probabilities)
    return adapted


# How much two computations of the same outputs may differ: by rounding, and by no more.


ROUNDING = 1e-5
"""Relative difference of outputs that float32 arithmetic may leave between two loads of the same weights.

The last bit of a product depends on where its operands lie in memory on some processors (3.7e-9 measured on an AMD
EPYC). 1e-5 is also what ``torch.testing.assert_close`` allows for float32.
"""


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference of two outputs, relative to the largest expected magnitude where that is above 1.

    Args:
        found: Outputs of any shape.
        expected: Outputs of the same shape.

    Returns:
        A number of at least 0; infinity where the shapes differ or a value is not finite.
    """
    if found.shape != expected.shape:
        return math.inf
    bounds = [float(bound) for values in (found, expected) for bound in torch.aminmax(values)]  # NaN stays NaN
    if not all(map(math.isfinite, bounds)):
        return math.inf
    return float((found - expected).abs_().max()) / max(1.0, -bounds[2], bounds[3])
