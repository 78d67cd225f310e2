"""The gate's questions, each against an oracle or a planted fault; the log-time fit and the discriminator."""

import math

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from ftkit.data import VOICES, voice_text
from ftkit.evidence import (
    Gate,
    JudgeTexts,
    JudgeView,
    NgramJudge,
    auc_interval,
    cut_passages,
    discriminate,
    fit_log_time,
    fit_vectors,
    gate,
    judging_times,
    score_style,
    style_courses,
)
from ftkit.evidence.judges import SHUFFLED


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
    one, other = judge.classes
    odds = np.log(said[:, 0] / said[:, 1])
    assert found.auc_pairs[one] == {other: pytest.approx(roc_auc_score(truth == 0, odds))}
    assert found.unit == "characters"
    assert 150 < found.length <= 200


def test_a_control_that_passes_closes_the_gate():
    found = gate(Planted(), GOOD, ["a"], train=GOOD)  # what learned swapped labels says the same
    assert not found.speaks
    assert "control" in found.reason
    assert gate(Planted([Planted(), Planted(), Inverted()]), GOOD, ["a"], train=GOOD).speaks


def test_agreement_calibration_and_log_loss_are_reported_and_close_no_gate():
    found = gate(Planted([Planted(), Inverted(), Inverted()]), GOOD, ["a"], train=GOOD)
    assert (found.agreement, found.speaks) == (0, True)
    assert gate(Planted([Inverted()]), GOOD, ["a"], train=GOOD, twin=Planted()).agreement == 1
    vague = gate(Planted(), {"a": ["0.51"] * 40, "b": ["0.49"] * 40}, ["a"])  # AUC 1, always right, and hardly sure
    assert (vague.auc_pairs["a"]["b"], vague.speaks) == (1, True)
    assert vague.calibration_error == pytest.approx(0.49)
    assert vague.log_loss == pytest.approx(-math.log(0.51))


@pytest.mark.parametrize(("confused", "closed"), [("b", True), (SHUFFLED, True), ("base model", False)])
def test_the_target_is_separated_from_other_and_corrupted_text_and_need_not_be_from_the_base(confused, closed):
    class Confusing(Planted):
        classes = ["a", "b", "base model", SHUFFLED]

        def probabilities(self, passages):
            found = np.full((len(passages), 4), 0.01)
            places = [self.classes.index("a" if text == confused else text) for text in passages]
            found[np.arange(len(passages)), places] = 0.97
            return found

    found = gate(Confusing(), {name: [name] * 40 for name in Confusing.classes}, ["a"])
    assert found.auc_pairs["a"][confused] == 0.5
    assert found.speaks != closed
    if closed:
        assert found.reason.startswith(f"AUC of real a text below 0.95 against {confused} (0.500)")
    else:
        least = [f"against {kind} at least 1.000" for kind in ("other real text", "corrupted text")]
        assert found.reason == f"AUC of the target {', '.join(least)}"


def test_a_judge_that_knows_names_only_is_stopped():
    class Names(Planted):
        def probabilities(self, passages):
            p = np.where(["Alice" in text for text in passages], 0.95, 0.05)
            return np.stack([p, 1 - p], 1)

    heldout = {"a": ["then came Alice again"] * 40, "b": ["then came Gulliver again"] * 40}
    found = gate(Names(), heldout, ["a"])
    assert (found.auc["a"], found.auc_names_masked["a"]) == (1.0, 0.5)
    assert "names masked" in found.reason


def test_short_passages_are_left_out_and_too_many_of_them_silence_the_judge():
    judge = Planted()
    passed = Gate({"a": 1.0}, {"a": 1.0}, 1.0, {"a": 40}, True, "passed", length=4, unit="characters")
    base, real = ["0.10", "0.12", "0.09", "0.11"] * 10, ["0.90", "0.92", "0.91", "0.89"] * 10
    vectors = fit_vectors(judge.probabilities([*real, *base]), np.repeat([0, 1], 40))
    view = JudgeView(passed, vectors, {})
    few = score_style(judge, "a", base, ["0.70", "0.71"] * 19 + ["0.1"] * 2, real, view)
    assert few.speaks
    assert (few.left_out, few.length, few.unit) == (2, 4, "characters")
    assert few.score.value == pytest.approx(0.705)
    many = score_style(judge, "a", base, ["0.70", "0.71"] * 17 + ["0.1"] * 6, real, view)
    assert not many.speaks
    assert "shorter than the minimum of 4 characters" in many.reason


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


def test_time_spent_judging_is_a_share_of_judging_and_training():
    judged = [{"model": "m", "step": step, "split": "judge", "seconds": 1.5} for step in (0, 1)]
    trained = [{"model": model, "step": 1, "split": "train", "seconds": 9.0} for model in ("m", "other")]
    assert judging_times([*judged, *trained]) == {"m": {"judging": 3.0, "training": 9.0, "share": 0.25}}
    assert judging_times([{"model": "old", "step": 0, "split": "judge"}])["old"]["share"] == 0


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
