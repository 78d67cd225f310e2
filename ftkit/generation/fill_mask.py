"""What an encoder can show of itself: a text with masks, and what it puts in their place."""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.data import Masking
from ftkit.memory import memory_phase

__all__ = ["FillIn", "fill_in"]


@dataclass(frozen=True)
class FillIn:
    """One text with masks."""

    prompt: str
    """The text with its masks."""
    text: str
    """The text as the model fills it in."""
    truth: str
    """The text as it was."""
    masks: int
    right: int
    """Masks whose very token was found."""


@memory_phase("generate")
@torch.inference_mode()
def fill_in(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, masking: Masking, ids: np.ndarray, seed: int = 0
) -> FillIn:
    """Mask a text and let a model fill it in; the model is left in the mode it was in.

    Args:
        model: A masked language model.
        tokenizer: Its tokenizer.
        masking: Which share of the tokens is masked; here every one of them becomes the mask.
        ids: Tokens of the text, [n].
        seed: Which of them.

    Returns:
        The text before and after; the most likely token that is not special fills each mask.
    """
    labels = masking.rows(torch.from_numpy(ids.astype(np.int64))[None], [0], seed)[1][0]
    real = torch.tensor([*masking.first, *ids.tolist(), *masking.last])
    asked = labels != -100
    shown = torch.where(asked, masking.mask_id, real)
    was_training = model.training
    model.eval()
    logits = model(input_ids=shown[None].to(model.device)).logits[0].float().cpu()
    model.train(was_training)
    ordinary = torch.from_numpy(masking.ordinary_ids)
    filled = torch.where(asked, ordinary[logits[:, ordinary].argmax(-1)], real)

    def text_of(row: torch.Tensor) -> str:
        return str(tokenizer.decode(row[len(masking.first) : len(row) - len(masking.last)]))

    right = int((asked & (filled == real)).sum())
    return FillIn(text_of(shown), text_of(filled), text_of(real), int(asked.sum()), right)
