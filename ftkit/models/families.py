"""The model families: one small declaration each, and new models from one short line.

A declaration says what ``new:FAMILY`` starts from and where the parts of the architecture live, by the names of their
modules below the base model (``h.*.attn.c_attn``; ``*`` is the number of a block). Everything that speaks about parts
(selecting, freezing, tables, perturbing) reads this table and nothing else. A matrix that holds several parts says in
which order: GPT-2 stores query, key and value side by side along the outputs of a transposed matrix; CodeGen four times
query, value, key.

A family is added with one entry; ``tests/models/test_families.py`` says whether the entry is right.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from ftkit.errors import ModelError, nearest_name
from ftkit.models.configuration_ftkit_gpt2 import FtkitGPT2Config
from ftkit.models.configuration_ftkit_ladder import FtkitLadderConfig

__all__ = ["FAMILIES", "GROUPS", "Family", "Fused", "architecture_of", "differing", "new_config", "set_dropout"]

GROUPS = (
    "embedding", "embedding.type", "position", "attention.q", "attention.k", "attention.v", "attention.out",
    "mlp.in", "mlp.gate", "mlp.out", "norm", "pooler", "head", "classifier", "adapter", "other",
)  # fmt: skip
"""The groups that together hold every parameter element exactly once, in the order in which tables show them."""


@dataclass(frozen=True)
class Fused:
    """Several parts in one matrix, side by side along its outputs."""

    parts: tuple[str, ...]
    """Groups in the order in which they are stored."""
    output_dim: int = 0
    """Dimension of the outputs: 0 for ``nn.Linear``, 1 for GPT-2's transposed ``Conv1D``. Biases have only one."""
    repeats: int = 1
    """How often the whole order comes again."""


@dataclass(frozen=True)
class Family:
    """One architecture."""

    parts: Mapping[str, str | Fused]
    """Group of each module that holds parameters, by its name below the base model."""
    tiny: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the configuration that ``new:FAMILY`` starts from: about 100,000 parameters, which train on a CPU in
    seconds. Special tokens are left to the tokenizer: GPT-2's ids lie outside small vocabularies, and BERT's padding id
    0 would freeze that row."""

    def part_of(self, module: str) -> tuple[str | Fused, int | None]:
        """What a module is.

        Args:
            module: Its name below the base model.

        Returns:
            The group or the fused groups, ``other`` where the declaration does not know it, and the number of the
            block, ``None`` outside the blocks.
        """
        for pattern, part in self.parts.items():
            if found := re.fullmatch(re.escape(pattern).replace(r"\*", r"(\d+)") + r"(\..*)?", module):
                return part, int(found[1]) if "*" in pattern else None
        return "other", None


_Parts = dict[str, str | Fused]
_QKV = ("attention.q", "attention.k", "attention.v")
_GPT2_PARTS: _Parts = {
    "wte": "embedding", "wpe": "position",
    "h.*.attn.c_attn": Fused(_QKV, output_dim=1), "h.*.attn.c_proj": "attention.out",
    "h.*.mlp.c_fc": "mlp.in", "h.*.mlp.c_proj": "mlp.out",
    "h.*.ln_1": "norm", "h.*.ln_2": "norm", "ln_f": "norm", "lm_head": "head", "score": "classifier",
}  # fmt: skip
_GPT_NEO_PARTS: _Parts = {
    "wte": "embedding", "wpe": "position",
    "h.*.attn.attention.q_proj": "attention.q", "h.*.attn.attention.k_proj": "attention.k",
    "h.*.attn.attention.v_proj": "attention.v", "h.*.attn.attention.out_proj": "attention.out",
    "h.*.mlp.c_fc": "mlp.in", "h.*.mlp.c_proj": "mlp.out",
    "h.*.ln_1": "norm", "h.*.ln_2": "norm", "ln_f": "norm", "lm_head": "head", "score": "classifier",
}  # fmt: skip
_CODEGEN_PARTS: _Parts = {
    "wte": "embedding",
    "h.*.attn.qkv_proj": Fused(("attention.q", "attention.v", "attention.k"), repeats=4),
    "h.*.attn.out_proj": "attention.out", "h.*.mlp.fc_in": "mlp.in", "h.*.mlp.fc_out": "mlp.out",
    "h.*.ln_1": "norm", "ln_f": "norm", "lm_head": "head",
}  # fmt: skip
_LLAMA_PARTS: _Parts = {  # also those of the own GPT-2 and of Qwen3, which bears further norms
    "embed_tokens": "embedding", "embed_positions": "position",
    "layers.*.self_attn.q_proj": "attention.q", "layers.*.self_attn.k_proj": "attention.k",
    "layers.*.self_attn.v_proj": "attention.v", "layers.*.self_attn.o_proj": "attention.out",
    "layers.*.self_attn.q_norm": "norm", "layers.*.self_attn.k_norm": "norm",
    "layers.*.mlp.fc_in": "mlp.in", "layers.*.mlp.fc_out": "mlp.out",
    "layers.*.mlp.up_proj": "mlp.in", "layers.*.mlp.gate_proj": "mlp.gate", "layers.*.mlp.down_proj": "mlp.out",
    "layers.*.input_layernorm": "norm", "layers.*.post_attention_layernorm": "norm", "norm": "norm",
    "lm_head": "head", "score": "classifier",
}  # fmt: skip
_BERT_PARTS: _Parts = {
    "embeddings.word_embeddings": "embedding", "embeddings.token_type_embeddings": "embedding.type",
    "embeddings.position_embeddings": "position", "embeddings.LayerNorm": "norm",
    "encoder.layer.*.attention.self.query": "attention.q", "encoder.layer.*.attention.self.key": "attention.k",
    "encoder.layer.*.attention.self.value": "attention.v", "encoder.layer.*.attention.output.dense": "attention.out",
    "encoder.layer.*.attention.output.LayerNorm": "norm", "encoder.layer.*.intermediate.dense": "mlp.in",
    "encoder.layer.*.output.dense": "mlp.out", "encoder.layer.*.output.LayerNorm": "norm",
    "pooler": "pooler", "cls": "head", "classifier": "classifier",
}  # fmt: skip
_DISTILBERT_PARTS: _Parts = {
    "embeddings.word_embeddings": "embedding", "embeddings.position_embeddings": "position",
    "embeddings.LayerNorm": "norm", "transformer.layer.*.attention.q_lin": "attention.q",
    "transformer.layer.*.attention.k_lin": "attention.k", "transformer.layer.*.attention.v_lin": "attention.v",
    "transformer.layer.*.attention.out_lin": "attention.out", "transformer.layer.*.ffn.lin1": "mlp.in",
    "transformer.layer.*.ffn.lin2": "mlp.out", "transformer.layer.*.sa_layer_norm": "norm",
    "transformer.layer.*.output_layer_norm": "norm", "vocab_transform": "head", "vocab_layer_norm": "head",
    "vocab_projector": "head", "pre_classifier": "pooler", "classifier": "classifier",
}  # fmt: skip

_LLAMA_TINY = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "head_dim": 16,
}  # fmt: skip

FAMILIES: dict[str, Family] = {
    "bert": Family(
        _BERT_PARTS,
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256},
    ),
    "codegen": Family(_CODEGEN_PARTS, {"n_embd": 64, "n_layer": 2, "n_head": 4}),
    "distilbert": Family(_DISTILBERT_PARTS, {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 256}),
    "ftkit_gpt2": Family(_LLAMA_PARTS, {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "ftkit_ladder": Family(_LLAMA_PARTS, {"hidden_size": 64}),
    "gpt2": Family(_GPT2_PARTS, {"n_embd": 64, "n_layer": 2, "n_head": 4}),
    "gpt_neo": Family(_GPT_NEO_PARTS, {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "window_size": 32}),
    "llama": Family(_LLAMA_PARTS, _LLAMA_TINY),
    "qwen3": Family(_LLAMA_PARTS, _LLAMA_TINY),
}
"""Every supported family by its ``model_type``."""

_NO_SPECIALS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
_OWN: dict[str, Any] = {"ftkit_gpt2": FtkitGPT2Config, "ftkit_ladder": FtkitLadderConfig}
_VOCAB_SIZE = 256  # the byte tokenizer's values: a model without a given size can read bytes
_MAX_POSITIONS = 128  # small, for tests and --fast; recipes give the window's length


def new_config(
    spec: str, vocab_size: int | None = None, max_positions: int | None = None, labels: Sequence[str] | None = None
) -> PreTrainedConfig:
    """Parse the specification of a new model into its configuration.

    Args:
        spec: ``new:FAMILY[,key=value,...]``; a key is a field of the family's configuration, or an alias of it.
        vocab_size: Vocabulary size if the spec does not set it; ``None`` means 256.
        max_positions: Longest context in tokens if the spec does not set it; ``None`` means 128.
        labels: Names of the classes in the order of their ids; ``None`` means two unnamed ones.

    Returns:
        The configuration.

    Raises:
        ModelError: An unknown family or key, a value of the wrong type, or values that do not fit together.
    """
    family, *pairs = spec.removeprefix("new:").split(",")
    if family not in FAMILIES:
        raise ModelError(f"The spec {spec!r} asks for family {family!r}{nearest_name(family, FAMILIES)}")
    config_class: Any = _OWN.get(family) or type(AutoConfig.for_model(family))
    aliases: dict[str, str] = config_class.attribute_map
    inherited = {field.name for field in fields(PreTrainedConfig)}
    own = {field.name for field in fields(config_class)} - inherited - {"attention_types"}
    settings: dict[str, Any] = {name: value for name, value in _NO_SPECIALS.items() if name in own}
    settings |= FAMILIES[family].tiny
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


# What a configuration says of the computation: two models of equal weights may still compute differently.


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


# Dropout of a model that is loaded already, in any family.


_OF_BODY = re.compile(r"(?<!classifier_)(?<!classif_)(?<!qa_)(?:dropout|pdrop|dropout_prob)$")
"""Fields of a configuration that are a dropout of the body; heads have their own."""
_OF_MODULE = re.compile(r"(?:hidden_|activation_|attention_)?dropout$")
"""Numbers that modules of some architectures keep and drop by themselves, such as OPT and Bloom."""


def set_dropout(model: PreTrainedModel, share: float) -> int:
    """Set the dropout at every place that a model has for it: embeddings, attention, its output, MLP.

    What is dropped in attention is read from modules by some architectures and from the configuration by others, so
    both are set.

    Args:
        model: The model, changed in place; in eval mode nothing is dropped, whatever the share.
        share: Share that is dropped, in [0, 1).

    Returns:
        The number of places.

    Raises:
        ModelError: The architecture has no dropout.
    """
    config = model.config.get_text_config()
    names = [name for name in config.to_dict() if _OF_BODY.search(name) and not name.startswith("summary_")]
    for name in names:
        setattr(config, name, share)
    places = 0
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
            places += 1
            continue
        for name, value in vars(module).items():
            if _OF_MODULE.match(name) and isinstance(value, float | int):
                setattr(module, name, share)
                places += 1
    if not places:
        raise ModelError(f"dropout: {type(model).__name__} has no place for it; leave dropout out")
    return places
