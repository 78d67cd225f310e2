"""Dropout of a model that is loaded already, in any family."""

import re

from torch import nn
from transformers import PreTrainedModel

from ftkit.errors import ModelError

__all__ = ["set_dropout"]

_OF_BODY = re.compile(r"(?<!classifier_)(?<!classif_)(?<!qa_)(?:dropout|pdrop|dropout_prob)$")
"""Fields of a configuration that are a dropout of the body; heads have their own."""
_OF_MODULE = re.compile(r"(?:hidden_|activation_|attention_)?dropout$")
"""Numbers that modules of some architectures keep and drop by themselves, such as OPT and Bloom."""


def set_dropout(model: PreTrainedModel, share: float) -> int:
    """Set the dropout at every place that a model has for it: embeddings, attention, its output, MLP.

    What is dropped in attention is read from modules by some architectures and from the configuration by others, so
    both are set.

    Args:
        model: The model, changed in place; in eval mode nothing is dropped, whatever the share.
        share: Share that is dropped, in [0, 1).

    Returns:
        The number of places.

    Raises:
        ModelError: The architecture has no dropout.
    """
    config = model.config.get_text_config()
    names = [name for name in config.to_dict() if _OF_BODY.search(name) and not name.startswith("summary_")]
    for name in names:
        setattr(config, name, share)
    places = 0
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
            places += 1
            continue
        for name, value in vars(module).items():
            if _OF_MODULE.match(name) and isinstance(value, float | int):
                setattr(module, name, share)
                places += 1
    if not places:
        raise ModelError(f"dropout: {type(model).__name__} has no place for it; leave dropout out")
    return places
