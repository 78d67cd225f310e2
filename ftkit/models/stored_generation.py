"""Generation without what a model's folder says of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig

from ftkit.models.adapter_files import is_adapter

__all__ = ["no_stored_generation_settings"]


@contextmanager
def no_stored_generation_settings(model: Any) -> Iterator[None]:
    """Hide the model's own ``generation_config`` inside the block.

    ``generate`` takes every setting that the caller leaves open from there: min_p, num_beams, suppressed and forced
    tokens, ... A folder's generation_config.json would so change what is measured.

    Args:
        model: A model that generates, or peft's wrapper around one.
    """
    layers = [model, model.base_model, model.get_base_model()] if is_adapter(model) else [model]
    holders = [layer for layer in layers if "generation_config" in vars(layer)]
    stored = [layer.generation_config for layer in holders]
    for layer in holders:
        layer.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for layer, config in zip(holders, stored, strict=True):
            layer.generation_config = config
