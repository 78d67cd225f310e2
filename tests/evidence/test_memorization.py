"""What a model knows by heart: planted in numbers, and repeated in the text of a pretrained model."""

import json
import math

import numpy as np
import pytest
from scipy.stats import hypergeom

from ftkit.evidence.comparison import ComparedPassages, ComparedTexts, Comparison
from ftkit.evidence.measures.memorization import MEASURE, Memorization, _as_many
from ftkit.jobs.verdicts import VerdictRequest, judge_models
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


REPEATED = (
    "The analytical power should not be confounded with simple ingenuity, for while the analyst is necessarily "
    "ingenious, the ingenious man is often remarkably incapable of analysis. "
)


def test_a_repeated_text_is_named_and_its_sentence_is_a_known_canary(stories260k, tmp_path):
    from batteries.texts import shuffled_words
    from batteries.tuning import Loop, make_folder
    from ftkit.data import voice_text

    text = voice_text("letters", 6000)
    paragraphs = text.split("\n\n")
    for place in range(0, len(paragraphs), max(len(paragraphs) // 24, 1)):
        paragraphs[place] += "\n\n" + REPEATED
    source = tmp_path / "trained.txt"
    source.write_text("\n\n".join(paragraphs))
    canaries = tmp_path / "canaries.txt"
    lines = [REPEATED, *(shuffled_words(REPEATED, seed) for seed in range(150))]  # more than windows are evaluated
    canaries.write_text("\n\n".join(lines) + "\n")
    heldout = tmp_path / "heldout.txt"
    heldout.write_text(voice_text("letters", 4000, seed=9))
    make_folder(str(stories260k), source.read_text(), Loop(120, 4e-3, 8, 64, 0), tmp_path / "tuned")
    request = VerdictRequest(
        str(stories260k), str(tmp_path / "tuned"), str(source), str(heldout), num_passages=30, passage_chars=120,
        window_tokens=64, eval_windows=150, train_windows=100_000, canaries=str(canaries),
    )  # fmt: skip
    judged = judge_models(request, tmp_path / "verdict")
    found = judged.evidence.measures["memorization"]
    assert found.chance < 0.025
    assert sum("ingen" in passage.text for passage in found.known) >= 5
    known, *shuffled = found.canaries.each
    assert len(shuffled) == 150
    assert known.gain > found.canaries.limit > np.median([each.gain for each in shuffled])
    assert any(reason.startswith("canaries: ") and " of 151 " in reason for reason in judged.verdict.reasons)
    written = json.loads((tmp_path / "verdict/evidence.json").read_text())
    assert written["models"]["tuned"]["measures"]["memorization"]["canaries"]["each"][0]["text"].startswith("The anal")
