"""Style as a distance: energy distance and its intervals, corrupted text, and a judge's answers on planted models."""

import random
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance

from ftkit.data import VOICES, voice_text
from ftkit.data.words import words_of
from ftkit.errors import DataError
from ftkit.evidence import (
    EnergyDistances,
    Gate,
    Interval,
    JudgeTexts,
    JudgeView,
    NgramJudge,
    Panel,
    StyleDistances,
    StyleScore,
    build_judges,
    character_chain,
    cut_passages,
    fit_vectors,
    known_shares,
    score_style,
    with_corrupted,
)
from ftkit.evidence.judges import CHAIN, SHUFFLED
from ftkit.evidence.known_shares import KnownShares

# -- energy distance -------------------------------------------------------------------------------------------------


def brute_force(x: np.ndarray, y: np.ndarray) -> float:
    """By its definition, without a vector paired with itself."""
    across = np.mean([np.linalg.norm(a - b) for a in x for b in y])
    within = [
        np.mean([np.linalg.norm(a - b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)
    ]
    return float(2 * across - within[0] - within[1])


def test_the_energy_distance_is_its_definition_also_without_each_block():
    generator = np.random.default_rng(0)
    x, y = generator.normal(0, 1, (13, 3)), generator.normal(1, 1, (17, 3))
    found = EnergyDistances({"x": x, "y": y}, blocks=4).squared("x", "y")
    assert found[0] == pytest.approx(brute_force(x, y))
    left_out = [(np.concatenate([p for j, p in enumerate(np.array_split(x, 4)) if j != i]), y) for i in range(4)]
    left_out += [(x, np.concatenate([p for j, p in enumerate(np.array_split(y, 4)) if j != i])) for i in range(4)]
    assert found[1:] == pytest.approx([brute_force(*pair) for pair in left_out])


def test_in_one_dimension_scipys_is_the_root_of_the_biased_estimate():
    generator = np.random.default_rng(1)
    x, y = generator.normal(0, 1, 40), generator.normal(0.7, 2, 60)
    found = EnergyDistances({"x": x[:, None], "y": y[:, None]}).squared("x", "y")[0]
    too_large = sum(cdist(z[:, None], z[:, None]).mean() / (len(z) - 1) for z in (x, y))  # pairs of one with itself
    assert found + too_large == pytest.approx(energy_distance(x, y) ** 2)


def test_halves_are_those_of_the_sample():
    x = np.random.default_rng(2).normal(0, 1, (40, 2))
    found = EnergyDistances({"x": x, "y": x + 1})
    assert found.squared(*found.halves("x"))[0] == pytest.approx(brute_force(x[:20], x[20:]))


def test_equal_distributions_have_no_distance_on_average():
    generator = np.random.default_rng(3)
    values = [
        EnergyDistances({n: generator.normal(0, 1, (30, 3)) for n in "xy"}).squared("x", "y")[0] for _ in range(300)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(300)


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_intervals_hold_the_planted_distance(shift):
    """Normals in two dimensions, neighbours alike as in a text."""

    def neighbours(generator: np.random.Generator) -> np.ndarray:
        noise = generator.normal(0, 1, (60, 2))
        for place in range(1, len(noise)):
            noise[place] = 0.4 * noise[place - 1] + np.sqrt(1 - 0.4**2) * noise[place]
        return noise

    def shifted(generator: np.random.Generator, by: float, count: int = 60) -> np.ndarray:
        return generator.normal((by, 0), 1, (count, 2))

    large = np.random.default_rng(4)
    real, base, tuned = (shifted(large, by, 3000) for by in (0, 3, shift))
    many = EnergyDistances({"real": real, "base": base, "tuned": tuned})
    far, near = many.squared("base", "real")[0], many.squared("tuned", "real")[0] if shift else 0.0
    covered = np.zeros(3)
    for seed in range(200):
        draw = np.random.default_rng(seed)
        found = EnergyDistances({"real": neighbours(draw), "base": shifted(draw, 3), "tuned": shifted(draw, shift)})
        base_d, tuned_d = found.squared("base", "real"), found.squared("tuned", "real")
        answers = [
            (found.interval(base_d - tuned_d), far - near), (found.interval(0.25 * base_d - tuned_d), far / 4 - near),
            (found.ratio(tuned_d, base_d), near / far),
        ]  # fmt: skip
        covered += [each.low <= true <= each.high for each, true in answers]
    assert all(share >= 0.9 for share in covered / 200), covered


def test_a_higher_level_is_wider_and_a_ratio_decides_like_its_difference():
    draw = np.random.default_rng(5)
    for shift in np.linspace(0.2, 2.8, 14):
        found = EnergyDistances({n: draw.normal(m, 1, (40, 2)) for n, m in (("r", 0), ("b", 3), ("t", shift))})
        base, tuned = found.squared("b", "r"), found.squared("t", "r")
        wide, narrow = found.ratio(tuned, base, 0.99), found.ratio(tuned, base, 0.9)
        assert wide.low < narrow.low <= narrow.value <= narrow.high < wide.high
        for_it = found.interval(0.25 * base - tuned).low
        assert (for_it > 0) == (found.ratio(tuned, base).high < 0.25) or abs(
            for_it
        ) < 0.1  # the quantile differs a little


# -- vectors, shares and corrupted text ------------------------------------------------------------------------------


def test_vectors_undo_a_planted_temperature_and_have_one_scale():
    draw = np.random.default_rng(6)
    truth = draw.integers(0, 3, 3000)
    logits = draw.normal(0, 1, (3000, 3)) + 2 * np.eye(3)[truth]  # log-odds of two normals: 2 (x - y)
    shares = np.exp(2 * logits - 2 * logits.max(1, keepdims=True))
    sharp = (shares / shares.sum(1, keepdims=True)) ** 3
    vectors = fit_vectors(sharp / sharp.sum(1, keepdims=True), truth)
    assert vectors.temperature == pytest.approx(3, rel=0.1)
    found = vectors(sharp / sharp.sum(1, keepdims=True))
    weights = 1 / np.bincount(truth)[truth]
    assert np.average(found, axis=0, weights=weights) == pytest.approx(0, abs=1e-9)
    assert np.all(np.average(found**2, axis=0, weights=weights) <= 1 + 1e-9)


def test_a_passage_is_compared_with_the_other_half_of_its_own_text():
    one, two = ["the red fox ran home", "the red fox sat down"], ["a grey cat ate fish", "the old dog ran home"]
    known = KnownShares({"a": one + two, "b": ["the red fox"]}, ["a"])
    assert known.training[0, 0] == pytest.approx(3 / 5)  # the, ran, home: not its neighbour's red and fox
    assert known.training[4, 0] == known.shares(["the red fox"])[0, 0] == pytest.approx((1 + 1 / 3) / 2)


@pytest.mark.parametrize("kept", [4, 100])
def test_counts_that_judges_share_give_the_same_shares(kept, monkeypatch):
    monkeypatch.setattr(known_shares, "_KEPT_PASSAGES", kept)
    first = {"a": ["the red fox ran home", "the red fox sat down"], "b": ["a grey cat ate fish", "the old dog ran"]}
    other = {"a": first["b"], "b": ["the red fox ran home", "nobody was there", "nobody was there"]}
    known = KnownShares(first, ["a"])
    shared, alone = KnownShares(other, ["a"], known.counts), KnownShares(other, ["a"])
    np.testing.assert_array_equal(shared.training, alone.training)
    asked = ["a grey fox ran", "nobody was there", *first["a"]]
    np.testing.assert_array_equal(shared.shares(asked), alone.shares(asked))


def test_a_chain_has_the_texts_own_sequences_in_another_order():
    text = cut_passages([voice_text("pirate" if "pirate" in VOICES else next(iter(VOICES)), 3000, seed=1)], 200)
    whole = " ".join(text)
    whole += " " + whole[:10]
    written = character_chain(text, 5, 20, 200, random.Random(0))
    assert len(written) == 20
    assert all(160 < len(passage) <= 200 for passage in written)
    sequences = [passage[i : i + 6] for passage in written for i in range(len(passage) - 6)]
    assert all(sequence in whole for sequence in sequences)
    assert not all(passage in whole for passage in written)
    assert written == character_chain(text, 5, 20, 200, random.Random(0))


def test_corrupted_classes_are_made_of_all_targets_and_by_the_seed():
    texts = JudgeTexts(
        {name: [f"{name} one two three four five {n}" for n in range(40)] for name in ("a", "b", "base model")},
        {name: [f"{name} six seven eight nine ten {n}" for n in range(40)] for name in ("a", "b", "base model")},
    )
    found = with_corrupted(texts, ["a", "b"], 1)
    assert found == with_corrupted(texts, ["a", "b"], 1)
    assert found != with_corrupted(texts, ["a", "b"], 2)
    assert found.classes == ["a", "b", "base model", SHUFFLED, CHAIN]
    for side, said in ((found.train, "three"), (found.heldout, "eight")):
        words = {word for passage in side[SHUFFLED] for word in words_of(passage)}
        assert {"a", "b", said} <= words, words
        assert "base" not in words
        assert len(side[CHAIN]) >= 30
    with pytest.raises(DataError, match="is a name that ftkit uses itself"):
        with_corrupted(found, ["a"], 1)


# -- what a judge answers --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def voices() -> dict[str, list[str]]:
    """Three voices: the target, another author, and the base; the target's held-out text in two parts."""
    names = list(VOICES)[:3]

    def passages(name: str, words: int, seed: int) -> list[str]:
        return cut_passages([voice_text(name, words, seed=seed)], 300)

    target, other, base = names
    return {
        "train": passages(target, 9000, 1), "real": passages(target, 3500, 2), "more": passages(target, 3500, 3),
        "other train": passages(other, 6000, 1), "other": passages(other, 3500, 2),
        "base train": passages(base, 6000, 1), "base": passages(base, 3500, 2), "base more": passages(base, 3500, 3),
    }  # fmt: skip


@pytest.fixture(scope="module")
def panel(voices) -> Panel:
    texts = JudgeTexts(
        {"text": voices["train"], "base model": voices["base train"], "other": voices["other train"]},
        {"text": voices["real"], "base model": voices["base"], "other": voices["other"]},
    )
    return build_judges(texts, ["text"], seed=0)


def test_the_gate_asks_for_the_target_against_each_other_class(panel):
    gate = panel.gates["ngrams"]
    assert gate.speaks, gate.reason
    assert set(gate.auc_pairs["text"]) == {"base model", "other", SHUFFLED, CHAIN}
    assert min(gate.auc_pairs["text"].values()) >= 0.95
    assert "against corrupted text" in gate.reason
    assert isinstance(panel.judges[0], NgramJudge)


def test_planted_models_are_ordered_and_answered(voices, panel):
    half = [p for pair in zip(voices["more"], voices["base more"], strict=False) for p in pair][: len(voices["more"])]
    draw = random.Random(3)
    shuffled = [" ".join(draw.sample(p.split(), len(p.split()))) for p in voices["more"]]
    cases = {
        "real": voices["more"], "half": half, "base": voices["base more"], "other": voices["other"],
        "shuffled": shuffled, "chain": character_chain(voices["train"], 5, 48, 300, draw),
    }  # fmt: skip
    found = {n: panel.score("text", voices["base"], p, voices["real"], 0.95)[0] for n, p in cases.items()}
    assert all(score.speaks for score in found.values()), found["real"].reason
    places = {name: score.position.value for name, score in found.items()}
    assert places["real"] > 0.8 > places["half"] > 0.3 > max(places["base"], places["other"], places["shuffled"])
    assert {name: score.answer() for name, score in found.items()} == {
        "real": "for", "half": "part", "base": "undecided", "other": "against", "shuffled": "against",
        "chain": "against",
    }  # fmt: skip
    assert found["other"].nearest_other == "other"
    assert {found["shuffled"].nearest_other, found["chain"].nearest_other} == {SHUFFLED, CHAIN}
    wide = panel.score("text", voices["base"], half, voices["real"], 0.999)[0]
    assert wide.level == 0.999
    assert wide.position.low < found["half"].position.low


def test_a_base_that_writes_like_real_text_already_silences_the_judge(voices, panel):
    (score,) = panel.score("text", voices["more"], voices["base"], voices["real"])
    assert not score.speaks
    assert "the base writes like it already" in score.reason
    assert score.answer() == "undecided"


def test_too_few_passages_silence_the_judge(voices, panel):
    (score,) = panel.score("text", voices["base"], voices["more"][:20], voices["real"])
    assert not score.speaks
    assert "fewer than 30 passages that are long enough: tuned (20)" in score.reason
    assert score.distances is None


class Scripted:
    """A judge that says what is planted: the text of a passage is its probability of the target."""

    name, unit, classes = "scripted", "characters", ["target", "rest"]

    def probabilities(self, passages):
        p = np.array([float(text) for text in passages])
        return np.stack([p, 1 - p], axis=1)

    def lengths(self, passages):
        return np.array([len(passage) for passage in passages])


def spread(mean: float, count: int = 60) -> list[str]:
    return [f"{x:.4f}" for x in np.clip(np.random.default_rng(int(mean * 100)).normal(mean, 0.03, count), 0.001, 0.999)]


def scripted(tuned: list[str], gate: Gate | None = None) -> StyleScore:
    judge, passed = Scripted(), Gate({}, {}, 0.99, {"target": 40}, True, "passed")
    vectors = fit_vectors(judge.probabilities([*spread(0.8), *spread(0.1)]), np.repeat([0, 1], 60))
    return score_style(judge, "target", spread(0.1), tuned, spread(0.8), JudgeView(gate or passed, vectors, {}))


def test_a_score_above_real_texts_is_used_and_called_exaggerated():
    close, beyond = scripted(spread(0.8, 50)), scripted(spread(0.96))
    assert (close.speaks, beyond.speaks) == (True, True)
    assert (close.exaggerated, beyond.exaggerated) == (False, True)
    assert beyond.score.value > beyond.ceiling.high
    assert beyond.position.value < close.position.value


def test_a_judge_that_failed_its_gate_never_speaks():
    failed = Gate({}, {}, 0.6, {"target": 40}, False, "AUC too low")
    score = scripted(spread(0.8, 50), failed)
    assert (score.speaks, score.reason, score.answer()) == (False, "AUC too low", "undecided")


def test_answers_follow_the_bounds():
    def placed(low: float, high: float, **changes) -> StyleScore:
        mean = Interval(0.5, 0.4, 0.6)
        score = StyleScore("ngrams", mean, mean, mean, Interval((low + high) / 2, low, high), mean, True, "")
        return replace(score, **changes)

    assert placed(0.51, 0.9).answer() == "for"
    assert placed(0.51, 0.9).answer(0.6) == "part"
    assert placed(0.01, 0.9).answer() == "part"
    assert placed(-0.01, 0.9).answer() == "undecided"
    assert placed(-0.3, -0.01).answer() == "against"
    zero = Interval(0.0, 0.0, 0.0)
    nearer = StyleDistances(zero, zero, zero, "other", Interval(0.3, 0.01, 0.6))
    assert placed(0.51, 0.9, distances=nearer).answer() == "against"
    assert placed(0.51, 0.9, distances=replace(nearer, nearer=Interval(0.3, -0.01, 0.6))).answer() == "for"
    assert placed(0.51, 0.9, distances=nearer, speaks=False).answer() == "undecided"
