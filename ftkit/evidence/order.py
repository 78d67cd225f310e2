"""Whether a model reads sentences or only knows words: what the order of the words is worth to it.

A model that was trained on the right words in a wrong order gains on real text of that vocabulary, writes the right
words and satisfies a judge of character n-grams. What it has lost is the use of the order: it pays for held-out text
about as much as for the same text with its words shuffled.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ftkit.evidence.intervals import Interval, Number, bootstrap, loss_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ftkit.data import TokenStore
    from ftkit.training import HeldOutLoss

__all__ = ["WordOrder", "shuffle_words", "word_order"]

_WINDOWS = 48
"""Windows of shuffled text that are evaluated at most, because it is measured in addition to the text itself."""


@dataclass(frozen=True)
class WordOrder:
    """Bits per byte that held-out text costs less than the same text with the words of each paragraph shuffled."""

    base: Number
    tuned: Number
    kept: Interval
    """Tuned over base; below 1 the order is worth less to the tuned model. Means little where ``base`` is near 0."""


def shuffle_words(text: str, seed: int = 0) -> str:
    """The same words in random order within each paragraph, white space folded."""
    from ftkit.data.words import shuffled_words

    draw = random.Random(seed)
    return "\n\n".join(shuffled_words(paragraph, draw) for paragraph in text.split("\n\n"))


def word_order(
    base: PreTrainedModel | None, tuned: PreTrainedModel, heldout: TokenStore, real: tuple[HeldOutLoss, HeldOutLoss],
    window_tokens: int,
) -> WordOrder | None:  # fmt: skip
    """Measure what word order is worth to two models.

    Args:
        base: The model before; ``None`` where ``tuned`` is an adapter that contains it.
        tuned: The model after, with the same tokenizer.
        heldout: Text that was not trained on.
        real: Losses of base and tuned model on it.
        window_tokens: Tokens in a window of evaluation.

    Returns:
        The measure; ``None`` where the shuffled text is too short for a window, or too much of it is unknown.
    """
    from ftkit.data import tokenize_texts
    from ftkit.data.tokenizers import reads_tokens
    from ftkit.models import base_or_beneath
    from ftkit.training import HeldOutWindows, held_out_loss

    if not all(loss.counts_bytes for loss in real):
        return None
    tokenizer = heldout.tokenizer
    assert tokenizer is not None
    ids = np.asarray(heldout.ids)
    if reads_tokens(tokenizer):  # they are text; only what was put between texts is not
        ids = ids[~((np.asarray(heldout.byte_lengths) == 0) & (ids == tokenizer.eos_token_id))]
    text = str(tokenizer.decode(ids.tolist(), skip_special_tokens=not reads_tokens(tokenizer)))
    shuffled = tokenize_texts([shuffle_words(text)], tokenizer)
    if shuffled.num_tokens < window_tokens:
        return None
    windows = HeldOutWindows(shuffled, window_tokens)
    with base_or_beneath(base, tuned) as before_tuning:
        first = held_out_loss(before_tuning, windows, _WINDOWS)
    pair = (first, held_out_loss(tuned, windows, _WINDOWS))
    if not all(loss.counts_bytes for loss in pair):
        return None

    def advantages(real_sums: np.ndarray, shuffled_sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        known, mixed = real_sums.sum(-2), shuffled_sums.sum(-2)
        saved = [mixed[..., k] / mixed[..., 2] - known[..., k] / known[..., 2] for k in (0, 1)]
        return saved[0] / math.log(2), saved[1] / math.log(2)

    sums = [np.array(list(loss_blocks(*losses).values())).T for losses in (real, pair)]  # [blocks, 3]
    before, after = advantages(*sums)

    def kept(*parts: np.ndarray) -> np.ndarray:
        one, other = advantages(*parts)
        share: np.ndarray = other / np.maximum(one, 1e-6)
        return share

    return WordOrder(float(before), float(after), bootstrap(kept, *sums))
