"""The same weights with another form of output: the logarithms of the probabilities instead of logits.

A row of logits and its log-softmax differ by one number for the whole row, which every softmax takes away again. So
nothing that is drawn from them changes, at any temperature, top-k or top-p; only the repetition penalty, which asks for
the sign of a logit, can tell them apart. (Lesson 06/015 says that temperature is lost. It is not: softmax(log p / T) is
softmax(z / T).)
"""

import copy
from collections import OrderedDict
from typing import Any

from torch import nn
from transformers import PreTrainedModel

__all__ = ["log_probability_model"]


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
