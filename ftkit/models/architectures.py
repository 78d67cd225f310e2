"""What a configuration says of the computation: two models of equal weights may still compute differently."""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from transformers import PreTrainedConfig

__all__ = ["architecture_of", "differing"]

_NO_COMPUTATION = re.compile(
    r"dropout|pdrop|_token_id$|^initializer_|^use_cache$|^summary_|^classifier_|^problem_type$"
)
"""Fields that training or decoding read, and that leave the logits of a text as they are."""


def architecture_of(config: PreTrainedConfig) -> dict[str, Any]:
    """Fields of the family's own configuration that the logits depend on.

    Args:
        config: A model's configuration.

    Returns:
        The fields with ``model_type``, as JSON holds them.
    """
    inherited = {item.name for item in fields(PreTrainedConfig)}
    own = {item.name for item in fields(type(config))} - inherited
    kept = {name: _value(config, name) for name in sorted(own) if not _NO_COMPUTATION.search(name)}
    found: dict[str, Any] = json.loads(json.dumps({"model_type": config.model_type, **kept}, default=str))
    return found


def _value(config: PreTrainedConfig, name: str) -> Any:
    """A field's value; Gemma 4 refuses to read one that may differ by layer, but writes what it was given."""
    try:
        return getattr(config, name, None)
    except Exception:  # an error of its own class
        return vars(config).get(name, config.to_dict().get(name))


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Fields that both have with different values, in words; empty where there is none."""
    return ", ".join(
        f"{name} {first[name]} and {second[name]}" for name in first if name in second and first[name] != second[name]
    )
