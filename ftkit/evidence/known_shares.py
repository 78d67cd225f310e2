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
    """The shares, by class. Passages of the training text are compared with the other half of it, as if they were new.

    Args:
        groups: Training passages of each class, in the order of the text.
    """

    def __init__(self, groups: Mapping[str, Sequence[str]]) -> None:
        words = [_counter(length, tokenizer=words_of, token_pattern=None) for length in _WORDS]
        self._counters = [*words, *(_counter(length, analyzer="char") for length in _LETTERS)]
        self._halves = {name: [self._known(half) for half in _halves(group)] for name, group in groups.items()}

    def shares(self, passages: Sequence[str]) -> np.ndarray:
        """Mean of the shares in both halves of every class, [passages, classes * kinds]."""
        counts = self._counts(passages)
        return np.hstack([np.mean([_shares(counts, half) for half in halves], 0) for halves in self._halves.values()])

    def training_shares(self, groups: Mapping[str, Sequence[str]]) -> np.ndarray:
        """Shares of passages that the halves were made of: each in the half of its own class that it is not in.

        Args:
            groups: The passages by class; classes of no other text are among them as well.
        """
        found = []
        for name, group in groups.items():
            shares = self.shares(group)
            if name in self._halves:
                own = [_shares(self._counts(half), known) for half, known in
                       zip(_halves(group), self._halves[name][::-1], strict=True)]  # fmt: skip
                width, place = len(self._counters), list(self._halves).index(name)
                shares[:, place * width : (place + 1) * width] = np.concatenate(own)
            found.append(shares)
        return np.concatenate(found)

    def _counts(self, passages: Sequence[str]) -> list[Any]:
        return [counter.transform(passages) for counter in self._counters]

    def _known(self, passages: Sequence[str]) -> list[np.ndarray]:
        return [np.bincount(counts.indices, minlength=_BUCKETS) > 0 for counts in self._counts(passages)]


def _halves(group: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """First and second half, so that neighbours are in one."""
    return group[: len(group) // 2], group[len(group) // 2 :]


def _shares(counts: list[Any], known: list[np.ndarray]) -> np.ndarray:
    """Share of each passage's runs that are known, [passages, kinds]."""
    columns = []
    for found, mask in zip(counts, known, strict=True):
        total = np.asarray(found.sum(1)).ravel()
        columns.append((found @ mask.astype(float)) / np.maximum(total, 1))
    return np.stack(columns, 1)
