"""Loss on held-out rows, row by row, in nats and in bits per byte, for decoders and encoders alike."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from ftkit.memory import memory_phase
from ftkit.models.cache_ftkit_gpt2 import cache_argument, cache_of
from ftkit.training.datasets import CoveredBytes, HeldOutDataset
from ftkit.training.heads import has_plain_head, hidden_states_of
from ftkit.training.objectives import IGNORED, MASKED_TOKENS, NEXT_TOKEN, Batch, next_token_targets, output_logits

__all__ = [
    "JUDGED_WINDOWS",
    "MOST_UNKNOWN",
    "HeldOutLoss",
    "KeptStates",
    "evaluated_batches",
    "held_out_loss",
    "rows_at_once",
    "token_losses",
]

JUDGED_WINDOWS = 256
"""Windows of a text that a verdict reads at most, spread evenly: 65,000 tokens by default. All of a text of 10 MB would
take a model of 135 million parameters hours, and narrow intervals that decide already (docs/verdict.md)."""
MOST_UNKNOWN = 0.02
"""Share of a text's bytes that a tokenizer may not be able to write while bits per byte are still claimed."""
_LOGITS_BYTES = {"cpu": 2**27}
"""Logits of one forward pass of an evaluation: with 50,257 tokens, 16 windows of 256 would take 0.8 GB, three times."""
_LOGITS_BYTES_ELSEWHERE = 2**30  # an accelerator has gigabytes free and is slow at small batches


@dataclass(frozen=True)
class HeldOutLoss:
    """Loss of a model on the rows of a dataset; arrays have shape [rows]."""

    nats: np.ndarray
    """Sum over the row's targets."""
    targets: np.ndarray
    bytes: np.ndarray
    """UTF-8 bytes of the text that the targets cover and that the tokenizer can write."""
    unknown: np.ndarray | None = None
    """Bytes that the tokenizer cannot write; unknown tokens are no targets. ``None`` where there are none."""

    @classmethod
    def joined(cls, losses: "Sequence[HeldOutLoss]") -> "HeldOutLoss":
        """The rows of several datasets, one after the other.

        Args:
            losses: Of one model; at least one.
        """
        if len(losses) == 1:
            return losses[0]
        unknown = [np.zeros(len(each.nats)) if each.unknown is None else each.unknown for each in losses]
        nats, targets, size = (
            np.concatenate([getattr(each, name) for each in losses]) for name in ("nats", "targets", "bytes")
        )
        return cls(
            nats, targets, size, None if all(each.unknown is None for each in losses) else np.concatenate(unknown)
        )

    @property
    def unknown_share(self) -> float:
        """Share of the bytes that the tokenizer cannot write."""
        unknown = 0.0 if self.unknown is None else float(self.unknown.sum())
        return unknown / max(unknown + float(self.bytes.sum()), 1.0)

    @property
    def counts_bytes(self) -> bool:
        """Whether bits per byte may be claimed: hardly anything of the text is unknown to the tokenizer."""
        return self.unknown_share <= MOST_UNKNOWN and bool(self.bytes.sum())

    @property
    def nats_per_target(self) -> float:
        """Mean loss over all targets (not a mean of means); NaN where there are none."""
        return float(self.nats.sum() / self.targets.sum()) if self.targets.sum() else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Loss that can be compared across tokenizers, over the bytes that the tokenizer can write; NaN where more than
        ``MOST_UNKNOWN`` of them are unknown to it, because a model is then paid for what it cannot read."""
        return float(self.nats.sum() / math.log(2) / self.bytes.sum()) if self.counts_bytes else math.nan

    def __str__(self) -> str:
        if self.counts_bytes:
            return f"{self.bits_per_byte:.3f} bits/byte"
        return f"{self.nats_per_target:.3f} nats/token (no bits per byte: {self.unknown_share:.0%} of it is unknown)"


class KeptStates:
    """What a model's head read at some rows of an evaluation: what else is asked of these rows takes no second pass.

    Args:
        numbers: The rows whose states are kept, [256 x 576] of one window of a model of 135 million parameters.
    """

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers
        self._states: dict[int, torch.Tensor] = {}

    def logits(self, model: PreTrainedModel, batch: Batch, numbers: np.ndarray) -> torch.Tensor:
        """The logits of rows, [B, T, V]; the hidden states of those rows that are wanted are kept."""
        head: Any = model.get_output_embeddings()
        hidden_BTD = hidden_states_of(model, {name: each for name, each in batch.items() if name != "labels"})
        for number, hidden_TD in zip(numbers, hidden_BTD, strict=True):
            if number in self.numbers:
                self._states[int(number)] = hidden_TD.clone()
        output: torch.Tensor = head(hidden_BTD)
        return output

    def of(self, numbers: np.ndarray) -> torch.Tensor | None:
        """Those of some rows, [B, T, D]; ``None`` where a model's head cannot be asked alone."""
        found = [self._states[int(number)] for number in numbers if int(number) in self._states]
        return torch.stack(found) if len(found) == len(numbers) else None


def evaluated_batches(
    models: Sequence[PreTrainedModel], dataset: HeldOutDataset, numbers: np.ndarray, batch_rows: int
) -> Iterator[tuple[slice, Batch]]:
    """Go through rows of a dataset while models are in evaluation mode; each model gets its mode back at the end.

    Args:
        models: The models; batches are on the device of the first.
        dataset: The rows.
        numbers: Which rows.
        batch_rows: Rows in a batch.

    Yields:
        The batch's places in ``numbers``, and the batch.
    """
    device, modes = next(models[0].parameters()).device, [model.training for model in models]
    for model in models:
        model.eval()
    try:
        for first in range(0, len(numbers), batch_rows):
            part = slice(first, first + batch_rows)
            yield part, {name: tensor.to(device) for name, tensor in dataset.rows(numbers[part]).items()}
    finally:
        for model, was_training in zip(models, modes, strict=True):
            model.train(was_training)


def token_losses(
    model: PreTrainedModel,
    dataset: HeldOutDataset,
    numbers: np.ndarray,
    batch_rows: int = 16,
    kept: KeptStates | None = None,
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor, CoveredBytes]]:
    """Losses of a language model on each token of some rows, a batch at a time.

    Args:
        model: The model.
        dataset: The rows.
        numbers: Which rows.
        batch_rows: Rows in a forward pass, fewer where their logits would be large.
        kept: Keeps what the head reads, where a model has a plain head.

    Yields:
        Places in ``numbers``; targets [B, T], aligned with the logits; their losses in nats, float32 [B, T], 0 where
        there is no target; and the bytes that the targets cover.
    """
    objective = NEXT_TOKEN if dataset.causal else MASKED_TOKENS
    rows = rows_at_once(model, dataset.longest_row, batch_rows)
    after = _after_prefix(model, dataset.prefix) if dataset.prefix else None
    if after or not dataset.causal or not has_plain_head(model):
        kept = None
    for part, batch in evaluated_batches([model], dataset, numbers, rows):
        labels_BT = batch["labels"]
        covered = dataset.covered_bytes(numbers[part], labels_BT.cpu())
        if covered.is_unknown is not None:
            labels_BT = labels_BT.masked_fill(covered.is_unknown.to(labels_BT.device), IGNORED)
        targets_BT = next_token_targets(labels_BT) if dataset.causal else labels_BT
        if after:
            logits_BTV = after(batch)
        elif kept is not None:
            logits_BTV = kept.logits(model, batch, numbers[part])
        else:
            logits_BTV = output_logits(model, batch, objective)
        flat = logits_BTV.float().flatten(0, 1)  # classes last: with [B, V, T] torch would copy all logits once more
        loss_N = F.cross_entropy(flat, targets_BT.flatten(), ignore_index=IGNORED, reduction="none")
        del logits_BTV, flat
        yield part, targets_BT, loss_N.view(targets_BT.shape), covered


def _after_prefix(model: PreTrainedModel, prefix: Sequence[int]) -> Callable[[Batch], torch.Tensor]:
    """A function that gives the logits of rows after a prefix, whose keys and values are computed once."""
    was_training = model.training
    model.eval()
    ids_1P = torch.tensor([list(prefix)], device=next(model.parameters()).device)
    kept = cache_of(model(input_ids=ids_1P, use_cache=True))
    model.train(was_training)
    assert kept is not None

    def logits(batch: Batch) -> torch.Tensor:
        cache, mask_BT = copy.deepcopy(kept), batch["attention_mask"]
        cache.batch_repeat_interleave(len(mask_BT))
        mask = torch.cat([mask_BT.new_ones(len(mask_BT), len(prefix)), mask_BT], dim=1)
        output: torch.Tensor = model(
            input_ids=batch["input_ids"], attention_mask=mask, use_cache=True, **cache_argument(cache)
        ).logits
        return output

    return logits


@memory_phase("evaluate")
@torch.inference_mode()
def held_out_loss(
    model: PreTrainedModel,
    dataset: HeldOutDataset,
    max_rows: int | None = None,
    *,
    batch_rows: int = 16,
    kept: KeptStates | None = None,
) -> HeldOutLoss:
    """Evaluate a model on held-out rows; the model is left in the mode it was in.

    Args:
        model: A language model.
        dataset: The rows, such as ``HeldOutWindows`` of a text.
        max_rows: Rows to use, spread evenly; ``None`` uses all.
        batch_rows: Rows in a forward pass, fewer where their logits would be large.
        kept: Keeps what the head reads, where a model has a plain head.

    Returns:
        Sums for each row, in the order of the dataset.
    """
    numbers = dataset.spread(max_rows)
    nats, unknown = np.zeros(len(numbers)), np.zeros(len(numbers))
    targets, num_bytes = np.zeros(len(numbers), dtype=np.int64), np.zeros(len(numbers), dtype=np.int64)
    for part, targets_BT, loss_BT, covered in token_losses(model, dataset, numbers, batch_rows, kept):
        nats[part] = loss_BT.double().sum(1).cpu().numpy()
        targets[part] = (targets_BT != IGNORED).sum(1).cpu().numpy()
        num_bytes[part], unknown[part] = covered.known, covered.unknown
    return HeldOutLoss(nats, targets, num_bytes, unknown if unknown.any() else None)


def rows_at_once(model: PreTrainedModel, tokens: int, at_most: int) -> int:
    """Rows of a forward pass whose logits stay small.

    Args:
        model: A language model.
        tokens: Tokens in a row.
        at_most: Rows where nothing else limits them.
    """
    row_bytes = 4 * tokens * int(model.config.get_text_config().vocab_size)
    most = _LOGITS_BYTES.get(next(model.parameters()).device.type, _LOGITS_BYTES_ELSEWHERE)
    return max(1, min(at_most, most // row_bytes))
