"""Effect of gradient rules (freezing, clipping, a schedule) on the training of a classifier, with intervals.

Arms are compared with their baseline pair by pair: accuracy on the same test texts, variance of the training loss on
the same batches. What the intervals do not tell apart is called a tie.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ftkit.display.wording import interval, number, percent, percent_interval, table_cell
from ftkit.evidence import ClassifierScores, Interval, paired_difference
from ftkit.runs import RunFolder
from ftkit.training import Predictions

__all__ = ["ArmDifference", "LossCurve", "arm_difference", "classifier_row", "loss_curve", "rules_finding"]

LAST_PART = 1 / 3
"""Share of the steps, at the end, over which the variance of the training loss is taken."""
_DRAWS = 2000  # as many as the intervals of evidence have


@dataclass(frozen=True)
class LossCurve:
    """Training losses, clipping and time of one arm, from its records of every step."""

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


def loss_curve(records: Sequence[Mapping[str, Any]]) -> LossCurve:
    """Summarize the records of an arm's steps.

    Args:
        records: Lines of ``metrics.jsonl`` with the split ``train``, at least one, in the order of the steps.
    """
    kept = max(math.ceil(len(records) * LAST_PART), 1)
    losses = np.array([record["loss"] for record in records[-kept:]])
    factors = np.array([record["clip_factor"] for record in records])
    cut = factors < 1
    return LossCurve(
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
    base: tuple[Predictions, LossCurve], arm: tuple[Predictions, LossCurve], comparisons: int
) -> ArmDifference:
    """Compare an arm with the baseline.

    Args:
        base: Predictions of the baseline for the test texts, and its training.
        arm: The same of the arm.
        comparisons: How many arms are compared with this baseline.
    """
    (said, curve), (said_too, curve_too) = base, arm
    return ArmDifference(
        accuracy=paired_difference(said.right, said_too.right, comparisons),
        log_loss=paired_difference(said.nats, said_too.nats, comparisons),
        variance_ratio=variance_ratio(curve.losses, curve_too.losses, comparisons),
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


def classifier_row(
    run: RunFolder, name: str, scores: ClassifierScores, curve: LossCurve, difference: ArmDifference | None
) -> dict[str, dict[str, Any]]:
    """Return one arm's row of the table that compares classifiers.

    Args:
        run: The run, for the plan.
        name: The arm.
        scores: Its test.
        curve: Its training.
        difference: The arm against the baseline; ``None`` for the baseline itself.

    Returns:
        Cells by heading; see ``table_cell``.
    """
    plan = run.manifest["plan"][name]
    trainable = f"{plan['trainable']:,} ({plan['trainable'] / plan['parameters']:.1%})"
    cells = {
        "trainable": table_cell(trainable, plan["trainable"]),
        "accuracy": table_cell(percent_interval(scores.accuracy.as_dict()), _hundredfold(scores.accuracy)),
        "more accuracy than the baseline, points": table_cell(""),
        "log-loss, nats": table_cell(interval(scores.log_loss.as_dict()), scores.log_loss),
        "variance of the last training losses": _plain(curve.loss_variance),
        "that over the baseline's": table_cell(""),
        "steps clipped": table_cell(percent(curve.clipped), 100 * curve.clipped),
        "clip factor when clipped": _plain(curve.clip_factor),
        "norm lost per step": _plain(curve.lost_norm),
        "seconds for a step": _plain(curve.seconds),
    }
    if difference:
        more, ratio = difference.accuracy, difference.variance_ratio
        cells["more accuracy than the baseline, points"] = table_cell(_points(more.as_dict()), _hundredfold(more))
        cells["that over the baseline's"] = table_cell(interval(ratio.as_dict()), ratio)
    return cells


def _hundredfold(share: Interval) -> Interval:
    return Interval(100 * share.value, 100 * share.low, 100 * share.high)


def _plain(value: float | None) -> dict[str, Any]:
    return table_cell("" if value is None else number(value), value)


def _points(difference: Mapping[str, float]) -> str:
    """A difference of shares in percentage points."""
    value, low, high = (100 * difference[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−")


def _said(found: Mapping[str, Interval], none: float, ways: tuple[str, str], scale: float) -> str:
    """Arms with a difference, each with its interval, and the ties."""
    parts, ties = [], []
    for name, measured in found.items():
        if not (measured.low > none or measured.high < none):  # holds for intervals that could not be measured too
            ties.append(name)
            continue
        amount = abs(measured.value) if none == 0 else measured.value
        words = ways[0] if measured.value > none else ways[1]
        parts.append(f"{name} {words.format(scale * amount, scale * measured.low, scale * measured.high)}")
    if ties:
        parts.append(f"{_listed(ties)} {'tie' if len(ties) > 1 else 'ties'} with it")
    return _listed(parts)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
