"""Which task an architecture is for, and the class of transformers that does it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    PreTrainedModel,
)

from ftkit.errors import ModelError
from ftkit.models.adapter_files import is_adapter, virtual_tokens

__all__ = [
    "TASKS",
    "check_direction",
    "check_next_token",
    "no_stored_generation_settings",
    "reads_both_ways",
    "usable_positions",
]

TASKS: dict[str, Any] = {
    "causal-lm": AutoModelForCausalLM,
    "masked-lm": AutoModelForMaskedLM,
    "sequence-classification": AutoModelForSequenceClassification,
}

_PROBE_IDS = (5, 3, 4, 2, 6, 5, 3)
"""Token ids of the causality check: below every vocabulary's end, and without 0 and 1, which often mean padding."""
_LEAK = 1e-4
"""Largest change of earlier logits, relative to all logits, that is rounding. Experts and scans add in another order
for another text: measured up to 2e-6 in float32; a model that sees the future changes by more than 0.01."""


def reads_both_ways(config: Any) -> bool:
    """Return whether a configuration is that of an encoder, whose tokens see their past and their future.

    transformers' own lists of classes decide. Architectures in both lists (BERT, RoBERTa, ELECTRA, XLM, ...) are
    encoders unless their configuration says ``is_decoder`` or, for XLM, ``causal``. In all others these fields mean
    nothing: GPT-NeoX is a decoder and says ``is_decoder: false``.
    """
    if config.is_encoder_decoder:
        return False
    causal, masked = _has_class(config, "causal-lm"), _has_class(config, "masked-lm")
    if causal and masked:
        return not (getattr(config, "is_decoder", False) or getattr(config, "causal", False))
    return masked


def _has_class(config: Any, task: str) -> bool:
    """Whether transformers, or the code that a folder brings along, has a class for a task."""
    brought = getattr(config, "auto_map", None) or {}
    return type(config) in TASKS[task]._model_mapping or TASKS[task].__name__ in brought


def _other_senses(config: Any, task: str) -> list[str]:
    """What the class of a task reads beside text; nothing where that class is the text model of a larger one."""
    chosen = TASKS[task]._model_mapping.get(type(config), None)
    if getattr(chosen, "config_class", None) is not type(config):
        return []
    parts = (name.removesuffix("_config").removesuffix("_encoder") for name in config.sub_configs)
    return [part for part in parts if part in ("audio", "image", "video", "vision")]


def check_direction(config: Any, task: str, where: str) -> None:
    """Refuse an architecture that cannot do a task, with what to use instead.

    Args:
        config: The model's configuration.
        task: What the model is asked for.
        where: What to call the model.

    Raises:
        ModelError: With the task or the tool that fits.
    """
    kind = config.model_type
    if task != "sequence-classification" and config.is_encoder_decoder:
        raise ModelError(
            f"{where}: {kind} is an encoder-decoder model. ftkit trains causal models, masked models and text"
            " classifiers. Use transformers.Seq2SeqTrainer for it, or take a GPT-like model."
        )
    if not any(_has_class(config, known) for known in TASKS):
        raise ModelError(
            f"{where}: the architecture {kind} is no model of text alone: transformers has no class for causal-lm,"
            " masked-lm or sequence-classification. Use transformers.Trainer or TRL for it, or take a language model."
        )
    if senses := _other_senses(config, task):
        raise ModelError(
            f"{where}: the architecture {kind} reads {' and '.join(senses)} beside text. ftkit trains models of text"
            " alone. Use TRL's SFTTrainer for it, or take its text model."
        )
    encoder = reads_both_ways(config)
    if task == "causal-lm" and encoder:
        raise ModelError(
            f"{where}: the architecture {kind} reads in both directions, so it cannot predict the next"
            " token. Use it for masked-lm or sequence-classification, or take a GPT-like model."
        )
    if task == "masked-lm" and not encoder:
        raise ModelError(
            f"{where}: the architecture {kind} does not read in both directions, so it cannot fill in"
            " masked tokens. Use it for causal-lm, or take a BERT-like model."
        )


@torch.no_grad()
def check_next_token(model: PreTrainedModel, where: str) -> None:
    """Refuse a causal model that cannot read text alone, or in which a token sees the tokens after it.

    The model reads two short rows that differ in their last token only. The class does not say it for every
    architecture: XLNet and BertGeneration are in transformers' causal list and see the future by default.

    Args:
        model: What was built or loaded, in eval mode.
        where: What to call the model.

    Raises:
        ModelError: With the reason.
    """
    kind = model.config.model_type
    text: Any = model.config.get_text_config()
    rows = int(getattr(text, "vocab_size", 0) or 8)
    before = _PROBE_IDS[: (usable_positions(model) or len(_PROBE_IDS) + 1) - 1]
    ids = torch.tensor([[*before, 7], [*before, 2]], device=model.device) % rows
    if not model.can_generate():
        raise ModelError(
            f"{where}: the class {type(model).__name__} has no generate, so it writes no text; take another model"
        )
    try:
        first, second = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.double()
    except Exception as error:  # what an architecture raises without its images, sounds or packages is its own affair
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(
            f"{where}: a forward pass of {kind} on a test text failed ({type(error).__name__}: {reason}). ftkit"
            " trains text-only models; choose another model, or train this one with transformers.Trainer or TRL."
        ) from error
    if len(first) != ids.shape[1]:
        raise ModelError(f"{where}: {kind} gives logits for {len(first)} of {ids.shape[1]} tokens; take another model")
    _check_generation(model, ids, kind, where)
    change = float((first[:-1] - second[:-1]).abs().max())
    if change > _LEAK * max(float(first.abs().max()), 1e-6):
        raise ModelError(
            f"{where}: the architecture {kind} as configured lets a token see the tokens after it (earlier logits"
            f" change by {change:.2g} with the last token), so it cannot predict the next token. Set is_decoder or"
            " causal in its config.json where it has that field, or take a GPT-like model."
        )


def _check_generation(model: PreTrainedModel, ids: torch.Tensor, kind: str, where: str) -> None:
    """Refuse a model whose ``generate`` fails: it would be found out after the training, when it shall write."""
    written = GenerationConfig(max_new_tokens=2, min_new_tokens=2, do_sample=False, pad_token_id=0, eos_token_id=None)
    prompt = ids[:, : max(ids.shape[1] - 2, 1)]
    try:
        with no_stored_generation_settings(model):
            generate: Any = model.generate
            generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), generation_config=written)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(
            f"{where}: {kind} as configured cannot write ({type(error).__name__}: {reason}), so nothing of what it"
            " learns could be shown. Take another model."
        ) from error


# How many tokens of text a model can read at once.


def usable_positions(model: nn.Module) -> int | None:
    """Return the longest text in tokens that a model can read.

    It is less than ``max_position_embeddings`` where the model needs positions for itself: RoBERTa and its relatives
    (XLM-RoBERTa, CamemBERT, Longformer, MPNet, ...) number their tokens from ``padding_idx + 1``, so that 128 of 130
    rows can be used. OPT and BART shift theirs too, but their tables are longer by that shift. An adapter's virtual
    tokens take positions as well.

    Args:
        model: Any Hugging Face model, on any device, also the meta device; or peft's wrapper around one.

    Returns:
        Tokens, or ``None`` where the architecture has no limit.
    """
    wrapped: Any = model
    config: Any = getattr(wrapped, "config", None)
    if config is None:
        return None
    # A limit of MPT has another name: its ALiBi slopes are built for so many tokens.
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)
    if not limit:
        return None
    return int(limit) - _first_position(model, int(limit)) - virtual_tokens(model)


def _first_position(model: nn.Module, limit: int) -> int:
    """The number of the first token's position, where the table of positions has no row to spare for it."""
    offsets = [
        int(module.padding_idx) + 1
        for name, module in model.named_modules()
        if name.endswith("position_embeddings")
        and getattr(module, "padding_idx", None) is not None
        and getattr(module, "num_embeddings", limit) <= limit
    ]
    return max(offsets, default=0)


# Generation without what a model's folder says of it.


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
