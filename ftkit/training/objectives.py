"""What is minimised: a sum of losses in nats and the number of targets it is over.

Sums, not means: the engine divides once by the targets of the whole batch, so that the loss of a step does not depend
on how its windows are split over micro-batches and processes.

Shapes: B rows, T tokens, V vocabulary rows, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

__all__ = [
    "CLASSIFICATION",
    "IGNORED",
    "MASKED_TOKENS",
    "NEXT_TOKEN",
    "Batch",
    "LossModule",
    "Objective",
    "next_token_targets",
]

Batch = dict[str, torch.Tensor]

IGNORED = -100
"""The label that counts nowhere; torch's and transformers' own."""


@dataclass(frozen=True)
class Objective:
    """A loss with one signature."""

    name: str
    loss_sum: Callable[[PreTrainedModel, Batch], torch.Tensor]
    """Model and batch to a 0-dimensional float32 tensor: the sum over targets in nats."""
    num_targets: Callable[[Batch], int]
    """How many targets that sum is over, from the batch alone."""


def next_token_targets(labels_BT: torch.Tensor) -> torch.Tensor:
    """Labels moved one place to the left: position t is asked for token t + 1. The only place where labels are shifted.

    Args:
        labels_BT: Token ids aligned with the inputs, -100 where nothing is asked.

    Returns:
        Targets aligned with the logits, -100 at the last position.
    """
    return F.pad(labels_BT[:, 1:], (0, 1), value=IGNORED)


def _next_token_sum(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    targets_BT = next_token_targets(batch["labels"])
    # Prompt tuning gives logits for its virtual tokens too, which come first.
    logits_BTV = model(**inputs, use_cache=False).logits[:, -targets_BT.shape[1] :]
    return F.cross_entropy(
        logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def _masked_token_sum(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits_BTV = model(**inputs).logits
    return F.cross_entropy(
        logits_BTV.flatten(0, 1).float(), batch["labels"].flatten(), ignore_index=IGNORED, reduction="sum"
    )


def _classification_sum(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits_BC = model(**inputs).logits
    return F.cross_entropy(logits_BC.float(), batch["labels"], ignore_index=IGNORED, reduction="sum")


NEXT_TOKEN = Objective("next_token", _next_token_sum, lambda batch: int((batch["labels"][:, 1:] != IGNORED).sum()))
"""Cross-entropy of each token given those before it; ``labels`` [B, T] are aligned with ``input_ids``."""

MASKED_TOKENS = Objective("masked_tokens", _masked_token_sum, lambda batch: int((batch["labels"] != IGNORED).sum()))
"""Cross-entropy of the tokens that were asked for, given both sides; ``labels`` [B, T] stand where they are asked."""

CLASSIFICATION = Objective("classification", _classification_sum, lambda batch: int((batch["labels"] != IGNORED).sum()))
"""Cross-entropy of one class per row; ``labels`` [B]."""


class LossModule(nn.Module):
    """Model and objective as the one module that accelerate prepares, so that wrapper hooks fire on every forward.

    Args:
        model: The model.
        objective: What to minimise.
    """

    def __init__(self, model: PreTrainedModel, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    @property
    def config(self) -> Any:
        """The model's configuration; DeepSpeed and FSDP read it from what they wrap."""
        return self.model.config

    @property
    def _no_split_modules(self) -> Any:
        return self.model._no_split_modules

    def tie_weights(self, **kwargs: Any) -> None:
        """Tie the model's shared weights again, after a wrapper has moved them."""
        self.model.tie_weights(**kwargs)

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.objective.loss_sum(self.model, batch)
