"""New models from one short line: ``new:FAMILY,key=value``, with a tiny size for every family."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from ftkit.errors import ModelError, nearest_name
from ftkit.models.configuration_ftkit_gpt2 import FtkitGPT2Config

__all__ = ["new_config"]

# What ``new:FAMILY`` starts from: about 100,000 parameters, which train on a CPU in seconds. Special tokens are left
# to the tokenizer: GPT-2's ids lie outside small vocabularies, and BERT's padding id 0 would freeze that row.
_NO_SPECIALS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
_FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256},
    "codegen": {"n_embd": 64, "n_layer": 2, "n_head": 4},
    "ftkit_gpt2": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4},
    "gpt_neo": {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "window_size": 32},
}
_VOCAB_SIZE = 256
_MAX_POSITIONS = 128


def new_config(
    spec: str, vocab_size: int | None = None, max_positions: int | None = None, labels: Sequence[str] | None = None
) -> PreTrainedConfig:
    """Read the description of a new model.

    Args:
        spec: ``new:FAMILY[,key=value,...]``; a key is a field of the family's configuration under any of its names.
        vocab_size: Rows of the embedding where the spec does not say; ``None`` means 256.
        max_positions: Longest context in tokens where the spec does not say; ``None`` means 128.
        labels: Names of the classes in the order of their ids; ``None`` means two unnamed ones.

    Returns:
        The configuration.

    Raises:
        ModelError: An unknown family or key, a value of the wrong type, or values that do not fit together.
    """
    family, *pairs = spec.removeprefix("new:").split(",")
    if family not in _FAMILIES:
        raise ModelError(f"The spec {spec!r} asks for family {family!r}{nearest_name(family, _FAMILIES)}")
    config_class: Any = FtkitGPT2Config if family == "ftkit_gpt2" else type(AutoConfig.for_model(family))
    aliases: dict[str, str] = config_class.attribute_map
    inherited = {field.name for field in fields(PreTrainedConfig)}
    own = {field.name for field in fields(config_class)} - inherited - {"attention_types"}
    settings: dict[str, Any] = {name: value for name, value in _NO_SPECIALS.items() if name in own}
    settings |= _FAMILIES[family]
    settings["vocab_size"] = vocab_size if vocab_size is not None else _VOCAB_SIZE
    positions = max_positions if max_positions is not None else _MAX_POSITIONS
    settings[aliases.get("max_position_embeddings", "max_position_embeddings")] = positions
    given: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not text:
            raise ModelError(f"The spec {spec!r} has {pair!r} where key=value is expected")
        if key == "attention_types":
            raise ModelError(f"The spec {spec!r} sets attention_types, which follow from num_layers; leave it out")
        if key not in own and aliases.get(key) not in own:
            raise ModelError(
                f"The spec {spec!r} sets {key!r}, which {family} lacks{nearest_name(key, own | {*aliases})}"
            )
        name = aliases.get(key, key)
        if name in given:
            raise ModelError(f"The spec {spec!r} sets {name!r} twice")
        given[name] = _parsed(text)
    settings |= given
    try:
        settings |= {name: value for name, value in _derived(family, settings).items() if name not in given}
        if labels is not None:
            settings |= {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
        config: PreTrainedConfig = config_class(**settings)
    except Exception as error:  # strict configurations raise their own families of errors
        raise ModelError(f"The spec {spec!r} describes no {family} model: {' '.join(str(error).split())}") from error
    return config


def _derived(family: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that must fit others, so that a changed depth or width stays consistent."""
    if family == "gpt_neo":  # every second layer looks at a window only, as in the published models
        pairs, odd = divmod(settings["num_layers"], 2)
        types: list[Any] = [[["global", "local"], pairs]] if pairs else []
        return {"attention_types": types + ([[["global"], 1]] if odd else [])}
    if family == "codegen":
        if settings["n_head"] % 4 != 0:
            raise ValueError(
                f"n_head is {settings['n_head']}; CodeGen stores its heads in four parts, so give 4, 8, ..."
            )
        head_size = settings["n_embd"] // settings["n_head"]
        return {"rotary_dim": max(2, head_size // 4 * 2), "n_ctx": settings["n_positions"]}
    return {}


def _parsed(text: str) -> int | float | bool | str | None:
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
