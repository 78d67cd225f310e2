"""The base of an adapted model without loading it a second time: the same tensors, with the adapter switched off."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from ftkit.models.adapter_files import is_adapter, virtual_tokens

__all__ = ["base_beneath", "base_or_beneath", "contains_base", "plain_state", "tensors_beneath"]

_WRAPPED = (".token_adapter.base_layer.", ".base_layer.", ".original_module.")
"""What peft puts before the tensors of a module that it replaced."""


def contains_base(model: Any) -> bool:
    """Return whether an adapted model with its adapter switched off is its base, bit by bit.

    Not where the adapter trained parameters of the base in place (biases), brought embeddings of its own, or changed
    the base when it was attached (PiSSA, OLoRA). The record of the base tells: it has a hash over all of its tensors
    from before the adapter was attached.

    Args:
        model: Any model.
    """
    if not is_adapter(model) or list(model.peft_config) != ["default"]:
        return False
    config = model.peft_config["default"]
    own = getattr(model, "stored_embeddings", {}) or getattr(model, "base_was_resized", False)
    if own or getattr(config, "bias", "none") != "none" or getattr(config, "modules_to_save", None):
        return False
    return bool(_sha256(model) == model.base_record.sha256)


def tensors_beneath(model: Any) -> dict[str, torch.Tensor]:
    """Return the base's parameters in an adapted model by their names in the base; tied ones have all their names."""
    named = model.get_base_model().named_parameters(remove_duplicate=False)
    return {_plain(name): parameter.detach() for name, parameter in named if not _belongs_to_adapter(name)}


def plain_state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return a model's state, of the base in an adapted model by the names and without the tensors of the adapter.

    Args:
        model: A model, or what ``base_or_beneath`` gives.
    """
    state = model.state_dict()
    if not any(wrapper in name for name in state for wrapper in _WRAPPED):
        return state
    return {_plain(name): tensor for name, tensor in state.items() if not _belongs_to_adapter(name)}


def _plain(name: str) -> str:
    for wrapper in _WRAPPED:
        name = name.replace(wrapper, ".")
    return name


def _belongs_to_adapter(name: str) -> bool:
    """Whether a parameter is the adapter's: peft keeps them by the adapter's name."""
    return ".default" in name or "trainable_tokens_" in name


def _sha256(model: Any) -> str:
    """The hash of ``BaseRecord`` over the base as it is now."""
    digest = hashlib.sha256()
    seen: set[int] = set()
    names = {}
    for name, tensor in tensors_beneath(model).items():
        if tensor.data_ptr() not in seen or not tensor.numel():
            seen.add(tensor.data_ptr())
            names[name] = tensor
    for name, tensor in sorted(names.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def base_beneath(model: Any) -> Iterator[PreTrainedModel]:
    """The base of an adapted model, as long as the context lasts.

    Args:
        model: An adapted model of which ``contains_base`` holds.
    """
    if virtual_tokens(model):  # they stand before the base, which knows nothing of them
        yield model.get_base_model()
        return
    with model.disable_adapter():
        yield model.get_base_model()


@contextmanager
def base_or_beneath(base: PreTrainedModel | None, tuned: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """A base that was loaded, or the one in a tuned model.

    Args:
        base: The base; ``None`` where ``tuned`` contains it.
        tuned: The tuned model.
    """
    if base is not None:
        yield base
        return
    with base_beneath(tuned) as beneath:
        yield beneath
