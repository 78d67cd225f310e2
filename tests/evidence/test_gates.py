"""The gate's questions, each against an oracle or a planted fault; the log-time fit and the discriminator."""

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from ftkit.data import VOICES, voice_text
from ftkit.evidence import (
    Gate,
    Interval,
    JudgeTexts,
    NgramJudge,
    StyleScore,
    auc_interval,
    cut_passages,
    disagreement,
    discriminate,
    fit_log_time,
    gate,
    score_style,
    style_courses,
)


@pytest.fixture(scope="module")
def texts() -> JudgeTexts:
    """Two voices, by other seeds in training and held out."""
    names = list(VOICES)[:2]

    def passages(name: str, words: int, seed: int) -> list[str]:
        return cut_passages([voice_text(name, words, seed=seed)], 200)

    return JudgeTexts({n: passages(n, 4000, 1) for n in names}, {n: passages(n, 1600, 2) for n in names})


class Planted:
    """A judge whose probabilities of class a are the passages; relearning gives what is planted."""

    name, classes, unit = "planted", ["a", "b"], "characters"

    def __init__(self, others=()):
        self.others = list(others)

    def probabilities(self, passages):
        p = np.array([float(text) if text.strip(".0123456789") == "" else 0.5 for text in passages])
        return np.stack([p, 1 - p], 1)

    def lengths(self, passages):
        return np.array([len(text) for text in passages])

    def relearn(self, train, seed):
        return self.others.pop(0) if self.others else self


class Inverted(Planted):
    def probabilities(self, passages):
        return super().probabilities(passages)[:, ::-1]


GOOD = {"a": [f"{0.9 + n / 1000:.3f}" for n in range(40)], "b": [f"{0.05 + n / 1000:.3f}" for n in range(40)]}


def test_a_good_judge_passes_every_question_and_the_figures_are_sklearns(texts):
    judge = NgramJudge(texts)
    found = gate(judge, texts.heldout, judge.classes, train=texts.train)
    assert found.speaks, found.reason
    passages = [p for name in judge.classes for p in texts.heldout[name]]
    truth = np.repeat([0, 1], [len(texts.heldout[name]) for name in judge.classes])
    said = judge.probabilities(passages)
    assert found.log_loss == pytest.approx(log_loss(truth, said))
    assert found.auc[judge.classes[1]] == pytest.approx(roc_auc_score(truth, said[:, 1]))
    assert found.agreement is not None
    assert found.agreement > 0.95
    assert found.swapped_auc is not None
    assert found.swapped_auc < 0.2  # two classes, swapped: the control says the opposite
    assert found.unit == "characters"
    assert 150 < found.length <= 200


def test_a_control_that_passes_closes_the_gate():
    found = gate(Planted(), GOOD, ["a"], train=GOOD)  # what learned swapped labels says the same
    assert not found.speaks
    assert "control" in found.reason
    assert gate(Planted([Planted(), Planted(), Inverted()]), GOOD, ["a"], train=GOOD).speaks


def test_two_seeds_that_disagree_close_the_gate():
    found = gate(Planted([Planted(), Inverted(), Inverted()]), GOOD, ["a"], train=GOOD)
    assert found.agreement == 0
    assert "agree on 0%" in found.reason
    assert gate(Planted([Inverted()]), GOOD, ["a"], train=GOOD, twin=Planted()).agreement == 1


def test_a_judge_that_is_poorly_calibrated_or_near_chance_fails():
    vague = {"a": ["0.51"] * 40, "b": ["0.49"] * 40}  # AUC 1, always right, and says next to nothing
    found = gate(Planted(), vague, ["a"])
    assert found.auc["a"] == 1
    assert found.calibration_error == pytest.approx(0.49)
    assert "poorly calibrated" in found.reason
    assert "log-loss near a uniform prediction" in found.reason
    assert f"{math.log(2):.3f}" in found.reason


def test_a_judge_that_knows_names_only_is_stopped():
    class Names(Planted):
        def probabilities(self, passages):
            p = np.where(["Alice" in text for text in passages], 0.95, 0.05)
            return np.stack([p, 1 - p], 1)

    heldout = {"a": ["then came Alice again"] * 40, "b": ["then came Gulliver again"] * 40}
    found = gate(Names(), heldout, ["a"])
    assert (found.auc["a"], found.auc_names_masked["a"]) == (1.0, 0.5)
    assert "names masked" in found.reason


PASSED = Gate({"a": 1.0}, {"a": 1.0}, 1.0, {"a": 40}, True, "passed", length=4, unit="characters")


def test_short_passages_are_left_out_and_too_many_of_them_silence_the_judge():
    base, real = ["0.10", "0.12"] * 20, ["0.90", "0.92"] * 20
    few = score_style(Planted(), "a", base, ["0.70"] * 38 + ["0.1"] * 2, real, PASSED)
    assert few.speaks
    assert (few.left_out, few.length, few.unit) == (2, 4, "characters")
    assert few.score.value == pytest.approx(0.7)
    many = score_style(Planted(), "a", base, ["0.70"] * 30 + ["0.1"] * 10, real, PASSED)
    assert not many.speaks
    assert "shorter than the minimum of 4 characters" in many.reason


def about(value: float, half: float = 0.02) -> Interval:
    return Interval(value, value - half, value + half)


def test_judges_that_order_the_models_the_other_way_round_disagree():
    up = StyleScore("encoder", about(0.2), about(0.6), about(0.9), about(0.6), about(0.8), True, "")
    down = replace(up, judge="ngrams", floor=about(0.7), score=about(0.4))
    assert "encoder puts the tuned model above the base model, ngrams puts it below" in disagreement([up, down])
    assert disagreement([up, replace(down, speaks=False)]) == ""
    assert disagreement([up, replace(down, floor=about(0.41))]) == ""  # the intervals meet: no order is shown


# -- the course over the steps ---------------------------------------------------------------------------------------


def test_a_course_on_the_logarithm_of_time_is_found_again():
    steps = [0, 1, 2, 5, 10, 20, 50]
    found = fit_log_time(steps, [0.1] + [0.5 + 0.1 * math.log(step) for step in steps[1:]])
    assert found.holds
    assert found.points == 6
    assert found.slope is not None
    assert (found.start, found.slope.value, found.explained) == pytest.approx((0.5, 0.1, 1))
    assert found.bars["0.85"] == pytest.approx(math.exp(3.5))
    assert found.bars["0.90"] == pytest.approx(math.exp(4.0))


def test_the_slopes_interval_is_students():
    from statistics import NormalDist

    generator, covered = np.random.default_rng(0), 0
    steps = np.arange(1, 30)
    for _ in range(200):
        slope = fit_log_time(steps, 0.2 + 0.1 * np.log(steps) + generator.normal(0, 0.05, len(steps))).slope
        assert slope is not None
        covered += slope.low <= 0.1 <= slope.high
    spread = NormalDist().inv_cdf(0.999) * math.sqrt(200 * 0.95 * 0.05)
    assert abs(covered - 190) < spread


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([0.1, 0.2, 0.3], "5 are needed"),
        ([0.5] * 8, "never changed"),
        ([0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.45, 0.4], "does not surely rise"),
        ([0.1, 0.7, 0.2, 0.8, 0.2, 0.9, 0.3, 0.9], "surely rise|variance"),
    ],
)
def test_a_course_that_is_no_such_line_names_no_step(scores, said):
    import re

    found = fit_log_time(range(1, len(scores) + 1), scores)
    assert not found.holds
    assert re.search(said, found.reason)
    assert not any(found.bars.values())


def test_a_bar_far_beyond_the_last_step_is_not_foretold():
    steps = [1, 2, 4, 8, 16]
    found = fit_log_time(steps, [0.1 + 0.01 * math.log(step) for step in steps])
    assert found.holds
    assert found.bars == {"0.85": None, "0.90": None}


def test_courses_by_model_and_judge_with_the_first_step_at_each_bar():
    records = [
        {"model": "m", "step": step, "split": "judge", "j_probability": share, "j_accuracy": share}
        for step, share in ((0, 0.0), (10, 0.86), (20, 0.84), (30, 0.95))
    ]
    found = style_courses([*records, {"model": "m", "step": 1, "split": "train", "loss": 1.0}])
    assert found["m"]["j"]["first_step_at"] == {"0.85": 10, "0.90": 30}
    assert found["m"]["j"]["last_accuracy"] == 0.95
    assert found["m"]["j"]["score"]["points"] == 3


# -- real against generated ------------------------------------------------------------------------------------------


def test_the_auc_is_sklearns_and_its_interval_never_has_width_0():
    generator = np.random.default_rng(0)
    high, low = np.round(generator.normal(1, 1, 50), 1), np.round(generator.normal(0, 1, 70), 1)
    found = auc_interval(high, low)
    truth = np.repeat([1, 0], [50, 70])
    assert found.value == pytest.approx(roc_auc_score(truth, np.concatenate([high, low])))
    assert found.low < found.value < found.high
    sure = auc_interval(high + 100, low)
    assert (sure.value, sure.high) == (1.0, 1.0)
    assert sure.low < 0.95


def test_other_text_is_told_from_real_and_real_from_real_is_not(texts):
    one, other = texts.heldout.values()
    found = discriminate(one[::2], tuned=one[1::2], base=other)
    assert found is not None
    assert found.base.low > 0.85
    assert found.tuned.low < 0.6
    assert discriminate(one[:9], one, other) is None
