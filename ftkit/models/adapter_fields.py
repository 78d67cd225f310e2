"""Fields of ``adapter_config.json``: those that go to peft, those that do nothing, and the others, which are refused.

A field can name tokenizers, files and code to be fetched, so a foreign configuration is never handed over whole. One
that says how the training began (``init_lora_weights: "gaussian"``), or that is off, stops nobody.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftkit.errors import ModelError

if TYPE_CHECKING:
    from peft import PeftConfig

__all__ = ["known_fields"]

_SHAPE = {"num_virtual_tokens", "token_dim", "num_layers", "num_attention_heads", "num_transformer_submodules"}
_FOLLOWED = {
    "LORA": {
        "r", "lora_alpha", "lora_dropout", "use_dora", "use_rslora", "bias", "lora_bias", "target_modules",
        "exclude_modules", "target_parameters", "layers_to_transform", "layers_pattern", "rank_pattern",
        "alpha_pattern", "fan_in_fan_out", "modules_to_save", "trainable_token_indices", "ensure_weight_tying",
    },
    "IA3": {"target_modules", "exclude_modules", "feedforward_modules", "fan_in_fan_out", "modules_to_save"},
    "PREFIX_TUNING": {*_SHAPE, "encoder_hidden_size", "modules_to_save"},
    "PROMPT_TUNING": {*_SHAPE, "modules_to_save"},
}  # fmt: skip
_SAID_ELSEWHERE = {
    "peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping"
}  # fmt: skip
# How the training began, or parameters of what is switched off: every tensor of the adapter comes from the file.
_IDLE = {
    "LORA": {"megatron_core", "qalora_group_size", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
             "runtime_config"},
    "IA3": {"init_ia3_weights"},
    "PREFIX_TUNING": {"init_weights"},
    "PROMPT_TUNING": {
        "prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs"
    },
}  # fmt: skip
# The other ways to begin (pissa, olora, corda, loftq, mica, lora_ga) take something away from the base's weights.
_HARMLESS_STARTS = (True, "gaussian", "eva", "orthogonal")


def known_fields(folder: Path, stored: dict[str, Any]) -> "PeftConfig":
    """peft's configuration, made of the fields that ftkit follows.

    Args:
        folder: The adapter's folder, for messages.
        stored: What its ``adapter_config.json`` holds.

    Raises:
        ModelError: A type or a field that is not followed and would change what the adapter computes, with its value.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kind, task_type = str(stored.get("peft_type")), stored.get("task_type")
    if kind not in _FOLLOWED:
        raise ModelError(f"The adapter {folder} is of type {kind[:60]}; there is: {', '.join(_FOLLOWED)}")
    made: Any = PEFT_TYPE_TO_CONFIG_MAPPING
    followed = _FOLLOWED[kind] & {item.name for item in fields(made[kind])}  # an older peft knows fewer
    try:
        config: PeftConfig = made[kind](
            task_type=None if task_type is None else str(task_type),
            **{key: value for key, value in stored.items() if key in followed},
        )
        plain = json.loads(json.dumps(made[kind]().to_dict()))
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"The adapter {folder} cannot be read: {error}") from error
    foreign = {
        key: value
        for key, value in stored.items()
        if key not in followed | _SAID_ELSEWHERE
        and not _does_nothing(kind, key, value)
        and not (key in plain and value == plain[key])
    }
    if foreign:
        shown = ", ".join(f"{key} ({json.dumps(foreign[key])[:60]})" for key in sorted(foreign))
        raise ModelError(
            f"The adapter {folder} sets {shown}, which ftkit does not support and which may change what it computes."
            " Merge it with the tool that made it, and give the merged model."
        )
    return config


def _does_nothing(kind: str, key: str, value: Any) -> bool:
    """Whether a field has no effect on an adapter that is loaded."""
    if value is None or value is False or value in ({}, [], "") or key in _IDLE[kind]:
        return True
    return key == "init_lora_weights" and value in _HARMLESS_STARTS
