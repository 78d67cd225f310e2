"""Three fixed looks: passages are added until every rule that can change the main word is decided.

    96 passages -> measures -> rules -> decided? -- yes --> evidence
                                 \\-- no --> 192 -> ... -> 384

Each look has its share of the error, so that looking three times is no more often wrong than looking once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ftkit.evidence.comparison import Comparison, measure_at
from ftkit.evidence.document import Evidence
from ftkit.evidence.intervals import LEVEL
from ftkit.evidence.thresholds import Thresholds
from ftkit.evidence.verdict import decide
from ftkit.memory import memory_phase

__all__ = ["LOOKS", "gather_evidence", "looks_up_to"]

LOOKS = (96, 192, 384)
"""Passages of each model. With 48 of them after held-out text, and none copied of 48 after training text, copying is
excluded at the first look; four times as many passages halve the intervals."""

_logger = logging.getLogger("ftkit.evidence")


def looks_up_to(passages: int | None) -> Sequence[int]:
    """The looks, or the one look that a number of passages asks for."""
    return LOOKS if passages is None else (passages,)


@memory_phase("evaluate")
def gather_evidence(comparison: Comparison, limits: Thresholds | None = None, looks: Sequence[int] = LOOKS) -> Evidence:
    """Take all measurements of a tuned model against its base, on as many passages as the verdict needs.

    Args:
        comparison: Without ``write`` its passages are all there are.
        limits: The numbers that decide; ``None`` takes the defaults.
        looks: Numbers of passages, ascending.
    """
    if comparison.write is None:
        return measure_at(comparison)
    level, evidence = 1 - (1 - LEVEL) / len(looks), None
    for number, passages in enumerate(looks):
        evidence = measure_at(comparison.look(passages, level), evidence)
        undecided = decide(evidence, limits).open
        if not undecided:
            break
        if number + 1 < len(looks):
            _logger.info("not decided by %d passages: %s", passages, ", ".join(undecided))
    assert evidence is not None
    return evidence
