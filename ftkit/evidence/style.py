"""Where a model's style stands between its floor (the base model) and its ceiling (real held-out text)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ftkit.evidence.intervals import Interval, bootstrap
from ftkit.evidence.judges import Gate, Judge

__all__ = ["StyleScore", "score_style"]


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
        Means and intervals; a judge that failed its gate, or scores above its ceiling, does not speak.
    """
    place = judge.classes.index(target)
    probabilities = {
        name: judge.probabilities(passages) for name, passages in (("base", base), ("tuned", tuned), ("real", real))
    }
    low, mid, high = (probabilities[name][:, place] for name in ("base", "tuned", "real"))

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(values.mean(-1))

    def position(base_p: np.ndarray, tuned_p: np.ndarray, real_p: np.ndarray) -> np.ndarray:
        span = np.maximum(mean(real_p) - mean(base_p), 1e-6)
        return np.asarray((mean(tuned_p) - mean(base_p)) / span)

    floor, score, ceiling = bootstrap(mean, low), bootstrap(mean, mid), bootstrap(mean, high)
    accuracy = bootstrap(mean, (probabilities["tuned"].argmax(1) == place).astype(float))
    speaks, reason = passed.speaks, passed.reason
    if speaks and score.value > ceiling.high:
        speaks, reason = (
            False,
            f"abstains: its score {score.value:.3f} is above what real text gets ({ceiling}), so it is being fooled",
        )
    elif speaks and ceiling.low <= floor.high:
        speaks, reason = (
            False,
            f"abstains: real text ({ceiling}) and the base model ({floor}) cannot be told apart by it",
        )
    return StyleScore(judge.name, floor, score, ceiling, bootstrap(position, low, mid, high), accuracy, speaks, reason)
