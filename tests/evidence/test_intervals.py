"""Intervals keep what they promise: they cover the truth, and hold their own value."""

import math

import numpy as np
import pytest

from ftkit.evidence import change_of_share, wilson


def test_a_change_of_shares_covers_the_truth_and_always_has_a_width():
    generator = np.random.default_rng(0)
    for base, lost, won in ((0.05, 0.02, 0.04), (0.5, 0.1, 0.3), (0.9, 0.0, 0.05)):
        covered = 0
        for _ in range(400):
            before = generator.random(96) < base
            after = np.where(before, generator.random(96) >= lost, generator.random(96) < won)
            found = change_of_share(before, after)
            assert found.value == pytest.approx(after.mean() - before.mean())
            assert found.low <= found.value <= found.high
            truth = (1 - base) * won - base * lost
            covered += found.low <= truth <= found.high
        assert covered / 400 > 0.93
    nobody = change_of_share(np.zeros(96), np.zeros(96))
    assert nobody.low < 0 < nobody.high
    everybody = change_of_share(np.zeros(96), np.ones(96))
    assert everybody.low < everybody.value == 1


def test_pairs_that_do_not_agree_by_more_than_chance_are_two_shares_apart():
    before, after = np.repeat([1, 0], 50), np.tile([1, 0], 50)  # no correlation
    found, alone = change_of_share(before, after), wilson(50, 100)
    assert found.high == pytest.approx(math.hypot(alone.high - 0.5, 0.5 - alone.low))
