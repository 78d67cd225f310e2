"""What rules about gradients and rates (freezing, clipping, a schedule) did to a training, and whether it shows.

Arms are compared with their baseline pair by pair: accuracy on the same test texts, variance of the training loss on
the same batches. What the intervals do not tell apart is called a tie.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ftkit.evidence.classification import paired_difference
from ftkit.evidence.intervals import Interval
from ftkit.training import Predictions

__all__ = ["ArmDifference", "Course", "arm_difference", "course_of", "rules_finding"]

LAST_PART = 1 / 3
"""Share of the steps, at the end, over which the variance of the training loss is taken."""
_DRAWS = 2000


@dataclass(frozen=True)
class Course:
    """How one arm's training went, from its records of every step."""

    losses: np.ndarray
    """Training loss at each step of the last part, nats."""
    loss_variance: float
    """Their variance, nats squared."""
    clipped: float
    """Share of steps in which something was clipped."""
    clip_factor: float | None
    """What clipping left of the global norm, on average over those steps."""
    lost_norm: float
    """How much of the global norm was cut, on average over all steps."""
    seconds: float
    """Median time of a step."""


@dataclass(frozen=True)
class ArmDifference:
    """An arm against the baseline; intervals hold together for all arms with 95 %."""

    accuracy: Interval
    """Share of the test texts that it gets right more."""
    log_loss: Interval
    """Nats for each test text that it needs more."""
    variance_ratio: Interval
    """Variance of its training loss over that of the baseline."""

    def as_dict(self) -> dict[str, Any]:
        """For ``evidence.json``."""
        return asdict(self)


def course_of(records: Sequence[Mapping[str, Any]]) -> Course:
    """Sum up the records of an arm's steps.

    Args:
        records: Lines of ``metrics.jsonl`` with the split ``train``, at least one, in the order of the steps.
    """
    kept = max(math.ceil(len(records) * LAST_PART), 1)
    losses = np.array([record["loss"] for record in records[-kept:]])
    factors = np.array([record["clip_factor"] for record in records])
    cut = factors < 1
    return Course(
        losses=losses,
        loss_variance=float(losses.var(ddof=1)) if kept > 1 else math.nan,
        clipped=float(cut.mean()),
        clip_factor=float(factors[cut].mean()) if cut.any() else None,
        lost_norm=float(np.mean([record["lost_norm"] for record in records])),
        seconds=float(np.median([record["seconds"] for record in records])),
    )


def variance_ratio(base: np.ndarray, other: np.ndarray, comparisons: int = 1, seed: int = 0) -> Interval:
    """Variance of ``other`` over variance of ``base``, both at the same steps, which are redrawn together.

    Args:
        base: Losses of the baseline, [steps].
        other: Losses of an arm at the same steps.
        comparisons: How many intervals are looked at together.
        seed: Seed of the redraws.
    """
    steps = len(base)
    drawn = np.random.default_rng(seed).integers(0, steps, size=(_DRAWS, steps))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = other[drawn].var(-1) / base[drawn].var(-1)
        value = float(other.var() / base.var())
    tail = 2.5 / comparisons
    low, high = np.nanpercentile(ratios, [tail, 100 - tail]) if np.isfinite(ratios).any() else (math.nan, math.nan)
    return Interval(value, float(low), float(high))


def arm_difference(
    base: tuple[Predictions, Course], arm: tuple[Predictions, Course], comparisons: int
) -> ArmDifference:
    """Compare an arm with the baseline.

    Args:
        base: What the baseline says of the test texts, and how its training went.
        arm: The same of the arm.
        comparisons: How many arms are compared with this baseline.
    """
    (said, course), (said_too, course_too) = base, arm
    return ArmDifference(
        accuracy=paired_difference(said.right, said_too.right, comparisons),
        log_loss=paired_difference(said.nats, said_too.nats, comparisons),
        variance_ratio=variance_ratio(course.losses, course_too.losses, comparisons),
    )


def rules_finding(baseline: Interval, differences: Mapping[str, ArmDifference], idle: Sequence[str] = ()) -> str:
    """What came out, in one sentence; arms whose interval holds no difference are called ties.

    Args:
        baseline: Accuracy of the baseline.
        differences: Each other arm against it.
        idle: Arms whose rule never did anything.
    """
    accuracy = _said(
        {name: found.accuracy for name, found in differences.items()},
        0.0,
        ("wins {0:.1f} points [{1:+.1f}, {2:+.1f}]", "loses {0:.1f} points [{1:+.1f}, {2:+.1f}]"),
        100.0,
    )
    variance = _said(
        {name: found.variance_ratio for name, found in differences.items()},
        1.0,
        ("has {0:.2f} times its variance [{1:.2f}, {2:.2f}]",) * 2,
        1.0,
    )
    return (
        f"Against the baseline, which gets {100 * baseline.value:.1f} % of the test texts right "
        f"[{100 * baseline.low:.1f}, {100 * baseline.high:.1f}], {accuracy}; of the training loss at the end, "
        f"{variance}." + (f" In {_listed(idle)} no step was clipped." if idle else "")
    )


def _said(found: Mapping[str, Interval], none: float, ways: tuple[str, str], scale: float) -> str:
    """Arms with a difference, each with its interval, and the ties."""
    parts, ties = [], []
    for name, interval in found.items():
        if not (interval.low > none or interval.high < none):  # holds for intervals that could not be measured too
            ties.append(name)
            continue
        amount = abs(interval.value) if none == 0 else interval.value
        words = ways[0] if interval.value > none else ways[1]
        parts.append(f"{name} {words.format(scale * amount, scale * interval.low, scale * interval.high)}")
    if ties:
        parts.append(f"{_listed(ties)} {'tie' if len(ties) > 1 else 'ties'} with it")
    return _listed(parts)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
