"""Did it copy? Verbatim overlap with the training text, beside that of real text which nobody trained on.

Real prose shares stock phrases with other prose of its author, so a rate means nothing alone: what counts is the excess
over the held-out text's own rate.
"""

from collections import defaultdict
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
    """Finds runs of words of a text; built once, then asked for each passage.

    Args:
        texts: The training text.
        ngram: Length of the n-grams that are counted, in words.
    """

    def __init__(self, texts: Sequence[str], ngram: int = 12) -> None:
        self.ngram = ngram
        self.words = [word for text in texts for word in [*words_of(text), "\n"]]  # "\n" is no word: runs end there
        self._places: dict[int, list[int]] = defaultdict(list)
        for place in range(len(self.words) - ngram + 1):
            self._places[hash(tuple(self.words[place : place + ngram]))].append(place)

    def runs(self, passage: str) -> tuple[np.ndarray, tuple[int, int]]:
        """Which n-grams of a passage stand in the text, and the longest run that does.

        Args:
            passage: A text.

        Returns:
            A boolean array over the passage's n-grams, and (first word, number of words) of the longest run of at
            least ``ngram`` words, (0, 0) where there is none.
        """
        words = words_of(passage)
        count = max(len(words) - self.ngram + 1, 0)
        found = np.zeros(count, dtype=bool)
        best = (0, 0)
        for first in range(count):
            gram = words[first : first + self.ngram]
            for place in self._places.get(hash(tuple(gram)), ()):
                length = 0
                while (
                    first + length < len(words)
                    and place + length < len(self.words)
                    and words[first + length] == self.words[place + length]
                ):
                    length += 1
                found[first] |= length >= self.ngram  # a shared hash alone is no match
                best = max(best, (first, length), key=lambda run: run[1]) if length >= self.ngram else best
        return found, best


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
        _interval(ours[:, 0], ours[:, 1]),
        _interval(real[:, 0], real[:, 1]),
        excess,
        run,
        run_text,
        real_run,
    )
