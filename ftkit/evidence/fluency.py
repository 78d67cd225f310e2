"""Is it broken? Repetition, diversity and unknown words of generated text, beside real text and the base model's."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ftkit.evidence.texts import words_of

__all__ = ["Fluency", "fluency"]


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


def fluency(passages: Sequence[str], known_words: Collection[str]) -> Fluency:
    """Measure passages.

    Args:
        passages: Texts of about one length.
        known_words: Every word of the corpora, lower case.

    Returns:
        Means and ranges; an empty passage counts as wholly repetitive.
    """
    repetition, diversity, unknown, words_seen = [], [], 0, 0
    for passage in passages:
        words = words_of(passage)
        trigrams = list(zip(words, words[1:], words[2:], strict=False))
        repetition.append(1 - len(set(trigrams)) / len(trigrams) if trigrams else 1.0)
        diversity.append(len(set(words)) / len(words) if words else 0.0)
        unknown += sum(word not in known_words for word in words)
        words_seen += len(words)

    def middle(values: list[float]) -> tuple[float, float]:
        low, high = np.percentile(values, [2.5, 97.5])
        return float(low), float(high)

    return Fluency(
        float(np.mean(repetition)),
        middle(repetition),
        float(np.mean(diversity)),
        middle(diversity),
        unknown / max(words_seen, 1),
    )
