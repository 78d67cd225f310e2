"""Exact conversion between ftkit's own GPT-2 and Hugging Face's: the same logits, to the last bit, in both directions.

Hugging Face stores query, key and value as one matrix and all block matrices as (inputs, outputs); the own model keeps
separate ``nn.Linear`` layers, (outputs, inputs). Conversion only splits, joins and transposes.
"""

import copy
import re
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, PreTrainedModel

from ftkit.errors import ModelError
from ftkit.models.configuration_ftkit_gpt2 import FtkitGPT2Config
from ftkit.models.modeling_ftkit_gpt2 import FtkitGPT2ForCausalLM, FtkitGPT2ForSequenceClassification

__all__ = ["CONVERTIBLE", "from_hf_gpt2", "to_hf_gpt2"]

# By name, because a class that came with remote code is another object of the same name.
_TO_HF: dict[str, type[Any]] = {
    "FtkitGPT2ForCausalLM": GPT2LMHeadModel,
    "FtkitGPT2ForSequenceClassification": GPT2ForSequenceClassification,
}
_FROM_HF: dict[str, type[Any]] = {
    "GPT2LMHeadModel": FtkitGPT2ForCausalLM,
    "GPT2ForSequenceClassification": FtkitGPT2ForSequenceClassification,
}

CONVERTIBLE = {"gpt2": tuple(_TO_HF), "ftkit_gpt2": tuple(_FROM_HF)}
"""Names of the classes that can be converted, by the architecture that they become."""

# Module names, own and Hugging Face's. The fused ``attn.c_attn`` is treated apart.
_OUTSIDE = {
    "model.embed_tokens": "transformer.wte",
    "model.embed_positions": "transformer.wpe",
    "model.norm": "transformer.ln_f",
    "lm_head": "lm_head",
    "score": "score",
}
_INSIDE = {
    "input_layernorm": "ln_1",
    "self_attn.o_proj": "attn.c_proj",
    "post_attention_layernorm": "ln_2",
    "mlp.fc_in": "mlp.c_fc",
    "mlp.fc_out": "mlp.c_proj",
}
_TRANSPOSED = {"attn.c_proj", "mlp.c_fc", "mlp.c_proj"}
_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")

# Settings of both configurations, own name and Hugging Face's.
_SETTINGS = {
    "vocab_size": "vocab_size",
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
    "hidden_act": "activation_function",
    "embedding_dropout": "embd_pdrop",
    "attention_dropout": "attn_pdrop",
    "attention_output_dropout": "resid_pdrop",
    "layer_norm_eps": "layer_norm_epsilon",
    "initializer_range": "initializer_range",
    "use_cache": "use_cache",
    "bos_token_id": "bos_token_id",
    "eos_token_id": "eos_token_id",
    "pad_token_id": "pad_token_id",
    "tie_word_embeddings": "tie_word_embeddings",
    "id2label": "id2label",
    "label2id": "label2id",
    "problem_type": "problem_type",
}


def to_hf_gpt2(model: PreTrainedModel) -> PreTrainedModel:
    """Convert an own GPT-2 to Hugging Face's.

    Args:
        model: ``FtkitGPT2ForCausalLM`` or ``FtkitGPT2ForSequenceClassification``.

    Returns:
        A new ``GPT2LMHeadModel`` or ``GPT2ForSequenceClassification`` with equal logits, in the donor's dtype, device
        and train or eval mode, which shares no storage with the donor.

    Raises:
        ModelError: Another class, or a setting that Hugging Face's GPT-2 does not have.
    """
    target_class = _counterpart(model, _TO_HF)
    config = model.config
    _refuse(
        "Hugging Face's GPT-2",
        {
            f"logit_scale={config.logit_scale} (it has 1.0 only)": config.logit_scale != 1.0,
            f"bias={config.bias} (it has True only)": not config.bias,
            f"attention_output_dropout={config.attention_output_dropout} with mlp_dropout={config.mlp_dropout}"
            " (it has one resid_pdrop for both)": config.attention_output_dropout != config.mlp_dropout,
        },
    )
    settings = {theirs: copy.deepcopy(getattr(config, own)) for own, theirs in _SETTINGS.items()}
    if config.intermediate_size == 4 * config.hidden_size:
        settings["n_inner"] = None  # as GPT-2's own files say it
    return _filled(target_class, GPT2Config(**settings), _hf_state(model.state_dict()), model)


def from_hf_gpt2(model: PreTrainedModel) -> PreTrainedModel:
    """Convert a Hugging Face GPT-2 to ftkit's own.

    Args:
        model: ``GPT2LMHeadModel`` or ``GPT2ForSequenceClassification``.

    Returns:
        A new ``FtkitGPT2ForCausalLM`` or ``FtkitGPT2ForSequenceClassification`` with equal logits, in the donor's
        dtype, device and train or eval mode, which shares no storage with the donor.

    Raises:
        ModelError: Another class, or a setting that the own GPT-2 does not have.
    """
    target_class = _counterpart(model, _FROM_HF)
    config = model.config
    _refuse(
        "ftkit's own GPT-2",
        {
            "scale_attn_weights=False": not config.scale_attn_weights,
            "scale_attn_by_inverse_layer_idx=True": config.scale_attn_by_inverse_layer_idx,
            "reorder_and_upcast_attn=True": config.reorder_and_upcast_attn,
            "add_cross_attention=True": config.add_cross_attention,
        },
    )
    settings = {own: copy.deepcopy(getattr(config, theirs)) for own, theirs in _SETTINGS.items()}
    settings["mlp_dropout"] = config.resid_pdrop
    return _filled(target_class, FtkitGPT2Config(**settings), _own_state(model.state_dict()), model)


def _counterpart(model: nn.Module, classes: dict[str, type[Any]]) -> type[Any]:
    name = type(model).__name__
    if name not in classes:
        raise ModelError(f"A {name} was given, which cannot be converted; there is: {', '.join(sorted(classes))}.")
    return classes[name]


def _refuse(target: str, reasons: dict[str, bool]) -> None:
    if found := [reason for reason, applies in reasons.items() if applies]:
        raise ModelError(
            f"{target} cannot express {'; '.join(found)}. Save the model in its own format, which keeps everything."
        )


def _filled(target_class: type[Any], config: Any, state: dict[str, Tensor], donor: PreTrainedModel) -> PreTrainedModel:
    """Build the target and copy the weights in; the caller's random state stays as it was."""
    config._attn_implementation = donor.config._attn_implementation
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        target: Any = target_class(config)
    target.to(device=donor.device, dtype=donor.dtype)
    try:
        target.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ModelError(f"The weights do not fit a {target_class.__name__}: {error}") from error
    if donor.can_generate():
        target.generation_config = copy.deepcopy(donor.generation_config)
    target.train(donor.training)
    converted: PreTrainedModel = target
    return converted


def _hf_state(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face's names and layouts for the own state dict."""
    state: dict[str, Tensor] = {}
    for key, tensor in own.items():
        name, kind = key.rsplit(".", 1)
        if name in _OUTSIDE:
            state[f"{_OUTSIDE[name]}.{kind}"] = tensor
            continue
        layer, inside = _layer_and_name(key, name, r"model\.layers\.(\d+)\.(.+)")
        if inside == _QKV[0]:
            parts = [own[f"model.layers.{layer}.{part}.{kind}"] for part in _QKV]
            fused = torch.cat(parts, dim=0)
            state[f"transformer.h.{layer}.attn.c_attn.{kind}"] = fused.t() if kind == "weight" else fused
        elif inside not in _QKV:
            theirs = _INSIDE.get(inside)
            if theirs is None:
                raise _unknown_weight(key)
            transposed = kind == "weight" and theirs in _TRANSPOSED
            state[f"transformer.h.{layer}.{theirs}.{kind}"] = tensor.t() if transposed else tensor
    return state


def _own_state(hf: dict[str, Tensor]) -> dict[str, Tensor]:
    """The own names and layouts for Hugging Face's state dict."""
    outside = {theirs: own for own, theirs in _OUTSIDE.items()}
    inside_names = {theirs: own for own, theirs in _INSIDE.items()}
    state: dict[str, Tensor] = {}
    for key, tensor in hf.items():
        name, kind = key.rsplit(".", 1)
        if name in outside:
            state[f"{outside[name]}.{kind}"] = tensor
            continue
        layer, inside = _layer_and_name(key, name, r"transformer\.h\.(\d+)\.(.+)")
        if inside == "attn.c_attn":
            for part, piece in zip(_QKV, tensor.chunk(3, dim=-1), strict=True):
                state[f"model.layers.{layer}.{part}.{kind}"] = piece.t() if kind == "weight" else piece
        else:
            own = inside_names.get(inside)
            if own is None:
                raise _unknown_weight(key)
            transposed = kind == "weight" and inside in _TRANSPOSED
            state[f"model.layers.{layer}.{own}.{kind}"] = tensor.t() if transposed else tensor
    return state


def _layer_and_name(key: str, name: str, pattern: str) -> tuple[str, str]:
    match = re.fullmatch(pattern, name)
    if match is None:
        raise _unknown_weight(key)
    return match[1], match[2]


def _unknown_weight(key: str) -> ModelError:
    return ModelError(
        f"The weight {key!r} belongs to no GPT-2; conversion knows plain models only. Merge adapters into it first."
    )
