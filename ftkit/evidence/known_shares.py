"""Shares of a passage's words, runs of words and runs of letters that occur in the training text of a class.

Short letter sequences cannot tell text from a character chain of it, which has the same ones. These shares can: a chain
of order 4 has words that no text has, and far more of the text's runs of five letters than other real text of the same
author. Shuffled words have fewer of its pairs of words.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import vstack
from sklearn.feature_extraction.text import HashingVectorizer

from ftkit.data.words import words_of

__all__ = ["KnownShares", "NgramCounts"]

_BUCKETS = 2**21
"""Of the hash: a class of 600 passages has at most 150,000 different runs, so that 7 % of other runs count as known."""
_KEPT_PASSAGES = 4_000
"""Of which counts are kept: about 30 kB each at 400 characters."""
_WORDS, _LETTERS = (1, 2, 3), (5, 6, 8)
"""Lengths of what is counted. Without three words, chains of order 6 of text with few words (``ftkit.data.VOICES``) had
an AUC of 0.69 to 0.82 against the text; with them 0.98 and more."""


def _counter(length: int, **settings: Any) -> HashingVectorizer:
    return HashingVectorizer(
        n_features=_BUCKETS, ngram_range=(length, length), norm=None, alternate_sign=False, lowercase=False, **settings
    )


class NgramCounts:
    """How often each passage has each run of words or letters. Judges that read the same passages share it, so that the
    second opinions and the control of a gate count nothing again."""

    def __init__(self) -> None:
        words = [_counter(length, tokenizer=words_of, token_pattern=None) for length in _WORDS]
        self._counters = [*words, *(_counter(length, analyzer="char") for length in _LETTERS)]
        self._rows: dict[str, int] = {}
        self._counted: list[Any] = []

    def of(self, passages: Sequence[str]) -> list[Any]:
        """Counts of some passages for each kind of run: sparse matrices [passages, buckets]."""
        new = [passage for passage in dict.fromkeys(passages) if passage not in self._rows]
        if len(self._rows) + len(new) > _KEPT_PASSAGES:
            return [counter.transform(passages) for counter in self._counters]
        if new:
            counts = [counter.transform(new) for counter in self._counters]
            pairs = zip(self._counted, counts, strict=True)
            self._counted = [vstack(pair, format="csr") for pair in pairs] if self._rows else counts
            self._rows |= {passage: row for row, passage in enumerate(new, len(self._rows))}
        rows = [self._rows[passage] for passage in passages]
        return [counted[rows] for counted in self._counted]


class KnownShares:
    """The shares, by class. Training passages are compared with the other half of their text, as if they were new.

    Args:
        groups: Training passages of every class, in the order of the text.
        known: The classes whose text is known.
        counts: Counts that are shared with others.
    """

    training: np.ndarray
    """Shares of all training passages, [passages, known classes * kinds]."""

    def __init__(
        self, groups: Mapping[str, Sequence[str]], known: Sequence[str], counts: NgramCounts | None = None
    ) -> None:
        self.counts = counts or NgramCounts()
        counted = {name: self.counts.of(group) for name, group in groups.items()}
        self._halves = {name: [_known(half) for half in _halves(counted[name])] for name in known}
        rows = []
        for name, found in counted.items():
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
        counted = self.counts.of(passages)
        return np.hstack([_mean(counted, halves) for halves in self._halves.values()])


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
