"""Measurements against closed formulas, brute force and planted cases; the verdict against its table."""

import math
from dataclasses import replace

import numpy as np
import pytest
from made_evidence import changed

from ftkit.data import VOICES, voice_text
from ftkit.evidence import (
    ComparedPassages,
    Comparison,
    CopyIndex,
    Copying,
    Damage,
    Evidence,
    Fluency,
    HeldOut,
    Interval,
    JudgeTexts,
    NgramJudge,
    StyleDistances,
    StyleScore,
    Thresholds,
    WordOrder,
    bits_per_byte,
    bootstrap,
    copying,
    cut_passages,
    decide,
    fit_passage,
    fluency,
    gain_in_bits,
    gain_over,
    gate,
    gather_evidence,
    looks_up_to,
    mask_names,
    measure_at,
    relative_rise,
    words_of,
)
from ftkit.evidence.judges import CHAIN
from ftkit.evidence.measures.fluency import ComparedFluency
from ftkit.evidence.measures.general import General
from ftkit.evidence.measures.integrity import Integrity
from ftkit.evidence.measures.language import Language
from ftkit.evidence.measures.style import Style
from ftkit.evidence.measures.weights import Weights
from ftkit.training import HeldOutLoss

# -- intervals -------------------------------------------------------------------------------------------------------


def loss(nats: np.ndarray, num_bytes: int = 400) -> HeldOutLoss:
    return HeldOutLoss(nats, np.full(len(nats), 127), np.full(len(nats), num_bytes))


def test_the_bootstrap_of_a_mean_is_the_normal_interval():
    sample = np.random.default_rng(0).normal(3, 2, size=900)
    found = bootstrap(lambda x: x.mean(-1), sample)
    half = 1.96 * sample.std() / 30
    assert found.value == sample.mean()
    assert found.low == pytest.approx(sample.mean() - half, abs=0.02)
    assert found.high == pytest.approx(sample.mean() + half, abs=0.02)


def test_bits_per_byte_is_the_ratio_of_sums_and_not_a_mean_of_ratios():
    one = HeldOutLoss(np.array([100.0, 300.0]), np.array([10, 10]), np.array([50, 450]))
    assert bits_per_byte(one).value == pytest.approx(400 / math.log(2) / 500)
    assert one.nats_per_target == 20.0


def test_a_constant_gain_has_no_width_and_pairing_removes_the_texts_own_spread():
    text = np.random.default_rng(1).normal(300, 80, size=60)
    gain = gain_in_bits(loss(text), loss(text - 20))
    assert gain.value == pytest.approx(20 / math.log(2) / 400)
    assert gain.high - gain.low < 1e-9
    unpaired = bits_per_byte(loss(text))
    assert unpaired.high - unpaired.low > 0.05


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    draws, covered = np.random.default_rng(2), 0
    for repeat in range(200):
        base = draws.normal(300, 40, size=90)
        tuned = base - 10 + draws.normal(0, 30, size=90)
        gain = gain_in_bits(loss(base), loss(tuned), seed=repeat)
        covered += gain.low <= 10 / math.log(2) / 400 <= gain.high
    assert 0.88 <= covered / 200 <= 0.99


def test_rise_and_gain_over_general():
    text = np.full(40, 200.0)
    assert relative_rise(loss(text), loss(text * 1.1)).value == pytest.approx(0.1)
    over = gain_over((loss(text), loss(text - 30)), (loss(text), loss(text - 10)))
    assert over.value == pytest.approx(20 / math.log(2) / 400)


# -- passages --------------------------------------------------------------------------------------------------------


def test_passages_are_cut_at_spaces_without_overlap_and_without_loss():
    text = voice_text("almanac", 800)
    passages = cut_passages([text], 200)
    assert all(180 <= len(p) <= 200 for p in passages[:-1])
    joined = " ".join(passages)
    assert " ".join(text.split()).startswith(joined[: len(joined) - 200])


def test_a_generated_passage_loses_its_torn_first_word():
    assert fit_passage("ing the sea was\n calm", 100) == "the sea was calm"
    assert fit_passage(" The sea was calm and grey", 12) == "The sea was"
    assert fit_passage("", 10) == ""


# -- copying ---------------------------------------------------------------------------------------------------------


def brute_rate(passage: str, texts: list[str], n: int) -> float:
    grams = {tuple(w[i : i + n]) for t in texts for w in [words_of(t)] for i in range(len(w) - n + 1)}
    words = words_of(passage)
    mine = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return sum(gram in grams for gram in mine) / max(len(mine), 1)


def test_copied_ngrams_and_runs_equal_a_brute_force_count():
    train = [voice_text("keeper", 1500, seed=1), voice_text("letters", 800, seed=2)]
    index = CopyIndex(train, ngram=5)
    held = cut_passages([voice_text("keeper", 800, seed=3)], 300)
    assert len(held) > 5
    for passage in held:
        found, _ = index.runs(passage)
        assert found.mean() == pytest.approx(brute_rate(passage, train, 5))
    start = train[0].split()
    planted = "Nobody ever wrote this before. " + " ".join(start[100:140]) + " And again something new entirely."
    found, (first, length) = index.runs(planted)
    assert first <= 5
    assert length >= len(words_of(" ".join(start[100:140])))


def test_runs_do_not_cross_from_one_text_into_the_next():
    index = CopyIndex(["one two three", "four five six"], ngram=3)
    assert index.runs("one two three four five six")[1][1] == 3


def test_a_copy_is_told_from_real_text_of_the_same_kind():
    train = [voice_text("almanac", 6000, seed=1)]
    heldout = cut_passages([voice_text("almanac", 4000, seed=2)], 300)
    copies = cut_passages(train, 300)[: len(heldout)]
    assert copying(copies, heldout, CopyIndex(train)).excess.low > 0.5
    honest = copying(heldout, heldout, CopyIndex(train))
    assert abs(honest.excess.value) < 1e-12
    assert honest.longest_run == honest.heldout_longest_run


# -- fluency ---------------------------------------------------------------------------------------------------------


def test_repetition_and_unknown_words_are_found():
    real = cut_passages([voice_text("letters", 3000)], 300)
    known = {word for passage in real for word in words_of(passage)}
    healthy = fluency(real, known)
    looping = fluency(["the sea and the sea and the sea and the sea and"] * 20, known)
    assert looping.repetition > healthy.repetition_range[1]
    assert looping.diversity < healthy.diversity_range[0]
    assert fluency(["xqzt vrrk plom", "the sea"], {"the", "sea"}).unknown_words == pytest.approx(3 / 5)
    assert fluency([""], known).repetition == 1.0


# -- judges ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts() -> JudgeTexts:
    """Three voices; the third plays the base model."""
    names = list(VOICES)[:3]
    assert len(names) == 3

    def passages(name: str, words: int, seed: int) -> list[str]:
        return cut_passages([voice_text(name, words, seed=seed)], 250)

    return JudgeTexts({n: passages(n, 6000, 1) for n in names}, {n: passages(n, 2500, 2) for n in names})


def test_a_judge_passes_its_gate_on_clearly_different_authors(texts):
    judge = NgramJudge(texts)
    passed = gate(judge, texts.heldout, judge.classes[:2])
    assert passed.speaks
    assert min(passed.auc.values()) > 0.98
    assert np.allclose(judge.probabilities(texts.heldout[judge.classes[0]]).sum(1), 1)


def test_a_judge_with_swapped_labels_fails_its_gate(texts):
    a, b, c = texts.classes
    half = {name: texts.train[name][::2] + texts.train[other][1::2] for name, other in ((a, b), (b, a))}
    confused = gate(NgramJudge(JudgeTexts({**half, c: texts.train[c]}, texts.heldout)), texts.heldout, [a, b])
    assert not confused.speaks
    assert "below 0.95" in confused.reason


def test_a_judge_needs_enough_held_out_passages(texts):
    few = {name: passages[:29] for name, passages in texts.heldout.items()}
    passed = gate(NgramJudge(texts), few, texts.classes[:2])
    assert not passed.speaks
    assert "fewer than 30" in passed.reason


def test_names_are_masked_inside_sentences_only():
    assert (
        mask_names("Then Alice saw the White Rabbit run. She cried.") == "Then Someone saw the Someone run. She cried."
    )


# -- the verdict -----------------------------------------------------------------------------------------------------


def about(value: float, half: float = 0.005) -> Interval:
    return Interval(value, value - half, value + half)


def speaking(position: float) -> StyleScore:
    return StyleScore("encoder", about(0.1), about(0.6), about(0.9), about(position, 0.1), about(0.8), True, "passed")


def nearer_to(other: str) -> StyleDistances:
    return StyleDistances(about(3.0), about(1.0), about(0.0), other, about(0.3))


UNHURT = Damage(Interval(-0.01, -0.02, 0.0), Interval(-0.02, -0.03, -0.01), Interval(0.0, -0.02, 0.02))
REAL = Fluency(0.02, (0.0, 0.08), 0.7, (0.6, 0.8), 0.02)
COPY = Copying(12, 60.0, about(0.001), about(0.001), Interval(0.0, -0.002, 0.002), 11, "", 13)
INVENTS, REPEATS = replace(UNHURT, unknown_words=about(0.4)), replace(UNHURT, repetition=about(0.4))
GOOD = Evidence(
    HeldOut(about(2.4), about(2.1), about(0.3), 40),
    {
        "general": General("other books", rise=about(0.02), gain_over=about(0.25)),
        "style": Style((speaking(0.8),)),
        "copying": COPY,
        "language": Language("reference", "the base", 0.99, 0.4, about(0.2), about(0.1), about(0.1)),
        "word_order": None,
        "fluency": ComparedFluency(REAL, REAL, REAL, UNHURT),
        "integrity": Integrity(reload_difference=0.0),
        "weights": Weights(0.1, 20, 20, {}),
    },
    passes=3.0,
    passages=96,
)
CLASSIFIED = Language(
    "classifier", "a classifier", 0.99, real_side=about(0.9, 0.1), heldout_real_side=about(0.95, 0.04),
    base_real_side=about(0.95, 0.04), invented=about(0.01, 0.01),
)  # fmt: skip
NEITHER_READS = replace(CLASSIFIED, real_side=about(0.02, 0.02), base_real_side=about(0.05, 0.04))
GIBBERISH = Language("reference", "the base", 0.99, 0.4, about(0.8, 0.1), about(0.1), about(0.7, 0.1))
HALF_GIBBERISH = replace(
    GIBBERISH, excess=about(0.3), gibberish=about(0.9), base_gibberish=about(0.1), heldout_gibberish=about(0.0, 0.0)
)
LOSS, ANY_RUN = {"heldout.gain": about(-0.3)}, about(0.9, 0.08)
RECITES = {"copying": replace(COPY, longest_run=40, run=30, copied=about(0.5, 0.2), copied_above=about(0.4, 0.2))}


@pytest.mark.parametrize(
    ("changes", "verdict", "also", "said"),
    [
        ({}, "worked", [], "gain 0.300"),
        ({"style": None}, "worked", [], "gains 0.250"),
        ({"general.rise": about(0.2)}, "worked", ["forgot"], "+20.0%"),
        ({"weights": Weights(0.0, 0, 20, {})}, "nothing", [], "none of 20 tensors"),
        ({"heldout.gain": about(0.001), "style": None}, "nothing", [], "within ±0.01"),
        ({"heldout.gain": about(0.001)}, "unsure", [], "is not clearly above 0.01"),
        ({"heldout.windows": 3}, "unsure", [], "only 3 held-out windows"),
        ({"copying": replace(COPY, heldout_rate=about(1.0), rate=about(1.0))}, "unsure", [], "text is not held out"),
        ({"copying": replace(COPY, ngrams_per_passage=3.0)}, "unsure", [], "could not be measured"),
        ({"heldout.gain": about(0.001), "copying": replace(COPY, excess=about(0.9))}, "copied", [], "12-grams"),
        ({"heldout.gain": about(0.001), "integrity.reload_difference": 3.0}, "broken", [], "other logits"),
        (LOSS, "worse", [], "worse by 0.300 "),
        (LOSS | {"general.rise": about(0.4)}, "worse", ["forgot"], "+40.0%"),
        ({"heldout.gain": about(0.001), "general.rise": about(0.4)}, "unsure", ["forgot"], "+40.0%"),
        ({"passages": 60}, "unsure", [], "96 are needed"),
        ({"language": GIBBERISH}, "unsure", [], "writes no language"),
        (LOSS | {"language": GIBBERISH}, "broken", [], "writes no language"),
        (LOSS | {"language": replace(GIBBERISH, worse_than_base=about(0.0))}, "worse", [], "of its own target rose"),
        ({"language": replace(GIBBERISH, excess=about(0.5, 0.2))}, "unsure", [], "was not decided"),
        ({"language": HALF_GIBBERISH}, "unsure", [], "90% of them are gibberish"),
        ({"language": replace(HALF_GIBBERISH, gibberish=about(0.1))}, "worked", [], "10% of them are gibberish"),
        ({"language": replace(HALF_GIBBERISH, gibberish=about(0.3, 0.1))}, "unsure", [], "was not decided"),
        ({"language": Language("", "no reader")}, "unsure", [], "language was not checked: no reader"),
        ({"language": Language("", "no reader"), "from_scratch": True}, "worked", [], "gain 0.300"),
        ({"language": CLASSIFIED}, "worked", [], "takes 90% of its passages"),
        ({"language": replace(CLASSIFIED, invented=about(0.1, 0.02))}, "unsure", [], "than the 3% that may be: "),
        ({"language": replace(CLASSIFIED, learned=0.45)}, "worked", [], "45% fewer bits per byte"),
        ({"language": replace(CLASSIFIED, learned=0.33)}, "unsure", [], "saves less than 40% of the bits"),
        ({"language": replace(CLASSIFIED, real_side=about(0.2, 0.1))}, "unsure", [], "writes no language"),
        (LOSS | {"language": replace(CLASSIFIED, real_side=about(0.2, 0.1))}, "broken", [], "writes no language"),
        (LOSS | {"language": NEITHER_READS}, "worse", [], "of its own target rose"),
        ({"language": None, "from_scratch": True, "general.gain_over": about(-0.1)}, "worked", [], "gain 0.300"),
        ({"heldout.gain": Interval(0.02, -0.03, 0.07)}, "unsure", [], "is not clearly above 0.01"),
        ({"style": Style((speaking(0.3),))}, "worked", [], "part of the way"),
        ({"style": Style((speaking(0.05),))}, "worked", [], "style was not decided"),
        ({"style": Style((speaking(-0.3),))}, "unsure", [], "farther from real text than the base model"),
        ({"style": Style((speaking(0.9), speaking(-0.3)))}, "unsure", [], "farther from real text"),
        ({"style": Style((replace(speaking(0.9), distances=nearer_to("moby")),))}, "unsure", [], "other text (moby)"),
        ({"style": Style((replace(speaking(0.9), distances=nearer_to(CHAIN)),))}, "unsure", [], "corrupted target"),
        ({"style": Style((replace(speaking(0.9), exaggerated=True),))}, "worked", [], "the style is exaggerated"),
        ({"style": Style((replace(speaking(0.9), speaks=False),))}, "worked", [], "style was not measured"),
        ({"general.gain_over": about(-0.1)}, "unsure", [], "does not show a gain specific to this text"),
        ({"general.rise": None, "general.gain_over": None, "style": None}, "worked", [], "no general text"),
        ({"copying": replace(COPY, excess=about(0.2), rate=about(0.2))}, "copied", [], "20.0%"),
        (RECITES, "copied", [], "40 words"),
        ({"copying": replace(COPY, longest_run=40)}, "worked", [], "not copied"),
        ({"integrity.finite": False}, "broken", [], "not finite"),
        ({"integrity.reload_difference": 0.5}, "broken", [], "other logits"),
        ({"fluency.damage": replace(UNHURT, repetition=about(0.4))}, "unsure", [], "repeats itself"),
        (LOSS | {"fluency.damage": REPEATS}, "broken", [], "repeats itself"),
        (LOSS | {"fluency.damage": replace(UNHURT, diversity=about(0.4))}, "broken", [], "low lexical diversity"),
        ({"fluency.damage": replace(UNHURT, repetition=about(0.4, 0.35))}, "worked", [], "gain 0.300"),
        ({"fluency.damage": replace(UNHURT, unknown_words=about(0.4))}, "worked", [], "gain 0.300"),
        ({"fluency.damage": INVENTS, "heldout.gain": about(-0.1)}, "broken", [], "invents words"),
        ({"fluency.damage": REPEATS, "heldout.windows": 3}, "unsure", [], "repeats itself"),
        (RECITES | {"integrity.finite": False}, "broken", ["copied"], "not finite"),
        ({"word_order": WordOrder(0.6, 0.1, about(0.17, 0.1))}, "unsure", [], "insensitive to word order"),
        (LOSS | {"word_order": WordOrder(0.6, 0.1, about(0.17, 0.1))}, "broken", [], "insensitive to word order"),
        ({"word_order": WordOrder(0.6, 0.28, about(0.47, 0.1))}, "worked", [], "gain 0.300"),
        ({"word_order": WordOrder(0.05, 0.0, about(0.0))}, "worked", [], "gain 0.300"),
    ],
)  # fmt: skip
def test_the_verdict_follows_its_table(changes, verdict, also, said):
    found = decide(changed(GOOD, changes))
    assert (found.verdict, found.also) == (verdict, also)
    assert said in " | ".join(found.reasons)
    assert found.thresholds["worked_gain"] == 0.01


ENCODER = "an encoder writes no text, so copying and fluency were not measured; its bits are those of masked tokens"
WRITES_NOTHING = {"copying": None, "fluency": None, "language": None, "assumptions": (ENCODER,), "passages": 0}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "worked"),
        ({"heldout.gain": about(0.001), "style": None}, "nothing"),
        ({"heldout.gain": about(-0.3)}, "worse"),
        ({"heldout.windows": 3}, "unsure"),
        ({"integrity.reload_difference": 0.5}, "broken"),
        ({"heldout.gain": about(-0.3), "general.rise": about(0.4)}, "worse"),
    ],
)
def test_a_model_that_writes_nothing_gets_a_verdict_that_says_so_once(changes, verdict):
    found = decide(changed(GOOD, WRITES_NOTHING | changes))
    assert found.verdict == verdict
    assert [reason for reason in found.reasons if "copying" in reason or "copied" in reason] == [ENCODER]


@pytest.mark.parametrize(
    ("changes", "undecided"),
    [
        ({}, []),
        ({"copying": replace(COPY, run=30, copied_above=about(0.05, 0.06))}, ["copying"]),
        ({"language": replace(GIBBERISH, excess=about(0.5, 0.2))}, ["language"]),
        ({"language": replace(HALF_GIBBERISH, gibberish=about(0.3, 0.1))}, ["language"]),
        ({"language": HALF_GIBBERISH}, []),
        ({"fluency.damage": replace(UNHURT, repetition=about(0.1, 0.11))}, ["repetition"]),
        # No condition of worked matters where there is no sure gain, or where another condition fails.
        (LOSS | {"language": replace(GIBBERISH, excess=about(0.5, 0.2))}, []),
        ({"general.gain_over": about(-0.1), "language": replace(GIBBERISH, excess=about(0.5, 0.2))}, []),
        ({"weights": Weights(0.0, 0, 20, {}), "copying": replace(COPY, run=30, copied_above=ANY_RUN)}, []),
    ],
)
def test_a_look_is_the_last_where_no_open_rule_can_change_the_word(changes, undecided):
    assert decide(changed(GOOD, changes)).open == undecided


def test_more_passages_are_written_until_the_word_is_decided(monkeypatch):
    asked = []

    def write(passages, level):
        asked.append((passages, level))
        return {"passages": ComparedPassages(), "styles": ()}

    def measure(comparison, earlier=None):
        half = 0.3 if len(asked) < 2 else 0.1
        return changed(GOOD, {"language": replace(GIBBERISH, excess=about(0.3, half)), "passages": asked[-1][0]})

    monkeypatch.setattr("ftkit.evidence.looks.measure_at", measure)
    comparison = Comparison(None, None, None, ComparedPassages(), 8, write=write)  # type: ignore[arg-type]
    found = gather_evidence(comparison)
    assert (found.passages, decide(found).verdict) == (192, "worked")
    assert asked == [(96, pytest.approx(1 - 0.05 / 3)), (192, pytest.approx(1 - 0.05 / 3))]
    asked.clear()
    assert gather_evidence(comparison, looks=looks_up_to(96)).passages == 96
    assert asked == [(96, 0.95)]


@pytest.mark.parametrize(("needs", "asked"), [((), 2), (("texts",), 1), (("passages",), 2)])
def test_a_measure_is_asked_again_at_each_look_unless_it_needs_no_passages(monkeypatch, needs, asked):
    calls = []
    measure = type("M", (), {"name": "own", "needs": needs, "compute": lambda self, comparison: calls.append(1)})()
    monkeypatch.setattr("ftkit.evidence.comparison.all_measures", lambda: (measure,))
    monkeypatch.setattr("ftkit.evidence.comparison._notes_on_text", lambda comparison: [])
    comparison = Comparison(None, None, None, ComparedPassages(), 8)  # type: ignore[arg-type]
    comparison.kept["losses"] = (loss(np.full(20, 300.0)), loss(np.full(20, 200.0)))
    measure_at(comparison, measure_at(comparison))
    assert len(calls) == asked


def test_thresholds_can_be_set_and_are_reported():
    strict = Thresholds(worked_gain=0.5)
    found = decide(GOOD, strict)
    assert found.verdict == "unsure"
    assert found.thresholds["worked_gain"] == 0.5


def test_evidence_and_verdict_show_themselves_in_a_notebook_with_what_decided():
    silent = replace(speaking(0.9), judge="<i>", speaks=False)
    evil = changed(GOOD, {"general.name": "<script>", "style": Style((speaking(0.8), silent))})
    shown = evil._repr_html_()
    assert "0.300 [0.295,\u00a00.305]" in shown
    assert "mean probability of the target, judge &lt;i&gt; (is not used)" in shown
    assert "2.0\u00a0% [1.5,\u00a02.5]" in shown
    verdict = decide(changed(evil, {"general.rise": about(0.2)}))._repr_html_()
    assert "ftkit verdict: worked + forgot" in verdict
    assert "gain.low 0.295 &gt; worked_gain 0.01" in verdict
    assert "<i>" not in verdict
