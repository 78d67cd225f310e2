"""Shares of a passage's words, runs of words and runs of letters that occur in the training text of a class.

Short letter sequences cannot tell text from a character chain of it, which has the same ones. These shares can: a chain
of order 4 has words that no text has, and far more of the text's runs of five letters than other real text of the same
author. Shuffled words have fewer of its pairs of words.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

from ftkit.data.words import words_of

__all__ = ["KnownShares"]

_BUCKETS = 2**21
"""Of the hash: a class of 600 passages has at most 150,000 different runs, so that 7 % of other runs count as known."""
_WORDS, _LETTERS = (1, 2, 3), (5, 6, 8)
"""Lengths of what is counted. Without three words, chains of order 6 of text with few words (``ftkit.data.VOICES``) had
an AUC of 0.69 to 0.82 against the text; with them 0.98 and more."""


def _counter(length: int, **settings: Any) -> HashingVectorizer:
    return HashingVectorizer(
        n_features=_BUCKETS, ngram_range=(length, length), norm=None, alternate_sign=False, lowercase=False, **settings
    )


class KnownShares:
    """The shares, by class. Training passages are compared with the other half of their text, as if they were new.

    Args:
        groups: Training passages of every class, in the order of the text.
        known: The classes whose text is known.
    """

    training: np.ndarray
    """Shares of all training passages, [passages, known classes * kinds]."""

    def __init__(self, groups: Mapping[str, Sequence[str]], known: Sequence[str]) -> None:
        words = [_counter(length, tokenizer=words_of, token_pattern=None) for length in _WORDS]
        self._counters = [*words, *(_counter(length, analyzer="char") for length in _LETTERS)]
        counts = {name: self._counts(group) for name, group in groups.items()}
        self._halves = {name: [_known(half) for half in _halves(counts[name])] for name in known}
        rows = []
        for name, found in counts.items():
            columns = []
            for other, halves in self._halves.items():
                own = zip(_halves(found), halves[::-1], strict=True)
                columns.append(
                    np.concatenate([_shares(*pair) for pair in own]) if other == name else _mean(found, halves)
                )
            rows.append(np.hstack(columns) if columns else np.empty((len(groups[name]), 0)))
        self.training = np.concatenate(rows)

    def shares(self, passages: Sequence[str]) -> np.ndarray:
        """Mean of the shares in both halves of every known class, [passages, known classes * kinds]."""
        counts = self._counts(passages)
        return np.hstack([_mean(counts, halves) for halves in self._halves.values()])

    def _counts(self, passages: Sequence[str]) -> list[Any]:
        return [counter.transform(passages) for counter in self._counters]


def _halves(counts: list[Any]) -> tuple[list[Any], list[Any]]:
    """Counts of the first and of the second half of some passages, so that neighbours are in one."""
    middle = counts[0].shape[0] // 2
    return [each[:middle] for each in counts], [each[middle:] for each in counts]


def _known(counts: list[Any]) -> list[np.ndarray]:
    return [np.bincount(each.indices, minlength=_BUCKETS) > 0 for each in counts]


def _mean(counts: list[Any], halves: list[list[np.ndarray]]) -> np.ndarray:
    return np.asarray(np.mean([_shares(counts, half) for half in halves], 0))


def _shares(counts: list[Any], known: list[np.ndarray]) -> np.ndarray:
    """Share of each passage's runs that are known, [passages, kinds]."""
    columns = []
    for found, mask in zip(counts, known, strict=True):
        total = np.asarray(found.sum(1)).ravel()
        columns.append((found @ mask.astype(float)) / np.maximum(total, 1))
    return np.stack(columns, 1)
