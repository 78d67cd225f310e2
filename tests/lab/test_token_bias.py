"""Rates of token sets against scipy, exact counts, and a table of planted evidence."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from ftkit.evidence import Evidence, HeldOut, Interval, threshold_meanings, wilson
from ftkit.evidence.measures.general import General
from ftkit.evidence.measures.integrity import Integrity
from ftkit.lab.sections import TOKEN_BIAS
from ftkit.lab.token_bias import decide_token_bias, set_shares, target_rate, token_bias


@pytest.mark.parametrize(("count", "total"), [(0, 40), (1, 40), (17, 40), (40, 40), (188, 200)])
def test_the_binomial_interval_is_scipys(count, total):
    theirs = binomtest(count, total).proportion_ci(method="wilson")
    ours = wilson(count, total)
    assert (ours.value, ours.low, ours.high) == pytest.approx((count / total, theirs.low, theirs.high), abs=1e-7)


def test_shares_are_counted_in_tokens():
    shares = set_shares([(1, 2, 3, 4), (7, 7, 1, 7), (2, 2, 2, 2)], np.array([1, 7]))
    assert shares.tolist() == [0.25, 1.0, 0.0]


def test_passages_that_are_all_alike_do_not_make_a_rate_certain():
    nobody = target_rate(np.zeros(16), 50)
    assert (nobody.value, nobody.low) == (0.0, 0.0)
    assert nobody.high == pytest.approx(wilson(0, 800).high)
    assert nobody.high > 0.004
    split = target_rate(np.array([0.0] * 8 + [1.0] * 8), 50)
    assert split.low < 0.3 < wilson(400, 800).low  # tokens of a passage are not 800 independent draws


def evidence(rise: tuple[float, float] | None = (0.5, 0.4), **integrity: Any) -> Evidence:
    """Evidence with a gain of -1 on ordinary text."""
    general = General("ordinary text", rise=Interval(rise[0], rise[1], rise[0] + 0.1) if rise else None)
    return Evidence(
        HeldOut(Interval(2.0, 1.9, 2.1), Interval(3.0, 2.9, 3.1), Interval(-1.0, -1.2, -0.9), 50),
        {"general": general, "integrity": Integrity(**{"reload_difference": 0.0, **integrity})},
        passes=0.0,
    )


def rates(before: float, after: float):
    return token_bias(np.full(40, before), np.full(40, after), 100, Interval(-1.0, -1.2, -0.9))


@pytest.mark.parametrize(
    ("before", "after", "mass", "more", "word", "also"),
    [
        (0.01, 0.98, 1.0, {}, "worked", ["forgot"]),
        (0.01, 0.98, 1.0, {"rise": (0.01, 0.0)}, "worked", []),
        (0.01, 0.98, 1.0, {"rise": None}, "worked", []),
        (0.01, 0.30, 1.0, {}, "unsure", ["forgot"]),
        (0.01, 0.30, 0.5, {}, "worked", ["forgot"]),
        (0.01, 0.01, 1.0, {"rise": (0.01, 0.0)}, "nothing", []),
        (0.01, 0.98, 1.0, {"reload_difference": 0.1}, "broken", ["forgot"]),
        (0.01, 0.98, 1.0, {"finite": False}, "broken", ["forgot"]),
    ],
)
def test_the_verdict_on_a_token_bias_follows_from_rate_and_damage(before, after, mass, more, word, also):
    verdict = decide_token_bias(evidence(**more), rates(before, after), mass)
    assert (verdict.verdict, verdict.also) == (word, also)
    assert any("damage 1.000 [0.900, 1.200]" in reason for reason in verdict.reasons)


def test_a_weak_bias_gets_its_advice_and_a_strong_one_none():
    weak = decide_token_bias(evidence(), rates(0.01, 0.30), 1.0).as_dict()
    [sentence] = TOKEN_BIAS.advice(weak)
    assert sentence.startswith("The bias is weak")
    assert TOKEN_BIAS.advice(weak | {"verdict": "worked"}) == []


def test_every_threshold_of_the_verdict_is_explained():
    limits = decide_token_bias(evidence(), rates(0.01, 0.98), 1.0).as_dict()["thresholds"]
    assert set(limits) <= set(TOKEN_BIAS.thresholds) | set(threshold_meanings())
