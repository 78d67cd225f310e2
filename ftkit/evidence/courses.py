"""How a model's style grows with the steps: the lessons' fit on the logarithm of the step, and their two bars."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ftkit.evidence.intervals import Interval

__all__ = ["LogTimeFit", "fit_log_time", "judging_times", "style_courses"]

LESSON_BARS = (0.85, 0.90)
"""Share of passages given to the target: above 0.85 acceptable, above 0.90 learned (lesson 07/023)."""
_FEWEST_POINTS = 5
"""Points below which a line of two parameters explains almost any curve."""
_LEAST_EXPLAINED = 0.7
"""A starting value: share of the variance from which a line counts as a description."""
_FURTHEST = 10
"""Times the last step: a line says nothing about what lies further ahead."""


@dataclass(frozen=True)
class LogTimeFit:
    """score = a + b ln(step), by least squares over the steps after the first."""

    points: int
    holds: bool
    """Whether the line describes the course well enough to be read."""
    reason: str
    start: float | None = None
    """a: the score at step 1."""
    slope: Interval | None = None
    """b: what a step 2.7 times later adds; interval by Student's t."""
    explained: float | None = None
    """Share of the scores' variance that the line explains."""
    bars: dict[str, float | None] = field(default_factory=dict)
    """Step at which the line reaches each bar; ``None`` where that is too far ahead, or the fit does not hold."""


def fit_log_time(steps: Sequence[float], scores: Sequence[float]) -> LogTimeFit:
    """Fit a course of scores.

    Args:
        steps: Training steps; step 0 has no logarithm and is left out.
        scores: The score at each of them.

    Source: lesson 07/023.
    """
    pairs = [(math.log(s), v) for s, v in zip(steps, scores, strict=True) if s > 0 and math.isfinite(v)]
    n = len(pairs)
    if len({x for x, _ in pairs}) < _FEWEST_POINTS:
        return LogTimeFit(n, False, f"{n} judged steps after the first, {_FEWEST_POINTS} are needed")
    x, y = np.array(pairs).T
    if np.ptp(y) == 0:
        return LogTimeFit(n, False, "the score never changed", float(y[0]), explained=0.0)
    from scipy.stats import linregress, t

    line = linregress(x, y)
    half = float(t.ppf(0.975, n - 2) * line.stderr)
    slope, explained = Interval(float(line.slope), line.slope - half, line.slope + half), float(line.rvalue**2)
    start = float(line.intercept)
    if slope.low <= 0:
        reason = f"the score does not surely rise: slope {slope}"
    elif explained < _LEAST_EXPLAINED:
        reason = f"the line explains {explained:.0%} of the scores' variance, {_LEAST_EXPLAINED:.0%} are needed"
    else:
        last = float(np.exp(x.max())) * _FURTHEST
        bars = {f"{bar:.2f}": _reached(bar, start, slope.value, last) for bar in LESSON_BARS}
        return LogTimeFit(n, True, f"the line explains {explained:.0%} of the variance", start, slope, explained, bars)
    return LogTimeFit(n, False, reason, start, slope, explained)


def _reached(bar: float, start: float, slope: float, last: float) -> float | None:
    """Step at which a line reaches a bar."""
    needed = (bar - start) / slope
    return math.exp(needed) if needed <= math.log(last) else None


def style_courses(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the judged steps of every model say of its course.

    Args:
        records: Of ``metrics.jsonl``.

    Returns:
        By model and judge: the fit of the mean probability of the target (``score``), the fit of the share of passages
        given to it (``accuracy``), and the first judged step at or above each of the lessons' bars.
    """
    found: dict[str, dict[str, Any]] = {}
    judged = [record for record in records if record.get("split") == "judge"]
    for model in dict.fromkeys(record["model"] for record in judged):
        mine = [record for record in judged if record["model"] == model]
        judges = [key.removesuffix("_probability") for key in mine[0] if key.endswith("_probability")]
        found[model] = {judge: _course(mine, judge) for judge in judges}
    return found


def judging_times(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """What judging cost every model while it learned.

    Args:
        records: Of ``metrics.jsonl``.

    Returns:
        By model: ``judging`` and ``training`` in seconds, and ``share``, the first of both.
    """
    found: dict[str, dict[str, float]] = {}
    for model in dict.fromkeys(record["model"] for record in records if record.get("split") == "judge"):
        judging, training = (
            sum(r.get("seconds", 0.0) for r in records if (r["model"], r.get("split")) == (model, split))
            for split in ("judge", "train")
        )
        found[model] = {"judging": judging, "training": training, "share": judging / ((judging + training) or 1)}
    return found


def _course(records: Sequence[Mapping[str, Any]], judge: str) -> dict[str, Any]:
    steps = [record["step"] for record in records]
    shares = [float(record[f"{judge}_accuracy"]) for record in records]
    first = {
        f"{bar:.2f}": next((step for step, share in zip(steps, shares, strict=True) if share >= bar), None)
        for bar in LESSON_BARS
    }
    return {
        "score": asdict(fit_log_time(steps, [float(record[f"{judge}_probability"]) for record in records])),
        "accuracy": asdict(fit_log_time(steps, shares)),
        "last_accuracy": shares[-1],
        "first_step_at": first,
    }
