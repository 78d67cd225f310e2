# This file travels to the Hub beside saved weights: it may import nothing of ftkit.
"""The name of the key-value cache in transformers: ``cache`` from 5.24 on, ``past_key_values`` before.

Nothing else in ftkit knows the difference. The old name can go when pyproject.toml asks for transformers 5.24.
"""

import dataclasses
from typing import Any

from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast

__all__ = ["CACHE_NAME", "cache_argument", "cache_of", "given_cache"]

_OUTPUTS = {field.name for field in dataclasses.fields(BaseModelOutputWithPast)}
CACHE_NAME = "cache" if "cache" in _OUTPUTS else "past_key_values"
"""The installed transformers' name of the cache, as an argument and in outputs."""


def cache_argument(cache: Cache | None) -> dict[str, Any]:
    """Return the keyword argument that hands a cache to a model, a mask or an output of transformers."""
    return {CACHE_NAME: cache}


def cache_of(output: Any) -> Cache | None:
    """Return the cache that a model's output holds."""
    cache: Cache | None = getattr(output, CACHE_NAME)
    return cache


def given_cache(cache: Cache | None, past_key_values: Cache | None) -> Cache | None:
    """Return the one cache of a call, whichever of its two names the caller knows.

    Raises:
        ValueError: Both were given.
    """
    if cache is not None and past_key_values is not None:
        raise ValueError("Give cache or past_key_values, not both: they are two names of one argument.")
    return past_key_values if cache is None else cache
