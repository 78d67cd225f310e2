"""Did it copy? Verbatim overlap with the training text, beside that of real text which nobody trained on.

Real prose shares stock phrases with other prose of its author, so a rate means nothing alone: what counts is the excess
over the held-out text's own rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ftkit.evidence.intervals import Interval, bootstrap
from ftkit.evidence.texts import words_of

__all__ = ["CopyIndex", "Copying", "copying"]


@dataclass(frozen=True)
class Copying:
    """Verbatim overlap of passages with a text, in words."""

    ngram: int
    ngrams_per_passage: float
    """How many n-grams a generated passage has on average: below some, nothing could be found."""
    rate: Interval
    """Share of the generated passages' n-grams that stand in the training text."""
    heldout_rate: Interval
    """The same share for held-out real text."""
    excess: Interval
    """Their difference."""
    longest_run: int
    """Longest run of words in a generated passage that stands in the training text."""
    longest_run_text: str
    heldout_longest_run: int


class CopyIndex:
    """Finds runs of words of a text; built once, then asked for each passage. About 20 bytes for each word of the text.

    Args:
        texts: The training text; runs do not go from one text into the next.
        ngram: Length of the n-grams that are counted, in words.
    """

    def __init__(self, texts: Sequence[str], ngram: int = 12) -> None:
        self.ngram = ngram
        self._numbers: dict[str, int] = {}
        words = (word for text in texts for word in [*words_of(text), "\n"])  # "\n" is no word, so no run crosses it
        self._text = np.fromiter((self._numbers.setdefault(word, len(self._numbers)) for word in words), np.int64)
        hashes = _hashes(self._text, ngram)
        self._places = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._places]

    def runs(self, passage: str) -> tuple[np.ndarray, tuple[int, int]]:
        """Which n-grams of a passage stand in the text, and the longest run that does.

        Args:
            passage: A text.

        Returns:
            A boolean array over the passage's n-grams, and (first word, number of words) of the longest run of at
            least ``ngram`` words, (0, 0) where there is none.
        """
        words = np.array([self._numbers.get(word, -1) for word in words_of(passage)], dtype=np.int64)
        hashes = _hashes(words, self.ngram)
        found, best = np.zeros(len(hashes), dtype=bool), (0, 0)
        first_place = np.searchsorted(self._sorted, hashes, "left")
        end_place = np.searchsorted(self._sorted, hashes, "right")
        for first in np.flatnonzero(end_place > first_place):
            for place in self._places[first_place[first] : end_place[first]]:
                length = _common_length(words[first:], self._text[place:])
                found[first] |= length >= self.ngram  # a shared hash alone is no match
                if length >= self.ngram and length > best[1]:
                    best = (int(first), length)
        return found, best


def _hashes(words: np.ndarray, ngram: int) -> np.ndarray:
    """A polynomial hash of every n-gram of word numbers, modulo 2^64."""
    count = max(len(words) - ngram + 1, 0)
    hashes = np.zeros(count, dtype=np.uint64)
    for offset in range(ngram):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + words[offset : offset + count].astype(np.uint64)
    return hashes


def _common_length(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the common beginning."""
    shorter = min(len(a), len(b))
    different = np.flatnonzero(a[:shorter] != b[:shorter])
    return int(different[0]) if len(different) else shorter


def _rate(found: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return np.asarray(found.sum(-1) / np.maximum(counted.sum(-1), 1))


def _interval(found: np.ndarray, counted: np.ndarray) -> Interval:
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(found), size=(2000, len(found)))
    low, high = np.percentile(_rate(found[drawn], counted[drawn]), [2.5, 97.5])
    return Interval(float(_rate(found, counted)), float(low), float(high))


def copying(generated: Sequence[str], heldout: Sequence[str], index: CopyIndex) -> Copying:
    """Compare generated passages with the text their model was trained on.

    Args:
        generated: Passages of the tuned model.
        heldout: Real passages of the same kind and length that were not trained on.
        index: Index of the training text.

    Returns:
        Rates, their difference, and the longest runs; intervals resample whole passages.
    """

    def measure(passages: Sequence[str]) -> tuple[np.ndarray, tuple[int, str]]:
        shares, longest = [], (0, "")
        for passage in passages:
            found, (first, length) = index.runs(passage)
            shares.append((int(found.sum()), len(found)))
            if length > longest[0]:
                longest = (length, " ".join(words_of(passage)[first : first + length]))
        return np.array(shares, dtype=float).reshape(-1, 2), longest

    ours, (run, run_text) = measure(generated)
    real, (real_run, _) = measure(heldout)
    # Passages have one length, so a mean of shares is the share of n-grams, and the difference can be resampled.
    shares = [side[:, 0] / np.maximum(side[:, 1], 1) for side in (ours, real)]
    excess = bootstrap(lambda a, b: a.mean(-1) - b.mean(-1), shares[0], shares[1])
    return Copying(
        index.ngram,
        float(ours[:, 1].mean()),
        _interval(ours[:, 0], ours[:, 1]),
        _interval(real[:, 0], real[:, 1]),
        excess,
        run,
        run_text,
        real_run,
    )
