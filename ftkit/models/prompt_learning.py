"""Prefix and prompt tuning on a transformers whose cache has a name that the installed peft does not know.

peft 0.21.2 looks for the cache of keys and values under ``past_key_values``, which transformers 5.24 calls ``cache``.
``generate`` would ignore a prefix and repeat a prompt before every token, and ``forward`` would warn. This module can
go when pyproject.toml asks for a peft that knows the new name.
"""

import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any

from ftkit.models.cache_ftkit_gpt2 import CACHE_NAME

__all__ = ["translate_cache_name"]

_OLD_NAME = "past_key_values"


def translate_cache_name(model: Any) -> None:
    """Let the base of a model with virtual tokens know its cache by the name that peft uses.

    Does nothing where peft and transformers use one name.

    Args:
        model: peft's model, whose base gets two methods. They are bound, so a deep copy of the model has its own.
    """
    from peft import PeftModelForCausalLM

    # peft uses the name as a literal, so it is one of the constants of the compiled function.
    if CACHE_NAME in PeftModelForCausalLM.prepare_inputs_for_generation.__code__.co_consts:
        return
    base = model.get_base_model()
    base.forward = MethodType(_forward_of(type(base)), base)
    if hasattr(model, "base_model_prepare_inputs_for_generation"):
        model.base_model_prepare_inputs_for_generation = MethodType(_prepared, base)


def _forward_of(architecture: type[Any]) -> Callable[..., Any]:
    """Return the ``forward`` of a class with a keyword for the old name, which peft looks for in its signature."""

    def forward(self: Any, *args: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        if past_key_values is not None:
            kwargs[CACHE_NAME] = past_key_values
        return architecture.forward(self, *args, **kwargs)

    signature = inspect.signature(architecture.forward)
    parameters = {name: parameter for name, parameter in signature.parameters.items() if name != _OLD_NAME}
    old = inspect.Parameter(_OLD_NAME, inspect.Parameter.KEYWORD_ONLY, default=None)
    ordered = sorted([*parameters.values(), old], key=lambda parameter: parameter.kind)
    forward.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]
    return forward


def _prepared(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Prepare the inputs of one step of ``generate`` as the class does, with the cache under its old name."""
    inputs: dict[str, Any] = type(self).prepare_inputs_for_generation(self, *args, **kwargs)
    if CACHE_NAME in inputs:
        inputs[_OLD_NAME] = inputs.pop(CACHE_NAME)
    return inputs
