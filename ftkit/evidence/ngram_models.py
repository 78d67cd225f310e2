"""Models that count runs of letters or words: what a text is worth to somebody who knows no language."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

__all__ = ["NgramModel"]

Run = TypeVar("Run", str, tuple[str, ...])


class NgramModel(Generic[Run]):
    """Predicts a letter of a text, or a word of a sequence, from those before it by interpolated counts.

    Args:
        texts: Texts as strings, or as tuples of words.
        order: Length of the longest run that is counted.

    Source: Witten and Bell 1991, method C, https://doi.org/10.1109/18.87000.
    """

    def __init__(self, texts: Sequence[Run], order: int) -> None:
        self.order = order
        self._after: dict[Run, Counter[str]] = defaultdict(Counter)
        for text in texts:
            for place, item in enumerate(text):
                for length in range(min(order, place + 1)):
                    self._after[text[place - length : place]][item] += 1
        self._totals: dict[Run, int] = {context: counts.total() for context, counts in self._after.items()}
        nothing = next((text[:0] for text in texts), None)
        self.single: Counter[str] = Counter() if nothing is None else self._after[nothing]
        """How often each letter or word occurs."""
        self._unseen = 1 / (4 * (len(self.single) + 1))
        """Probability of what never occurred: there are four times as many as were seen."""

    def follows(self, context: Run, item: str) -> bool:
        """Whether an item was seen after a context."""
        return context in self._totals and item in self._after[context]

    def bits(self, text: Run) -> np.ndarray:
        """Bits that each letter or word costs, [length]."""
        return np.array([self._bits(text, place) for place in range(len(text))])

    def single_bits(self, text: Run) -> np.ndarray:
        """Bits that each costs without those before it, [length]."""
        total, kinds = self.single.total(), len(self.single) + 1
        return np.array([-math.log2((self.single[item] + 0.5) / (total + 0.5 * kinds)) for item in text])

    def _bits(self, text: Run, place: int) -> float:
        probability, item = self._unseen, text[place]
        for length in range(min(self.order, place + 1)):
            context = text[place - length : place]
            total = self._totals.get(context)
            if total is None:
                break
            counts = self._after[context]
            probability = (counts[item] + len(counts) * probability) / (total + len(counts))
        return -math.log2(probability)
