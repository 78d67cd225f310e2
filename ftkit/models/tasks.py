"""Which task an architecture is for, and the class of transformers that does it."""

from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
)

from ftkit.errors import ModelError

__all__ = ["TASKS", "check_direction", "reads_both_ways"]

TASKS: dict[str, Any] = {
    "causal-lm": AutoModelForCausalLM,
    "masked-lm": AutoModelForMaskedLM,
    "sequence-classification": AutoModelForSequenceClassification,
}


def reads_both_ways(config: Any) -> bool:
    """Whether a configuration is that of an encoder, whose tokens see their past and their future.

    Some encoders say so (``is_decoder`` is false); the others are known by having a masked head and no causal one.
    """
    if config.is_encoder_decoder:
        return False
    if (is_decoder := getattr(config, "is_decoder", None)) is not None:
        return not is_decoder
    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING


def check_direction(config: Any, task: str, where: str) -> None:
    """Refuse an encoder as a causal model, whose class would let each token see its future, and the reverse.

    Args:
        config: The model's configuration.
        task: What the model is asked for.
        where: What to call the model.

    Raises:
        ModelError: With the task that fits.
    """
    encoder = reads_both_ways(config)
    if task == "causal-lm" and encoder:
        raise ModelError(
            f"{where}: the architecture {config.model_type} reads in both directions, so it cannot predict the next"
            " token. Use it for masked-lm or sequence-classification, or take a GPT-like model."
        )
    if task == "masked-lm" and not encoder:
        raise ModelError(
            f"{where}: the architecture {config.model_type} does not read in both directions, so it cannot fill in"
            " masked tokens. Use it for causal-lm, or take a BERT-like model."
        )
