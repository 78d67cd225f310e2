"""How the models of a run are loaded: its start, and later what it has saved, under one rule for what is trusted."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel

from ftkit.config import TrainingSettings
from ftkit.data import load_tokenizer
from ftkit.models import load_model

__all__ = ["load_saved", "load_start", "load_start_tokenizer"]


def load_start(settings: TrainingSettings, model: str, **options: Any) -> PreTrainedModel:
    """Load what a run starts from.

    Args:
        settings: ``seed``, ``revision``, ``trust_remote_code`` and ``allow_pickle`` are read.
        model: A folder, a Hub id, or ``new:...``.
        options: What else ``load_model`` takes.
    """
    return load_model(
        model,
        seed=settings.seed,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
        allow_pickle=settings.allow_pickle,
        **options,
    )


def load_start_tokenizer(settings: TrainingSettings, model: str, texts: Sequence[str], with_mask: bool = False) -> Any:
    """Load the tokenizer that a run reads its texts with.

    Args:
        settings: ``tokenizer`` is read; without it the model's own is taken, under the settings that load the model.
        model: A folder, a Hub id, or ``new:...``.
        texts: What a tokenizer ``train:SIZE`` learns from.
        with_mask: Whether a new tokenizer needs a mask token.
    """
    if settings.tokenizer:
        return load_tokenizer(settings.tokenizer, texts=texts, with_mask=with_mask)
    return load_tokenizer(
        model,
        texts=texts,
        with_mask=with_mask,
        trust_remote_code=settings.trust_remote_code,
        revision=settings.revision,
    )


def load_saved(settings: TrainingSettings, folder: Any, task: str = "causal-lm") -> PreTrainedModel:
    """Load a model from the folder that a run has saved it to.

    A model that brings code along still needs it, and so does the base of an adapter, which may be pickled too.

    Args:
        settings: ``trust_remote_code`` and ``allow_pickle`` are read.
        folder: The folder.
        task: As for ``load_model``.
    """
    return load_model(
        str(folder), task=task, trust_remote_code=settings.trust_remote_code, allow_pickle=settings.allow_pickle
    )
