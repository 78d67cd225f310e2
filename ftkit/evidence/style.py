"""Where a model's style stands between its floor (the base model) and its ceiling (real held-out text)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ftkit.evidence.intervals import Interval, bootstrap

if TYPE_CHECKING:
    from ftkit.evidence.gates import Gate
    from ftkit.evidence.judges import Judge

__all__ = ["StyleScore", "disagreement", "score_style"]

_MOST_LEFT_OUT = 0.1
"""Share of a model's passages that may be too short before its score says nothing."""


@dataclass(frozen=True)
class StyleScore:
    """One judge's mean probability of the target class, for three sources of passages of one length."""

    judge: str
    floor: Interval
    """Passages of the base model."""
    score: Interval
    """Passages of the tuned model."""
    ceiling: Interval
    """Real held-out passages."""
    position: Interval
    """(score - floor) / (ceiling - floor): 0 is the base model, 1 is real text."""
    accuracy: Interval
    """Share of the tuned model's passages that the judge gives to the target."""
    speaks: bool
    """Whether the judge passed its gate and the score is not above the ceiling."""
    reason: str
    length: int = 0
    """Every passage behind these figures is at least this long, in ``unit``."""
    unit: str = ""
    """What the judge reads: its tokens, or characters."""
    left_out: int = 0
    """Passages of the tuned model that were shorter."""


def score_style(
    judge: Judge, target: str, base: Sequence[str], tuned: Sequence[str], real: Sequence[str], passed: Gate
) -> StyleScore:
    """Score passages of one model.

    Args:
        judge: The judge.
        target: The class that the tuned model should write like.
        base: Passages of the base model that the judge has not seen.
        tuned: Passages of the tuned model.
        real: Real held-out passages of the target.
        passed: The judge's gate.

    Returns:
        Means and intervals; a judge that failed its gate, or scores above its ceiling, is not used.
    """
    place = judge.classes.index(target)
    sources = {"base": base, "tuned": tuned, "real": real}
    long = {name: _long_enough(judge, passages, passed.length) for name, passages in sources.items()}
    left_out = len(tuned) - len(long["tuned"])
    probabilities = {name: judge.probabilities(long[name] or sources[name]) for name in sources}
    low, mid, high = (probabilities[name][:, place] for name in ("base", "tuned", "real"))

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(values.mean(-1))

    def position(base_p: np.ndarray, tuned_p: np.ndarray, real_p: np.ndarray) -> np.ndarray:
        span = np.maximum(mean(real_p) - mean(base_p), 1e-6)
        return np.asarray((mean(tuned_p) - mean(base_p)) / span)

    floor, score, ceiling = bootstrap(mean, low), bootstrap(mean, mid), bootstrap(mean, high)
    accuracy = bootstrap(mean, (probabilities["tuned"].argmax(1) == place).astype(float))
    speaks, reason = passed.speaks, passed.reason
    if speaks and left_out > _MOST_LEFT_OUT * len(tuned):
        speaks, reason = (
            False,
            f"{left_out} of {len(tuned)} passages are shorter than the minimum of {passed.length} {passed.unit}; "
            "set a smaller passage_chars, or generate longer passages",
        )
    elif speaks and score.value > ceiling.high:
        speaks, reason = (
            False,
            f"score {score.value:.3f} above real text ({ceiling}): not usable",
        )
    elif speaks and ceiling.low <= floor.high:
        speaks, reason = (
            False,
            f"its score for real text ({ceiling}) is not clearly above its score for the base model ({floor})",
        )
    placed = bootstrap(position, low, mid, high)
    return StyleScore(
        judge.name, floor, score, ceiling, placed, accuracy, speaks, reason, passed.length, passed.unit, left_out
    )


def _long_enough(judge: Judge, passages: Sequence[str], length: int) -> list[str]:
    """Passages of the length that is guaranteed."""
    if not length or not passages:
        return list(passages)
    return [passage for passage, own in zip(passages, judge.lengths(passages), strict=True) if own >= length]


def disagreement(styles: Sequence[StyleScore]) -> str:
    """Whether two judges that speak put base model, tuned model and real text in opposite orders.

    Args:
        styles: What every judge says of one model.

    Returns:
        The disagreement in words; empty where there is none. Only orders that the intervals show are compared.
    """
    speaking = [style for style in styles if style.speaks]
    names = {"floor": "the base model", "score": "the tuned model", "ceiling": "real text"}
    for high, low in (("score", "floor"), ("ceiling", "score")):
        high_name, low_name = names[high], names[low]
        orders = {style.judge: _order(getattr(style, high), getattr(style, low)) for style in speaking}
        up, down = ([judge for judge, order in orders.items() if order == way] for way in (1, -1))
        if up and down:
            return f"the judges disagree in order: {up[0]} puts {high_name} above {low_name}, {down[0]} puts it below"
    return ""


def _order(first: Interval, second: Interval) -> int:
    """1 where the first lies clearly above, -1 where it lies clearly below, 0 where the intervals meet."""
    return int(first.low > second.high) - int(first.high < second.low)
