"""A model between a base and one that was tuned from it: base + alpha x (tuned - base)."""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ftkit.errors import ModelError
from ftkit.models import is_adapter, virtual_tokens

__all__ = ["Blend", "blends_in_place"]

_SHOWN = 5
"""Tensors that an error names."""


class Blend:
    """Sets a model to any point on the line through base and tuned model; 0 and 1 give their values bit by bit.

    Args:
        base: The model before; ``None`` where ``tuned`` is an adapter of which ``blends_in_place`` holds.
        tuned: The model after. It is left as it is, an adapter is scaled in a copy.
        dtype: Values are rounded to it, so that a model is measured as it will be saved; ``None`` rounds nothing.

    Raises:
        ModelError: Virtual tokens, which are no weights, or tensors of other names or shapes.

    Source: Wortsman et al. 2022, https://arxiv.org/abs/2109.01903, for whole models.
    """

    def __init__(self, base: PreTrainedModel | None, tuned: PreTrainedModel, dtype: torch.dtype | None = None) -> None:
        if virtual_tokens(tuned):
            raise ModelError("virtual tokens cannot be blended: the base has no weights in their place")
        self.model, self._dtype = copy.deepcopy(tuned), dtype
        if base is None:
            self._last = {name: tensor.clone() for name, tensor in tuned.state_dict().items() if _is_second(name)}
            self._first = {name: torch.zeros_like(tensor) for name, tensor in self._last.items()}
            return
        self._first, self._last = base.state_dict(), tuned.state_dict()
        _check_tensors(self._first, self._last)

    @torch.no_grad()
    def at(self, alpha: float) -> PreTrainedModel:
        """Set the model to a point.

        Args:
            alpha: 0 is the base, 1 the tuned model; others lie between them, or beyond.

        Returns:
            The model, which the next call changes.

        Raises:
            ModelError: Tensors that the tuned model ties and the base does not.
        """
        written: dict[tuple[Any, ...], str] = {}
        for name, target in self.model.state_dict().items():
            if name not in self._last:
                continue
            value = self._value(name, alpha)
            key = (target.data_ptr(), target.shape, target.stride())
            if (other := written.get(key)) and target.numel() and not torch.equal(target, value.to(target)):
                raise ModelError(
                    f"{name} and {other} are one tensor in the tuned model and two in the base; untie them"
                )
            written[key] = name
            target.copy_(value)
        return self.model

    def _value(self, name: str, alpha: float) -> Tensor:
        first, last = self._first[name], self._last[name]
        if not last.is_floating_point():
            return last if alpha else first
        value = first if alpha == 0 else last if alpha == 1 else first.float() + alpha * (last.float() - first.float())
        return value if self._dtype is None else value.to(self._dtype)


def blends_in_place(tuned: Any) -> bool:
    """Return whether an adapter alone can be scaled: LoRA whose effect adds to the weights.

    Args:
        tuned: Any model. That an adapter contains its base (``contains_base``) is not asked here.
    """
    if not is_adapter(tuned) or list(tuned.peft_config) != ["default"]:
        return False
    config = tuned.peft_config["default"]
    adds = config.peft_type == "LORA" and not getattr(config, "use_dora", False)
    return adds and not getattr(config, "trainable_token_indices", None)


def _is_second(name: str) -> bool:
    """Whether a tensor is the second matrix of a LoRA, or its bias: the effect is proportional to it."""
    return any(f".{part}." in name for part in ("lora_B", "lora_embedding_B"))


def _check_tensors(first: dict[str, Tensor], last: dict[str, Tensor]) -> None:
    shapes = [{name: list(tensor.shape) for name, tensor in state.items()} for state in (first, last)]
    if different := [name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name)]:
        shown = ", ".join(
            f"{name} (base {shapes[0].get(name, 'none')}, tuned {shapes[1].get(name, 'none')})"
            for name in different[:_SHOWN]
        )
        more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        raise ModelError(
            f"a blend needs tensors of equal shapes, and {len(different)} differ: {shown}{more}. Where tokens were "
            "added, add them to the base too and save it"
        )
