"""Did it copy? Verbatim overlap with the training text, beside that of real text which was not trained on.

Real prose shares stock phrases with other prose of its author, so a rate means nothing alone: what counts is the excess
over the held-out text's own rate.

Runs of words are looked up by a hash of all passages at once, and every hit is compared word by word, so that a book
of megabytes and thousands of passages take seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ftkit.data.words import character_share, join_words, word_spans, words_of
from ftkit.evidence.intervals import LEVEL, Interval, Number, bootstrap, exact_share

__all__ = ["CopiedNgrams", "CopyIndex", "Copying", "copying", "known_share", "long_enough"]

Words = npt.NDArray[np.int64]
Found = npt.NDArray[np.bool_]

_SHORT = 8
"""Words in the shorter n-gram: it marks what is copied, while the longer one decides."""
_RUN = 30
"""Words in a row of training text that make a passage copied; real held-out text of ten books had none so long."""
_RUN_CHARACTERS = 60
"""The same where a word is one character."""
_ROOM = 10
"""Words that a passage must have beyond a run, so that a run that begins a little later is seen."""
_FACTOR = 0x9E3779B97F4A7C15
"""Odd, so that no power of it loses a bit modulo 2^64."""


@dataclass(frozen=True)
class CopiedNgrams:
    """Verbatim overlap by n-grams of one length, generated text beside real held-out text."""

    ngram: int
    rate: Interval
    """Share of the generated passages' n-grams that occur in the training text."""
    heldout_rate: Interval
    """The same share for held-out real text."""
    excess: Interval
    """Their difference."""
    passages: Interval
    """Share of the generated passages with at least one such n-gram."""
    heldout_passages: Interval


@dataclass(frozen=True)
class Copying:
    """Verbatim overlap of passages with a text, in words."""

    ngram: int
    ngrams_per_passage: Number
    """How many n-grams a generated passage has on average: below some, nothing could be found."""
    rate: Interval
    """Share of the generated passages' n-grams that occur in the training text."""
    heldout_rate: Interval
    """The same share for held-out real text."""
    excess: Interval
    """Their difference."""
    longest_run: int
    """Longest run of words in a generated passage that occurs in the training text; 0 where it is shorter than the
    shortest n-gram."""
    longest_run_text: str
    heldout_longest_run: int
    by_length: tuple[CopiedNgrams, ...] = ()
    """Shorter and longer n-grams."""
    spans: tuple[tuple[tuple[int, int], ...], ...] = ()
    """For each generated passage: where copied runs of the shorter length begin and end, in characters."""
    heldout_spans: tuple[tuple[tuple[int, int], ...], ...] = ()
    recited_spans: tuple[tuple[tuple[int, int], ...], ...] = ()
    """The same of passages after beginnings of training text; empty where there are none."""
    run: int = 0
    """Words in a row of training text that make a passage copied; 0 where passages are too short for such a run."""
    copied: Interval | None = None
    """Share of generated passages with such a run."""
    heldout_copied: Interval | None = None
    base_copied: Interval | None = None
    copied_above: Interval | None = None
    """``copied`` above the larger of the other two; each bound alone holds with half the error."""


class CopyIndex:
    """Finds runs of words of a text; built once, then asked. About 50 bytes for each word of the text.

    Args:
        texts: The training text; runs do not go from one text into the next.
        ngram: Length of the n-grams that decide, in words.
    """

    def __init__(self, texts: Sequence[str], ngram: int = 12) -> None:
        self.ngram = ngram
        self._numbers: dict[str, int] = {}
        number = self._numbers.setdefault
        words = (number(word, len(self._numbers)) for text in texts for word in [*words_of(text), "\n"])
        self._text: Words = np.fromiter(words, np.int64)  # "\n" is no word, so no run crosses it
        self._hashed = _Hashed(self._text)
        self._sorted: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def short(self) -> int:
        """Length of the n-grams that mark what is copied."""
        return min(_SHORT, self.ngram)

    def found(self, passages: Sequence[str], ngram: int | None = None) -> list[Found]:
        """Which n-grams of each passage stand in the text, a boolean array over the passage's n-grams.

        Args:
            passages: Texts.
            ngram: Words in an n-gram; ``None`` means those that decide.
        """
        asked = _Passages([self._numbered(words_of(passage)) for passage in passages])
        return self._found(asked, ngram or self.ngram)

    def runs(self, passage: str) -> tuple[Found, tuple[int, int]]:
        """Which n-grams of a passage stand in the text, and the longest run that does.

        Args:
            passage: A text.

        Returns:
            A boolean array over the passage's n-grams, and (first word, number of words) of the longest run of at
            least ``ngram`` words, (0, 0) where there is none.
        """
        asked = _Passages([self._numbered(words_of(passage))])
        found = self._found(asked, self.ngram)
        _, first, length = self._longest(asked, found, self.ngram)
        return found[0], (first, length)

    def spans(self, passages: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Where runs of at least ``short`` copied words begin and end in each passage, in characters."""
        asked = _Passages([self._numbered(words_of(passage)) for passage in passages])
        return [
            _merged(passage, found, self.short)
            for passage, found in zip(passages, self._found(asked, self.short), strict=True)
        ]

    def longest(self, passages: Sequence[str]) -> tuple[int, str]:
        """Number of words, and words, of the longest copied run in any passage; (0, "") below ``short`` words."""
        words = [words_of(passage) for passage in passages]
        asked = _Passages([self._numbered(row) for row in words])
        place, first, length = self._longest(asked, self._found(asked, self.short), self.short)
        return length, join_words(words[place][first : first + length]) if length else ""

    def _numbered(self, words: Sequence[str]) -> Words:
        return np.array([self._numbers.get(word, -1) for word in words], dtype=np.int64)

    def _found(self, asked: "_Passages", ngram: int) -> list[Found]:
        hashes, places = self._places(ngram)
        wanted = asked.hashed.of(ngram)
        hit = np.zeros(len(wanted), dtype=bool)
        if len(hashes) and len(wanted):
            at = np.minimum(np.searchsorted(hashes, wanted), len(hashes) - 1)
            maybe = np.flatnonzero(hashes[at] == wanted)
            hit[maybe] = _equal(asked.words, maybe, self._text, places[at[maybe]], ngram)
        return asked.divided(hit, ngram)

    def _places(self, ngram: int) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of the text's different n-grams, ascending, and where each stands first."""
        if ngram not in self._sorted:
            self._sorted[ngram] = np.unique(self._hashed.of(ngram), return_index=True)
        return self._sorted[ngram]

    def _longest(self, asked: "_Passages", found: list[Found], least: int) -> tuple[int, int, int]:
        """Passage, first word and number of words of the longest run; a run of some length holds all shorter ones, so
        the length is bisected."""
        places = asked.firsts(found)
        if not len(places):
            return 0, 0, 0
        best, low = int(places[0]), least
        high = least + max(_longest_stretch(row) for row in found) - 1
        while low < high:
            middle = (low + high + 1) // 2
            standing = self._standing(asked, places, middle)
            if len(standing):
                places, best, low = standing, int(standing[0]), middle
            else:
                high = middle - 1
        passage = int(np.searchsorted(asked.starts, best, "right")) - 1
        return passage, best - int(asked.starts[passage]), low

    def _standing(self, asked: "_Passages", places: np.ndarray, length: int) -> np.ndarray:
        """Those places of the passages at which so many words begin that stand in the text."""
        places = places[places + length <= len(asked.words)]
        own, text = asked.hashed.of(length)[places], self._hashed.of(length)
        if not len(own) or not len(text):
            return places[:0]
        hashes, which = np.unique(own, return_inverse=True)
        at = np.minimum(np.searchsorted(hashes, text), len(hashes) - 1)
        hits = np.flatnonzero(hashes[at] == text)
        stands = np.full(len(hashes), -1)
        stands[at[hits]] = hits
        maybe = np.flatnonzero(stands[which] >= 0)
        same = _equal(asked.words, places[maybe], self._text, stands[which][maybe], length)
        return places[maybe[same]]


class _Hashed:
    """Hashes of all runs of any one length of a row of words, from sums over its beginnings, modulo 2^64."""

    def __init__(self, words: Words) -> None:
        digits = np.concatenate([np.zeros(1, np.uint64), words.astype(np.uint64) + np.uint64(2)])
        self._back = _powers(pow(_FACTOR, -1, 2**64), len(digits))
        self._sums = np.add.accumulate(digits * _powers(_FACTOR, len(digits)))

    def of(self, length: int) -> np.ndarray:
        """A hash for each run of so many words, in order."""
        count = max(len(self._sums) - length, 0)
        # Words weigh by their place in the row; the inverse power moves every run to the beginning.
        return np.asarray((self._sums[length:] - self._sums[:count]) * self._back[:count])


def _powers(factor: int, count: int) -> np.ndarray:
    """Powers of an odd number modulo 2^64, from 0."""
    factors = np.full(count, factor, np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)


class _Passages:
    """Passages as one row of words with a word that no text has after each."""

    def __init__(self, rows: Sequence[Words]) -> None:
        self.lengths = np.array([len(row) for row in rows], dtype=np.int64)
        gap = np.array([-1])
        self.words: Words = np.concatenate([part for row in rows for part in (row, gap)] or [gap])
        self.starts = np.concatenate([[0], np.cumsum(self.lengths + 1)[:-1]]) if rows else np.zeros(0, np.int64)
        self.hashed = _Hashed(self.words)

    def divided(self, hit: Found, ngram: int) -> list[Found]:
        """What belongs to each passage."""
        ends = self.starts + np.maximum(self.lengths - ngram + 1, 0)
        return [hit[start:end] for start, end in zip(self.starts, ends, strict=True)]

    def firsts(self, found: Sequence[Found]) -> np.ndarray:
        """Places of all found n-grams in the row of words."""
        places = [start + np.flatnonzero(row) for start, row in zip(self.starts, found, strict=True)]
        return np.concatenate(places) if places else np.zeros(0, np.int64)


def _equal(a: Words, a_places: np.ndarray, b: Words, b_places: np.ndarray, length: int) -> Found:
    """Whether the runs at two lists of places are the same words: a shared hash alone is no match."""
    same = np.ones(len(a_places), dtype=bool)
    for offset in range(length):
        same &= a[a_places + offset] == b[b_places + offset]
    return same


def _longest_stretch(found: Found) -> int:
    """Largest number of hits in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], found.view(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _merged(passage: str, found: Found, ngram: int) -> list[tuple[int, int]]:
    """Characters that the found n-grams cover."""
    if not found.any():
        return []
    places, merged = word_spans(passage), list[tuple[int, int]]()
    for first in np.flatnonzero(found):
        start, end = places[first][0], places[first + ngram - 1][1]
        if merged and start <= merged[-1][1]:
            start = merged.pop()[0]
        merged.append((start, end))
    return merged


def _share(found: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Share of n-grams that were found, over the last axis."""
    return np.asarray(found.sum(-1) / np.maximum(counted.sum(-1), 1))


def _counts(side: Sequence[Found]) -> tuple[np.ndarray, np.ndarray]:
    """For each passage the number of n-grams that were found, and of all."""
    return np.array([row.sum() for row in side], float), np.array([len(row) for row in side], float)


def known_share(texts: Sequence[str], index: CopyIndex) -> float:
    """Share of the texts' word n-grams that occur in the training text; the verdict's ``heldout_rate`` is it.

    Args:
        texts: Held-out texts.
        index: Index of the training text.

    Returns:
        A share from 0 to 1; 0 where the texts are shorter than an n-gram.
    """
    return float(_share(*_counts(index.found(texts))))


def _mean(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.mean(-1))


def _by_length(ours: list[Found], real: list[Found], ngram: int, level: float) -> CopiedNgrams:
    """Rates of both sides; intervals resample whole passages."""

    def rate(found: np.ndarray, counted: np.ndarray) -> Interval:
        return bootstrap(lambda drawn: _share(found[drawn], counted[drawn]), np.arange(len(found)), level=level)

    counts = [_counts(side) for side in (ours, real)]
    # Passages have one length, so a mean of shares is the share of n-grams, and the difference can be resampled.
    shares = [found / np.maximum(counted, 1) for found, counted in counts]
    some = [bootstrap(_mean, (found > 0).astype(float), level=level) for found, _ in counts]
    excess = bootstrap(lambda a, b: a.mean(-1) - b.mean(-1), *shares, level=level)
    return CopiedNgrams(ngram, rate(*counts[0]), rate(*counts[1]), excess, *some)


def long_enough(texts: Sequence[str], like: Sequence[str] | None = None) -> bool:
    """Whether texts have the length, in the median, at which a run of words from elsewhere makes one of them copied.

    Args:
        texts: The texts, at least one.
        like: Texts whose script decides how long a run is; ``None`` means the same ones.
    """
    words = np.median([len(words_of(text)) for text in texts])
    return bool(words >= _run_length(texts if like is None else like) + _ROOM)


def copying(
    generated: Sequence[str], heldout: Sequence[str], index: CopyIndex, base: Sequence[str] = (), level: float = LEVEL
) -> Copying:
    """Compare generated passages with the text their model was trained on.

    Args:
        generated: Passages of the tuned model.
        heldout: Real passages of the same kind and length that were not trained on.
        index: Index of the training text.
        base: Passages of the base, from the same beginnings; without them only real text is compared with.
        level: How often intervals hold.

    Returns:
        Rates, their difference, the longest runs, and where the copied runs stand.
    """
    lengths = dict.fromkeys((index.short, index.ngram))
    rates = [_by_length(index.found(generated, n), index.found(heldout, n), n, level) for n in lengths]
    deciding = rates[-1]
    run, run_text = index.longest(generated)
    found = Copying(
        index.ngram,
        float(np.mean([max(len(words_of(passage)) - index.ngram + 1, 0) for passage in generated])),
        deciding.rate,
        deciding.heldout_rate,
        deciding.excess,
        run,
        run_text,
        index.longest(heldout)[0],
        tuple(rates),
        tuple(map(tuple, index.spans(generated))),
        tuple(map(tuple, index.spans(heldout))),
    )
    if not long_enough([*generated, *heldout], heldout):
        return found
    return replace(found, **_copied(generated, heldout, base, index, _run_length(heldout), level))


def _run_length(passages: Sequence[str]) -> int:
    """Words in a row that make a passage copied."""
    return _RUN_CHARACTERS if character_share(" ".join(passages)) > 1 / 2 else _RUN


def _copied(
    generated: Sequence[str], heldout: Sequence[str], base: Sequence[str], index: CopyIndex, length: int, level: float
) -> dict[str, Any]:
    """Shares of passages with a run of training text; exact, because of real text they are near zero."""

    def share(passages: Sequence[str]) -> Interval:
        return exact_share(sum(bool(hit.any()) for hit in index.found(passages, length)), len(passages), level)

    copied, others = share(generated), [share(side) for side in (heldout, base) if side]
    most = Interval(*(max(getattr(other, end) for other in others) for end in ("value", "low", "high")))
    above = Interval(copied.value - most.value, copied.low - most.high, copied.high - most.low)
    of_base = others[1] if len(others) > 1 else None
    return {
        "run": length, "copied": copied, "heldout_copied": others[0], "base_copied": of_base, "copied_above": above
    }  # fmt: skip
