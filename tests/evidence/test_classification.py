"""Figures of classifiers against scikit-learn, scipy and closed formulas, and against planted models."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from ftkit.errors import DataError
from ftkit.evidence import paired_difference, score_classifier
from ftkit.evidence.classification import calibration_error, macro_auc, wilson
from ftkit.training import Predictions


def planted(n: int, num_classes: int, skill: float, seed: int = 0, rounded: bool = False) -> Predictions:
    """A model whose logits know the class with some skill; rounding makes ties."""
    draw = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_classes), draw.integers(0, num_classes, n - num_classes)])
    logits = draw.normal(size=(n, num_classes)) + skill * np.eye(num_classes)[labels]
    logits = np.round(logits, 1) if rounded else logits
    return Predictions(logits - np.log(np.exp(logits).sum(1, keepdims=True)), labels)


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("rounded", [False, True])
def test_every_figure_is_scikit_learns(num_classes, rounded):
    found = planted(400, num_classes, 1.0, rounded=rounded)
    names = [f"c{n}" for n in range(num_classes)]
    scores = score_classifier(found, names)
    predicted, probabilities = found.log_probabilities.argmax(1), np.exp(found.log_probabilities)
    areas = (
        roc_auc_score(found.labels, probabilities[:, 1])
        if num_classes == 2
        else roc_auc_score(found.labels, probabilities, multi_class="ovr", average="macro")
    )
    assert scores.accuracy.value == (predicted == found.labels).mean()
    assert scores.macro_f1.value == pytest.approx(f1_score(found.labels, predicted, average="macro"))
    assert scores.log_loss.value == pytest.approx(log_loss(found.labels, probabilities))
    assert scores.auc.value == pytest.approx(areas, abs=1e-12)
    assert np.array(scores.confusion).sum() == scores.texts == 400
    assert np.trace(scores.confusion) == round(400 * scores.accuracy.value)
    assert scores.above_chance
    for name in ("accuracy", "macro_f1", "log_loss", "auc", "calibration_error", "overconfidence"):
        interval = getattr(scores, name)
        assert interval.low < interval.value < interval.high, name


def test_areas_of_redraws_are_those_of_the_redrawn_texts():
    found, drawn = planted(60, 3, 0.5, rounded=True), np.random.default_rng(1).integers(0, 60, (7, 60))
    probabilities = np.exp(found.log_probabilities)
    for places, area in zip(drawn, macro_auc(found.labels, probabilities, drawn), strict=True):
        reference = roc_auc_score(found.labels[places], probabilities[places], multi_class="ovr", average="macro")
        assert area == pytest.approx(reference, abs=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (7, 12), (480, 1000)])
def test_the_interval_of_an_accuracy_is_wilsons(hits, n):
    reference = binomtest(hits, n).proportion_ci(method="wilson")
    found = wilson(hits, n)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_calibration_error_by_hand():
    # Two bins: three texts at 0.9 of which two are right, one at 0.6 that is wrong.
    found = calibration_error(np.array([0.9, 0.9, 0.9, 0.6]), np.array([1.0, 1.0, 0.0, 0.0]))
    assert found == pytest.approx((abs(3 * 0.9 - 2) + 0.6) / 4)
    # A model that is as sure as it is right has none, but for the noise of few texts.
    draw = np.random.default_rng(0)
    confidence = draw.uniform(0.5, 1, 200_000)
    assert calibration_error(confidence, (draw.random(200_000) < confidence).astype(float)) < 0.005


def test_a_model_that_knows_nothing_is_at_chance_and_one_that_is_too_sure_is_seen():
    nothing = score_classifier(planted(2000, 2, 0.0), ["a", "b"])
    assert not nothing.above_chance
    assert nothing.auc.low < 0.5 < nothing.auc.high
    assert nothing.chance_log_loss == pytest.approx(math.log(2), abs=1e-3)
    assert nothing.overconfidence.low > 0.1
    flat = Predictions(np.full((100, 2), math.log(0.5)), np.arange(100) % 2)
    assert score_classifier(flat, ["a", "b"]).log_loss.value == pytest.approx(math.log(2))
    skewed = score_classifier(Predictions(np.log(np.tile([0.9, 0.1], (100, 1))), np.arange(100) % 10 // 9), ["a", "b"])
    assert skewed.accuracy.value == skewed.chance_accuracy == 0.9
    assert not skewed.above_chance
    assert skewed.macro_f1.value == pytest.approx((2 * 90 / 190) / 2)


def test_intervals_cover_the_truth_as_often_as_they_say():
    many = planted(300_000, 2, 1.0, seed=99)
    probabilities = np.exp(many.log_probabilities)
    truth = {
        "macro_f1": f1_score(many.labels, probabilities.argmax(1), average="macro"),
        "log_loss": log_loss(many.labels, probabilities),
        "auc": roc_auc_score(many.labels, probabilities[:, 1]),
    }
    covered = dict.fromkeys(truth, 0)
    for seed in range(24):
        scores = score_classifier(planted(150, 2, 1.0, seed), ["a", "b"])
        for name in covered:
            interval = getattr(scores, name)
            covered[name] += interval.low <= truth[name] <= interval.high
    assert all(count >= 19 for count in covered.values()), covered  # 23 expected; fewer than 19 has odds of 1:700


def test_a_paired_difference_is_sharper_than_two_intervals_and_widens_with_comparisons():
    draw = np.random.default_rng(0)
    base = draw.normal(size=1000)
    other = base + 0.05 + 0.1 * draw.normal(size=1000)
    one, four = paired_difference(base, other), paired_difference(base, other, comparisons=4)
    standard_error = (other - base).std() / math.sqrt(1000)
    assert (one.low, one.high) == pytest.approx(
        (one.value - 1.96 * standard_error, one.value + 1.96 * standard_error), abs=0.1 * standard_error
    )
    assert four.high - four.low == pytest.approx(2 * 2.498 * standard_error, rel=0.1)
    assert one.low > 0 > one.value - 1.96 * math.sqrt(2 / 1000)


def test_a_class_without_test_texts_is_refused():
    with pytest.raises(DataError, match="no test text of the class 'c'"):
        score_classifier(planted(50, 2, 1.0), ["a", "b", "c"])
