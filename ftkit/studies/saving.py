"""The end of a training: the model in its folder, the folder held against the model, the phase sealed."""

from typing import Any

from transformers import PreTrainedModel

from ftkit.models import reload_difference, save_model
from ftkit.runs import RunFolder
from ftkit.training import BatchSource

__all__ = ["save_trained"]


def save_trained(
    run: RunFolder, name: str, model: PreTrainedModel, tokenizer: Any, source: BatchSource, **results: Any
) -> None:
    """Save a trained model, read it again, and seal its phase with the largest difference of logits; on process 0 only.

    Args:
        run: The run.
        name: The model's name: its folder in the run and its phase.
        model: The model as the training left it.
        tokenizer: Its tokenizer.
        source: What it was trained on; two of its rows are what both are asked about.
        results: What else the phase leaves in the manifest.

    Raises:
        ModelError: A folder that does not hold this model.
        CheckpointError: The disk refuses.
    """
    if not run.is_main:
        return
    save_model(model, tokenizer, run.model(name))
    difference = reload_difference(model, run.model(name), source.rows(range(2))["input_ids"])
    run.seal(name, reload_difference=difference, **results)
