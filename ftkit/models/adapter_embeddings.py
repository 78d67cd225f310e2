"""Whole embeddings in an adapter's file: peft adds them where tokens were added or where the adapter stands on them.

They belong to the base, so they go into it before the adapter is put around it: first as many rows, then their values.
"""

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ftkit.errors import ModelError
from ftkit.models.cache_ftkit_gpt2 import CACHE_NAME
from ftkit.models.loader_errors import quiet, seeded

__all__ = ["Stored", "read_embeddings", "resize_for", "translate_cache_name"]

_logger = logging.getLogger("ftkit.models")
_ORIGINAL = ("base_layer.", "token_adapter.base_layer.", "original_module.")
"""Where peft's wrappers keep the module that was there before."""
_COPIES = {
    "modules_to_save.weight": "weight",
    "modules_to_save.bias": "bias",
}  # what peft writes a second time with a resized embedding


@dataclass(frozen=True)
class Stored:
    """Tensors of an adapter's file, divided."""

    adapter: dict[str, Tensor]
    """What belongs to the adapter."""
    base: dict[str, nn.Parameter]
    """Parameters of the base that the file holds too, by their names in the file."""


def _ends(base: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """Input and output embedding with their names."""
    ends = [base.get_input_embeddings(), base.get_output_embeddings()]
    for name, module in base.named_modules():
        if any(module is end for end in ends):
            yield name, module


def _replaced(base: PreTrainedModel, config: Any) -> set[str]:
    """Embeddings that ``modules_to_save`` names, whose values are the adapter's then."""
    wanted = config.modules_to_save or ()
    names = [name for name, _ in _ends(base)]
    found = {name for name in names if any(name == item or name.endswith(f".{item}") for item in wanted)}
    both = getattr(config, "ensure_weight_tying", False) and _is_tied(base)
    return set(names) if found and both else found


def _is_tied(base: PreTrainedModel) -> bool:
    rows, head = (getattr(end, "weight", None) for end in (base.get_input_embeddings(), base.get_output_embeddings()))
    return head is not None and head is rows


def _prefix(name: str, config: Any) -> str:
    return f"{'base_model.' if config.is_prompt_learning else 'base_model.model.'}{name}."


def resize_for(base: PreTrainedModel, config: Any, shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Give a base as many tokens as it had when the adapter was trained.

    Args:
        base: The base, changed in place.
        config: peft's configuration.
        shapes: Of the tensors in the adapter's file.
        where: The adapter, in words.

    Raises:
        ModelError: Embeddings of two sizes.
    """
    found: dict[int, str] = {}
    lacking = []
    for name, module in _ends(base):
        inside = {key: shapes[key] for key in shapes if key.startswith(_prefix(name, config))}
        for key, shape in inside.items():
            if len(shape) == 2 and not key.endswith(("lora_A.weight", "lora_embedding_B", "trainable_tokens_delta")):
                found.setdefault(shape[1] if key.endswith("lora_embedding_A") else shape[0], key)
        if not any(key.endswith(".weight") and ".lora_" not in key for key in inside):
            lacking.append((name, module))
    if len(found) > 1:
        sizes = " and ".join(f"{key} {rows}" for rows, key in found.items())
        raise ModelError(f"The adapter {where} holds embeddings of different sizes: {sizes} rows")
    rows: Any = base.get_input_embeddings().weight
    if not found or (wanted := next(iter(found))) == rows.shape[0]:
        return
    if lacking and not _is_tied(base):
        _logger.warning(
            "%s has %s tokens and its base %s, but its file lacks %s: rows of added tokens start there at the mean",
            where, f"{wanted:,}", f"{rows.shape[0]:,}", ", ".join(name for name, _ in lacking),
        )  # fmt: skip
    with quiet(), seeded(0):
        base.resize_token_embeddings(wanted, mean_resizing=not rows.is_meta)


def read_embeddings(base: PreTrainedModel, config: Any, tensors: Mapping[str, Tensor], where: str) -> Stored:
    """Copy whole embeddings of an adapter's file into the base, as peft does when it loads them.

    Args:
        base: The base with the right number of tokens, changed in place.
        config: peft's configuration.
        tensors: The adapter's file.
        where: The adapter, in words.

    Returns:
        What is left for the adapter, and what went into the base.

    Raises:
        ModelError: Two different matrices for one that is tied, or two copies that differ.
    """
    rest, replaced = dict(tensors), _replaced(base, config)
    trains_biases = getattr(config, "bias", "none") != "none"
    into: dict[str, nn.Parameter] = {}
    for name, module in _ends(base):
        prefix = _prefix(name, config)
        for key in [key for key in rest if key.startswith(prefix)]:
            own = key.removeprefix(prefix)
            if own in _COPIES and prefix + _COPIES[own] in rest:
                _check_same(rest.pop(key), rest[prefix + _COPIES[own]], key, where)
                continue
            plain = _name_in_base(own, name in replaced)
            parameter = getattr(module, plain, None) if plain else None
            if isinstance(parameter, nn.Parameter) and not (plain == "bias" and trains_biases):
                _copy(rest.pop(key), parameter, key, into, where)
    return Stored(_without_tied_rows(base, config, rest, where), into)


def _name_in_base(own: str, is_replaced: bool) -> str:
    """The name of a module's own parameter; empty for the adapter's."""
    for wrapper in _ORIGINAL:
        if own.startswith(wrapper) and "." not in own.removeprefix(wrapper):
            return own.removeprefix(wrapper)
    return "" if "." in own or own.startswith("lora_") or is_replaced else own


def _copy(tensor: Tensor, parameter: nn.Parameter, key: str, into: dict[str, nn.Parameter], where: str) -> None:
    if tensor.shape != parameter.shape:
        raise ModelError(
            f"The adapter {where} does not fit its base: {key} (file {tuple(tensor.shape)}, model"
            f" {tuple(parameter.shape)})"
        )
    if earlier := [other for other, tied in into.items() if tied is parameter]:
        _check_same(tensor.to(parameter), parameter.data, f"{key} and {earlier[0]}, one tensor in the base,", where)
    with torch.no_grad():
        parameter.copy_(tensor)
    into[key] = parameter


def _check_same(first: Tensor, second: Tensor, what: str, where: str) -> None:
    if not torch.equal(first, second):
        raise ModelError(f"The adapter {where} cannot be loaded: {what} have different values in its file")


def _without_tied_rows(base: PreTrainedModel, config: Any, tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Trained rows of a tied head, which are those of the embedding, once."""
    names: Iterable[str] = [_prefix(name, config) + "token_adapter.trainable_tokens_delta" for name, _ in _ends(base)]
    stored = [name for name in names if name in tensors]
    if len(stored) == 2 and _is_tied(base):
        _check_same(tensors[stored[0]], tensors.pop(stored[1]), " and ".join(stored), where)
    return tensors


# Prefix and prompt tuning on a transformers whose cache has a name that the installed peft does not know.
#
# peft 0.21.2 looks for the cache of keys and values under ``past_key_values``, which transformers 5.24 calls ``cache``.
# ``generate`` would ignore a prefix and repeat a prompt before every token, and ``forward`` would warn. This module can
# go when pyproject.toml asks for a peft that knows the new name.


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
