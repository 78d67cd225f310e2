"""The blind test: passages of a model and of real text, mixed, for a reader who guesses which is which."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["BlindTest", "blind_test"]

_OF_EACH = 5
"""Real passages, and generated ones: ten guesses take a reader some minutes."""
_CHARS = 600
"""Characters that are shown of a passage."""
_CHANCE = 0.05
"""Probability with which guessing may reach the score: the usual level of a test."""


@dataclass(frozen=True)
class BlindTest:
    """Questions, and the score that guessing seldom reaches."""

    questions: tuple[tuple[str, bool], ...]
    """(passage, whether it is real), in an order that says nothing."""
    better: int
    """Right answers that someone who only guesses reaches in at most one test of twenty."""


def blind_test(generated: Sequence[str], real: Sequence[str], shown: int = 0) -> BlindTest | None:
    """Mix as many generated passages as real ones.

    Args:
        generated: Passages of the model.
        real: Real held-out passages.
        shown: Passages of each kind at the beginning that the page shows elsewhere; they are taken last.

    Returns:
        The test; ``None`` where there are fewer than three passages of a kind, with which no score says anything.
    """
    count = min(_OF_EACH, len(generated), len(real))
    if count < 3:
        return None
    taken = [
        (passage.strip()[:_CHARS], is_real)
        for passages, is_real in ((generated, False), (real, True))
        for passage in [*passages[shown:], *passages[:shown]][:count]
    ]
    taken.sort(key=lambda question: hashlib.sha256(question[0].encode("utf-8", "replace")).hexdigest())
    asked, least = 2 * count, _CHANCE * 4**count
    # A sum of binomials: scipy.stats takes half a second to load, a fifth of the time of a report, for this number.
    better = next(
        right for right in range(asked + 1) if sum(math.comb(asked, n) for n in range(right, asked + 1)) <= least
    )
    return BlindTest(tuple(taken), better)
