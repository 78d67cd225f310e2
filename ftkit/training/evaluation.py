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

__all__ = ["HeldOutLoss", "held_out_loss", "questions"]


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
        batch_rows: Windows in a forward pass.

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
    nats, targets, num_bytes = np.zeros(count), np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    for first in range(0, count, batch_rows):
        part = slice(first, first + batch_rows)
        inputs_BT, targets_BT, asked_Bn = questions(windows.batch(chosen[part]), chosen[part], masking)
        options = {} if masking else {"use_cache": False}
        logits_BTV = model(input_ids=inputs_BT.to(device), **options).logits
        logits_BTV = logits_BTV[:, -targets_BT.shape[1] :]  # after any virtual tokens
        loss_BT = F.cross_entropy(
            logits_BTV.float().transpose(1, 2), targets_BT.to(device), ignore_index=IGNORED, reduction="none"
        )
        nats[part] = loss_BT.double().sum(1).cpu().numpy()
        targets[part] = asked_Bn.sum(1)
        covered_Bn = store.byte_lengths[windows.starts[chosen[part], None] + np.arange(text_tokens)]
        num_bytes[part] = (covered_Bn.astype(np.int64) * asked_Bn).sum(1)
    model.train(was_training)
    return HeldOutLoss(nats, targets, num_bytes)


def questions(
    ids_Bn: torch.Tensor, numbers: np.ndarray, masking: Masking | None
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Inputs and targets, [B, T], and which tokens of the text are asked for, [B, n]."""
    if masking is None:
        asked_Bn = np.ones(ids_Bn.shape, dtype=bool)
        asked_Bn[:, 0] = False
        return ids_Bn, next_token_targets(ids_Bn), asked_Bn
    inputs_BT, labels_BT = masking.rows(ids_Bn, numbers, seed=0)
    start = len(masking.first)
    return inputs_BT, labels_BT, (labels_BT != IGNORED).numpy()[:, start : start + ids_Bn.shape[1]]
