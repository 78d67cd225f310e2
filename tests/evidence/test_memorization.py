"""What a model knows by heart, planted in numbers."""

import math

import numpy as np
import pytest
from scipy.stats import hypergeom

from ftkit.evidence.comparison import ComparedPassages, ComparedTexts, Comparison
from ftkit.evidence.measures.memorization import MEASURE, Memorization, _as_many
from ftkit.training import HeldOutDataset, HeldOutLoss

SIZE = 100
"""Bytes of a passage."""


class Rows(HeldOutDataset):
    """So many rows without a tokenizer."""

    longest_row = 1

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def rows(self, numbers):
        raise NotImplementedError

    def covered_bytes(self, numbers, labels_BT):
        raise NotImplementedError


def loss(bits: np.ndarray) -> HeldOutLoss:
    """Losses of so many bits per byte."""
    ones = np.ones(len(bits), dtype=np.int64)
    return HeldOutLoss(bits * SIZE * math.log(2), SIZE * ones, SIZE * ones)


def memorization(trained: np.ndarray, heldout: np.ndarray) -> Memorization:
    """What the measure says of so much gain on each training and each held-out passage."""
    kept = {
        "losses": (loss(np.full(len(heldout), 3.0)), loss(3.0 - heldout)),
        "training losses": (loss(np.full(len(trained), 3.0)), loss(3.0 - trained)),
    }
    texts = ComparedTexts(Rows(len(heldout)), (), (), train=Rows(len(trained)))
    found = MEASURE.compute(Comparison(None, None, texts, ComparedPassages(), 8, kept=kept))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_known_passages_are_found_with_their_places_and_losses():
    draw = np.random.default_rng(0)
    trained, heldout = draw.normal(0.3, 0.1, 200), draw.normal(0.3, 0.1, 300)
    trained[[20, 150]] = 2.0, 1.5
    found = memorization(trained, heldout)
    first, second = found.known[:2]
    assert (first.place, second.place) == (20 / 200, 150 / 200)
    assert (first.gain, first.base, first.tuned) == pytest.approx((2.0, 3.0, 1.0))
    assert found.limit == np.sort(heldout)[-4], "three of 300 held-out passages are above it"
    assert found.found.value == np.mean(trained > found.limit)
    assert found.found.low < found.found.value < found.found.high


def test_text_that_was_not_memorized_is_found_as_often_as_is_said():
    draw = np.random.default_rng(1)
    pairs = [(draw.normal(size=80), draw.normal(size=150)) for _ in range(400)]
    found = [memorization(trained, heldout) for trained, heldout in pairs]
    assert np.mean([each.found.value for each in found]) == pytest.approx(found[0].expected, abs=0.003)
    sure = sum(each.chance < 0.025 for each in found)
    assert sure <= 18, "more than 2.5 % of 400, with its sampling error"


@pytest.mark.parametrize(("trained", "heldout", "place"), [(5, 7, 1), (30, 200, 3), (64, 64, 1)])
def test_the_chance_is_a_sum_of_hypergeometric_terms(trained: int, heldout: int, place: int):
    for count in range(trained + 1):
        # Fewer than `place` held-out passages stand among the first `count + place - 1` of all.
        first = count + place - 1
        expected = hypergeom.cdf(place - 1, trained + heldout, heldout, first)
        assert _as_many(count, trained, place, heldout) == pytest.approx(expected, abs=1e-9)
