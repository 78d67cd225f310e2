"""Loss on held-out text, window by window, in nats and in bits per byte."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from ftkit.data import StridedWindows, TokenStore
from ftkit.training.objectives import IGNORED, next_token_targets

__all__ = ["HeldOutLoss", "held_out_loss"]


@dataclass(frozen=True)
class HeldOutLoss:
    """Loss of a model on consecutive windows of a text; arrays have shape [windows]."""

    nats: np.ndarray
    """Sum over the window's targets."""
    targets: np.ndarray
    bytes: np.ndarray
    """UTF-8 bytes of the text that the targets cover."""

    @property
    def nats_per_target(self) -> float:
        """Mean loss over all targets (not a mean of means)."""
        return float(self.nats.sum() / self.targets.sum())

    @property
    def bits_per_byte(self) -> float:
        """Loss that can be compared across tokenizers."""
        return float(self.nats.sum() / math.log(2) / self.bytes.sum())


@torch.inference_mode()
def held_out_loss(
    model: PreTrainedModel,
    store: TokenStore,
    window_tokens: int,
    *,
    max_windows: int | None = None,
    batch_rows: int = 16,
) -> HeldOutLoss:
    """Evaluate a model on non-overlapping windows of a text; the model is left in the mode it was in.

    Args:
        model: A causal language model.
        store: The held-out tokens and the bytes that each covers.
        window_tokens: T, tokens in a window; the first of each is not a target.
        max_windows: Windows to use, spread evenly over the text; ``None`` uses all.
        batch_rows: Windows in a forward pass.

    Returns:
        Sums for each window, in the order of the text.
    """
    windows = StridedWindows(store.ids, window_tokens, window_tokens)
    count = len(windows) if max_windows is None else min(max_windows, len(windows))
    chosen = np.linspace(0, len(windows) - 1, count).round().astype(np.int64)
    starts = windows.starts[chosen]
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    nats = np.zeros(count)
    for first in range(0, count, batch_rows):
        ids_BT = windows.batch(chosen[first : first + batch_rows]).to(device)
        logits_BTV = model(input_ids=ids_BT, use_cache=False).logits
        targets_BT = next_token_targets(ids_BT)
        loss_BT = F.cross_entropy(
            logits_BTV.float().transpose(1, 2), targets_BT, ignore_index=IGNORED, reduction="none"
        )
        nats[first : first + len(ids_BT)] = loss_BT.double().sum(1).cpu().numpy()
    model.train(was_training)
    num_bytes = np.array([int(store.byte_lengths[s + 1 : s + window_tokens].astype(np.int64).sum()) for s in starts])
    return HeldOutLoss(nats, np.full(count, window_tokens - 1), num_bytes)
