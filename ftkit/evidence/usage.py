"""Do generated passages use the tokens that a text uses most? (lessons 07/02 and 07/07)

The share of a passage's tokens that belong to a list, here the most frequent tokens of the training text. Real held-out
text says how high that share is when the style is right: more is not better beyond it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ftkit.data import TokenStore
from ftkit.errors import DataError
from ftkit.evidence.intervals import Interval, bootstrap

__all__ = ["Usage", "frequent_tokens", "token_shares", "token_usage"]


@dataclass(frozen=True)
class Usage:
    """Shares of tokens that belong to a list, with 95 % intervals over passages."""

    before: Interval
    """The base model."""
    after: Interval
    """The tuned model."""
    change: Interval
    """After minus before, paired by the start of the passage."""
    real: Interval
    """Real held-out text."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name).as_dict() for name in ("before", "after", "change", "real")}


def frequent_tokens(
    store: TokenStore, tokenizer: PreTrainedTokenizerBase, top: int = 100, min_chars: int = 1
) -> list[int]:
    """The most frequent tokens of a text, most frequent first.

    Args:
        store: The text.
        tokenizer: Its tokenizer.
        top: How many.
        min_chars: Tokens whose text without white space is shorter are left out before ranking.

    Raises:
        DataError: The text has no such token.
    """
    ids, counts = np.unique(np.asarray(store.ids), return_counts=True)
    order = ids[np.lexsort((ids, -counts))]
    kept = (int(token) for token in order if len(str(tokenizer.decode([int(token)])).strip()) >= min_chars)
    found = [token for _, token in zip(range(top), kept, strict=False)]
    if not found:
        raise DataError(f"none of the {len(ids):,} different tokens of the text has {min_chars} characters or more")
    return found


def token_shares(passages: Sequence[str], tokenizer: PreTrainedTokenizerBase, tokens: Collection[int]) -> np.ndarray:
    """Share of each passage's tokens that belong to a list, float64 [passages]; NaN for an empty passage."""
    wanted = np.fromiter(tokens, dtype=np.int64)
    encoded = tokenizer(list(passages), add_special_tokens=False)["input_ids"]
    return np.array([np.isin(ids, wanted).mean() if len(ids) else np.nan for ids in encoded])


def token_usage(
    base: Sequence[str],
    tuned: Sequence[str],
    real: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    tokens: Collection[int],
) -> Usage:
    """Usage of a list before and after tuning, between floor and ceiling.

    Args:
        base: Passages of the base model.
        tuned: Passages of the tuned model from the same starts.
        real: Held-out passages.
        tokenizer: The models' tokenizer.
        tokens: The list.
    """
    before, after, ceiling = (token_shares(passages, tokenizer, tokens) for passages in (base, tuned, real))

    def mean(shares: np.ndarray) -> np.ndarray:
        return np.asarray(np.nanmean(shares, axis=-1))

    return Usage(
        bootstrap(mean, before), bootstrap(mean, after), bootstrap(mean, after - before), bootstrap(mean, ceiling)
    )
