"""The weights that an adapted model computes with, one tensor at a time."""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from ftkit.errors import ModelError
from ftkit.tuning.adapters import effective_model, stands_on_tied_end

if TYPE_CHECKING:
    from peft import PeftModel

__all__ = ["EffectiveWeights", "effective_weights"]

_PEFT_PREFIX = "base_model.model."
"""What peft puts before the names of the base's modules."""


@dataclass(frozen=True)
class EffectiveWeights:
    """The weights that an adapted model computes with."""

    plain: PreTrainedModel
    """A model without adapter: of ``layers`` it has the weights without what the adapter adds."""
    layers: dict[str, Any]
    """Layers to which the adapter adds, by their names in ``plain``."""

    def value(self, name: str) -> Tensor:
        """Return a tensor by its name in ``plain``; what the adapter adds is added to a copy of this tensor alone."""
        place, _, own = name.rpartition(".")
        if (layer := self.layers.get(place)) is None:
            return self.plain.get_parameter(name).detach()
        base = layer.get_base_layer()
        parts = dict(base.named_parameters(recurse=False))
        kept = {part: parameter.data for part, parameter in parts.items()}
        try:
            layer.merge(safe_merge=True)
            merged: Tensor = parts[own].detach()
            return merged
        except (ValueError, RuntimeError, NotImplementedError, AttributeError) as error:
            raise ModelError(f"the adapter cannot be merged: {error}") from error
        finally:
            for part, parameter in parts.items():
                parameter.data = kept[part]
            layer.merged_adapters.clear()


def effective_weights(model: "PeftModel") -> EffectiveWeights:
    """Describe the weights that an adapted model computes with, without copying all of them where peft allows that.

    Args:
        model: The adapted model; it is left as it is.

    Raises:
        ModelError: Prefix or prompt tuning, or weights that are not finite.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    wrapped: Any = model
    config = wrapped.peft_config["default"]
    found = {name: each for name, each in wrapped.named_modules() if isinstance(each, BaseTunerLayer)}
    nested = any(isinstance(getattr(each, "base_layer", None), BaseTunerLayer) for each in found.values())
    tokens = getattr(config, "trainable_token_indices", None)
    if config.is_prompt_learning or nested or tokens or stands_on_tied_end(model):
        return EffectiveWeights(effective_model(model), {})
    memo: dict[int, Any] = {id(each): nn.Parameter(each.data, requires_grad=False) for each in model.parameters()}
    memo |= {id(each): each for each in model.buffers()}
    twin = copy.deepcopy(wrapped, memo)  # shares every value with the model
    layers = {
        name.removeprefix(_PEFT_PREFIX): each for name, each in twin.named_modules() if isinstance(each, BaseTunerLayer)
    }
    return EffectiveWeights(twin.unload(), layers)
