"""Loss on held-out text, window by window, in nats and in bits per byte, for decoders and encoders alike."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from ftkit.data import Masking, StridedWindows, TokenStore
from ftkit.memory import memory_phase
from ftkit.training.objectives import IGNORED, next_token_targets

__all__ = ["MOST_UNKNOWN", "HeldOutLoss", "held_out_loss", "questions", "rows_at_once"]

MOST_UNKNOWN = 0.02
"""Share of a text's bytes that a tokenizer may not be able to write while bits per byte are still claimed."""
_LOGITS_BYTES = {"cpu": 2**27}
"""Logits of one forward pass of an evaluation: with 50,257 tokens, 16 windows of 256 would take 0.8 GB, three times."""
_LOGITS_BYTES_ELSEWHERE = 2**30


@dataclass(frozen=True)
class HeldOutLoss:
    """Loss of a model on consecutive windows of a text; arrays have shape [windows]."""

    nats: np.ndarray
    """Sum over the window's targets."""
    targets: np.ndarray
    bytes: np.ndarray
    """UTF-8 bytes of the text that the targets cover and that the tokenizer can write."""
    unknown: np.ndarray | None = None
    """Bytes that the tokenizer cannot write; unknown tokens are no targets. ``None`` where there are none."""

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


@memory_phase("evaluate")
@torch.inference_mode()
def held_out_loss(
    model: PreTrainedModel,
    store: TokenStore,
    window_tokens: int,
    *,
    masking: Masking | None = None,
    max_windows: int | None = None,
    batch_rows: int = 16,
) -> HeldOutLoss:
    """Evaluate a model on non-overlapping windows of a text; the model is left in the mode it was in.

    Args:
        model: A language model.
        store: The held-out tokens and the bytes that each covers.
        window_tokens: T, tokens in a window. Without masking the first of each is not a target; with it, the targets
            are the masked tokens.
        masking: What an encoder is asked for, the same in every evaluation; ``None`` asks for the next token.
        max_windows: Windows to use, spread evenly over the text; ``None`` uses all.
        batch_rows: Windows in a forward pass, fewer where their logits would be large.

    Returns:
        Sums for each window, in the order of the text.
    """
    text_tokens = masking.text_tokens(window_tokens) if masking else window_tokens
    windows = StridedWindows(store.ids, text_tokens, text_tokens)
    count = len(windows) if max_windows is None else min(max_windows, len(windows))
    chosen = np.linspace(0, len(windows) - 1, count).round().astype(np.int64)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    nats, unknown = np.zeros(count), np.zeros(count)
    targets, num_bytes = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    batch_rows = rows_at_once(model, window_tokens, batch_rows)
    for first in range(0, count, batch_rows):
        part = slice(first, first + batch_rows)
        covered_Bn, unknown_Bn = store.covered(windows.starts[chosen[part], None] + np.arange(text_tokens))
        whole_Bn = (unknown_Bn > 0) & (unknown_Bn == covered_Bn)
        inputs_BT, targets_BT, asked_Bn = questions(windows.batch(chosen[part]), chosen[part], masking, whole_Bn)
        options = {} if masking else {"use_cache": False}
        logits_BTV = model(input_ids=inputs_BT.to(device), **options).logits
        logits_BTV = logits_BTV[:, -targets_BT.shape[1] :]  # after any virtual tokens
        flat = logits_BTV.float().flatten(0, 1)  # classes last: with [B, V, T] torch would copy all logits once more
        loss_N = F.cross_entropy(flat, targets_BT.flatten().to(device), ignore_index=IGNORED, reduction="none")
        loss_BT = loss_N.view(targets_BT.shape)
        del logits_BTV, flat
        nats[part] = loss_BT.double().sum(1).cpu().numpy()
        # A mask is never put over a special token, so of unknown ones as many count as would have been asked.
        share_B1 = asked_Bn.sum(1, keepdims=True) / np.maximum((~whole_Bn).sum(1, keepdims=True), 1)
        chance_Bn = np.maximum(asked_Bn, whole_Bn * share_B1) if masking else asked_Bn
        unknown[part] = (unknown_Bn * chance_Bn).sum(1)
        num_bytes[part] = ((covered_Bn - unknown_Bn) * asked_Bn).sum(1)
        targets[part] = (asked_Bn & ~whole_Bn).sum(1)
    model.train(was_training)
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


def questions(
    ids_Bn: torch.Tensor, numbers: np.ndarray, masking: Masking | None, unknown_Bn: np.ndarray | None = None
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Inputs and targets, [B, T], and which tokens of the text are asked for, [B, n].

    Tokens that are wholly unknown are asked for as all others are, but they are no targets.
    """
    left_out_Bn = torch.from_numpy(np.zeros(ids_Bn.shape, dtype=bool) if unknown_Bn is None else unknown_Bn)
    if masking is None:
        asked_Bn = np.ones(ids_Bn.shape, dtype=bool)
        asked_Bn[:, 0] = False
        return ids_Bn, next_token_targets(ids_Bn.masked_fill(left_out_Bn, IGNORED)), asked_Bn
    inputs_BT, labels_BT = masking.rows(ids_Bn, numbers, seed=0)
    text = slice(len(masking.first), len(masking.first) + ids_Bn.shape[1])
    asked_Bn = (labels_BT != IGNORED).numpy()[:, text].copy()
    labels_BT[:, text].masked_fill_(left_out_Bn, IGNORED)
    return inputs_BT, labels_BT, asked_Bn
