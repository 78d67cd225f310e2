"""Is it broken? Repetition, diversity, entropy, length and unknown words of generated text, beside real text and the
base model's."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ftkit.data.words import words_of
from ftkit.evidence.intervals import LEVEL, Interval, bootstrap

__all__ = ["Damage", "Fluency", "fluency", "language_damage", "out_of_range"]

_NAMES = ("repetition", "diversity", "distinct_bigrams", "entropy", "words")
"""What is averaged over passages; each has a range beside it."""


@dataclass(frozen=True)
class Fluency:
    """Means over passages of one length, and the middle 95 % of the passages."""

    repetition: float
    """Share of a passage's word 3-grams that it has used before."""
    repetition_range: tuple[float, float]
    diversity: float
    """Different words over words."""
    diversity_range: tuple[float, float]
    unknown_words: float
    """Share of words that stand in none of the corpora."""
    distinct_bigrams: float | None = None
    """Different pairs of neighbouring words over all such pairs."""
    distinct_bigrams_range: tuple[float, float] | None = None
    entropy: float | None = None
    """Bits of a passage's own distribution of words: 0 for one word over and over."""
    entropy_range: tuple[float, float] | None = None
    words: float | None = None
    """Words in a passage."""
    words_range: tuple[float, float] | None = None
    unused_tokens: float | None = None
    """Share of tokens that no known text uses; ``None`` where tokens were not looked at."""


def fluency(passages: Sequence[str], known_words: Collection[str], unused_tokens: float | None = None) -> Fluency:
    """Measure passages.

    Args:
        passages: Texts of about one length.
        known_words: Every word of the corpora, lower case.
        unused_tokens: Share of the passages' tokens that no known text uses, where the caller has counted it.

    Returns:
        Means and ranges; an empty passage counts as wholly repetitive.
    """
    measured: dict[str, list[float]] = {name: [] for name in _NAMES}
    unknown, words_seen = 0, 0
    for passage in passages:
        words = words_of(passage)
        for name, value in _measures(words).items():
            measured[name].append(value)
        unknown += sum(word not in known_words for word in words)
        words_seen += len(words)
    means = {name: float(np.mean(values)) for name, values in measured.items()}
    ranges = {name: _middle(values) for name, values in measured.items()}
    return Fluency(
        means["repetition"],
        ranges["repetition"],
        means["diversity"],
        ranges["diversity"],
        unknown / max(words_seen, 1),
        means["distinct_bigrams"],
        ranges["distinct_bigrams"],
        means["entropy"],
        ranges["entropy"],
        means["words"],
        ranges["words"],
        unused_tokens,
    )


@dataclass(frozen=True)
class Damage:
    """How far generated text lies outside both real text and the base's text; intervals from whole passages."""

    repetition: Interval
    """Mean repetition above the larger of real text's and the base's."""
    diversity: Interval
    """Mean diversity below the smaller of real text's and the base's."""
    unknown_words: Interval
    """Share of unknown words above the larger of real text's and the base's."""


def language_damage(
    tuned: Sequence[str],
    base: Sequence[str],
    real: Sequence[str],
    known: Collection[str],
    known_of_real: Collection[str],
    level: float = LEVEL,
) -> Damage:
    """Compare generated passages with real ones and with the base model's.

    Args:
        tuned: Passages of the tuned model.
        base: Passages of the base model, of about the same length.
        real: Held-out passages of about the same length.
        known: Every word of the corpora, lower case, for both models.
        known_of_real: The same for real passages: without the held-out text itself.
        level: How often each interval holds.

    Returns:
        Three differences, each with its bootstrap interval over passages; above 0 is damage.
    """
    pairs = ((tuned, known), (base, known), (real, known_of_real))
    counts = [_damage_counts(passages, words) for passages, words in pairs]

    def excess(column: int, sign: int) -> Interval:
        def share(sample: np.ndarray) -> np.ndarray:
            sums = sample.sum(-2)
            found: np.ndarray = sign * sums[..., column] / np.maximum(sums[..., column + 1], 1)
            return found

        return bootstrap(lambda t, b, r: share(t) - np.maximum(share(b), share(r)), *counts, level=level)

    return Damage(repetition=excess(0, 1), diversity=excess(2, -1), unknown_words=excess(4, 1))


def _damage_counts(passages: Sequence[str], known: Collection[str]) -> np.ndarray:
    """Repetition, diversity and unknown words of passages, each beside what it is divided by, [passages, 6]."""
    rows = []
    for passage in passages:
        words = words_of(passage)
        measured = _measures(words)
        unknown = sum(word not in known for word in words)
        rows.append([measured["repetition"], 1, measured["diversity"], 1, unknown, len(words)])
    return np.array(rows, dtype=float)


def _measures(words: Sequence[str]) -> dict[str, float]:
    """What is averaged over passages, of one passage."""
    pairs, trigrams = list(pairwise(words)), list(zip(words, words[1:], words[2:], strict=False))
    counts = np.array(list(Counter(words).values()), dtype=float)
    return {
        "repetition": 1 - len(set(trigrams)) / len(trigrams) if trigrams else 1.0,
        "diversity": len(set(words)) / len(words) if words else 0.0,
        "distinct_bigrams": len(set(pairs)) / len(pairs) if pairs else 0.0,
        "entropy": float(np.log2(len(words)) - (counts * np.log2(counts)).sum() / len(words)) if words else 0.0,
        "words": float(len(words)),
    }


def _middle(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def out_of_range(measured: Fluency, real: Fluency) -> list[str]:
    """Names of the means that lie outside the middle 95 % of real passages; they decide nothing by themselves."""
    found = []
    for name in _NAMES:
        mean, limits = getattr(measured, name), getattr(real, f"{name}_range")
        if mean is not None and limits is not None and not limits[0] <= mean <= limits[1]:
            found.append(name)
    return found
