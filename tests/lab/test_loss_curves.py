"""What rules did to a training: variance ratios, sums over records, and a sentence that calls ties ties."""

import numpy as np
import pytest

from ftkit.evidence import Interval
from ftkit.lab.gradient_rules import ArmDifference, loss_curve, rules_finding, variance_ratio


def test_a_variance_ratio_is_paired_and_widens_with_comparisons():
    base = np.random.default_rng(0).normal(size=60)
    assert variance_ratio(base, base) == Interval(1.0, 1.0, 1.0)
    doubled = variance_ratio(base, 2 * base + 3)
    assert (doubled.value, doubled.low, doubled.high) == pytest.approx((4, 4, 4))
    other = np.random.default_rng(1).normal(size=60)
    one, four = variance_ratio(base, other), variance_ratio(base, other, comparisons=4)
    assert one.low < other.var() / base.var() < one.high
    assert four.low < one.low < one.high < four.high
    alone = np.random.default_rng(2).normal(size=60) * 0.3
    assert variance_ratio(base, alone).high < 1


def test_a_baseline_that_does_not_vary_gives_no_ratio_and_no_warning():
    flat = variance_ratio(np.ones(5), np.arange(5.0))
    assert np.isnan(flat.low)


def test_the_course_of_an_arm_is_counted_over_its_steps():
    records = [
        {"loss": float(n), "clip_factor": 0.5 if n % 4 == 0 else 1.0, "lost_norm": 2.0 if n % 4 == 0 else 0.0,
         "seconds": 1.0 + (n == 3)}
        for n in range(12)
    ]  # fmt: skip
    curve = loss_curve(records)
    assert curve.losses.tolist() == [8.0, 9.0, 10.0, 11.0]
    assert curve.loss_variance == pytest.approx(np.var([8, 9, 10, 11], ddof=1))
    assert (curve.clipped, curve.clip_factor, curve.lost_norm, curve.seconds) == (0.25, 0.5, 0.5, 1.0)
    free = loss_curve([{**record, "clip_factor": 1.0} for record in records])
    assert (free.clipped, free.clip_factor) == (0.0, None)


def difference(accuracy: tuple[float, float, float], ratio: tuple[float, float, float]) -> ArmDifference:
    return ArmDifference(Interval(*accuracy), Interval(0.0, -0.1, 0.1), Interval(*ratio))


def test_the_finding_names_differences_with_their_intervals_and_calls_the_rest_ties():
    found = {
        "freeze": difference((-0.031, -0.05, -0.012), (1.1, 0.7, 1.6)),
        "clip": difference((0.004, -0.01, 0.02), (0.98, 0.8, 1.2)),
        "schedule": difference((0.02, 0.005, 0.035), (0.5, 0.3, 0.8)),
    }
    said = rules_finding(Interval(0.801, 0.784, 0.817), found, ["clip"])
    assert said == (
        "Against the baseline, which gets 80.1 % of the test texts right [78.4, 81.7], freeze loses 3.1 points "
        "[-5.0, -1.2], schedule wins 2.0 points [+0.5, +3.5] and clip ties with it; of the training loss at the end, "
        "schedule has 0.50 times its variance [0.30, 0.80] and freeze and clip tie with it. In clip no step was "
        "clipped."
    )
    nothing = float("nan")
    ties = rules_finding(Interval(0.5, 0.4, 0.6), {"a": difference((0, -0.1, 0.1), (nothing, nothing, nothing))})
    assert "a ties with it; of the training loss at the end, a ties with it." in ties
