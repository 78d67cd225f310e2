"""Whether passages are language: counted models by hand, costs by transformers, and gibberish that must not pass."""

import math
import random

import numpy as np
import pytest
import torch
from scipy.stats import binom

from ftkit.data import load_tokenizer, voice_text
from ftkit.evidence import CopyIndex, Interval, copying, cut_passages, exact_share
from ftkit.evidence.corrupted import character_chain, shuffle_passages
from ftkit.evidence.language import (
    PassageCosts,
    Reference,
    counted_letters,
    learn_language,
    passage_costs,
)
from ftkit.evidence.measures.language import LanguageMeasure
from ftkit.evidence.ngram_models import NgramModel
from ftkit.models import load_model


def test_counted_probabilities_are_those_of_the_formula():
    model = NgramModel(["abab"], 2)
    # Alone: 4 letters, 2 kinds, and 1/(4 (2 + 1)) for what is new; after a: b twice, 1 kind.
    alone = (2 + 2 / 12) / (4 + 2)
    after = (2 + alone) / (2 + 1)
    assert model.bits("ab") == pytest.approx([-math.log2(alone), -math.log2(after)])
    assert model.single_bits("ab") == pytest.approx([-math.log2(2.5 / 5.5)] * 2)
    assert model.follows("a", "b")
    assert not model.follows("a", "a")
    assert NgramModel([("the", "sea")], 2).follows(("the",), "sea")


def test_probabilities_after_any_context_add_up_to_less_than_one():
    text = voice_text("letters", 400)
    model = NgramModel([text], 3)
    for context in ("th", "zz", "e "):
        each = [2 ** -model.bits(context + letter)[-1] for letter in model.single]
        assert 0.8 < sum(each) <= 1


def test_what_a_passage_costs_is_what_transformers_says(stories260k):
    model, tokenizer = load_model(str(stories260k)), load_tokenizer(str(stories260k))
    passages = ["Tom had a small green boat.", "Every day he took it to the pond near his house. He was happy."]
    found = passage_costs(Reference("stories", model, tokenizer), passages)
    for number, passage in enumerate(passages):
        ids = torch.tensor([tokenizer(passage, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            mean = model(input_ids=ids, labels=ids).loss.item()
        assert found.bits[number] == pytest.approx(mean * (ids.shape[1] - 1) / math.log(2), rel=1e-4)
        first = len(tokenizer.decode(ids[0, :1]).strip().encode())
        assert abs(found.bytes[number] - (len(passage.encode()) - first)) <= 1  # a space may belong to the first token


def test_an_empty_passage_costs_nothing(stories260k):
    model, tokenizer = load_model(str(stories260k)), load_tokenizer(str(stories260k))
    found = passage_costs(Reference("stories", model, tokenizer), ["Tom had a boat.", ""])
    assert found.bits[0] > 0
    assert (found.bits[1], found.bytes[1]) == (0, 0)
    assert found.excess(found, PassageCosts(found.bits * 2, found.bytes)) == pytest.approx([0.0, 1.0])


@pytest.fixture(scope="module")
def text() -> str:
    return voice_text("keeper", 12000, seed=1)


def test_a_classifier_takes_gibberish_for_no_language(text):
    train, heldout = cut_passages([text], 300), cut_passages([voice_text("keeper", 3000, seed=7)], 300)
    classifier = learn_language(train)
    assert classifier is not None
    assert (classifier.real_side(heldout) > 0.5).mean() > 0.8
    draw = random.Random(5)
    words = " ".join(train).split()
    salad = [" ".join(draw.choices(words, k=55)) for _ in range(40)]
    gibberish = {
        "shuffled": shuffle_passages(heldout, random.Random(3)), "salad": salad,
        **{f"chain {order}": character_chain(train, order, 40, 300, draw) for order in (4, 6)},
    }  # fmt: skip
    for name, passages in gibberish.items():
        assert (classifier.real_side(passages) > 0.5).mean() < 0.2, name
    assert learn_language(train[:10]) is None


def test_counted_letters_cost_more_on_another_text(text):
    train = cut_passages([text], 300)
    own, other = (cut_passages([voice_text(name, 2000, seed=9)], 300) for name in ("keeper", "market"))
    assert counted_letters(train, own) < counted_letters(train, other)


@pytest.mark.parametrize(("count", "total"), [(0, 48), (3, 48), (48, 48)])
def test_an_exact_share_has_the_tails_that_it_claims(count, total):
    found = exact_share(count, total, 0.9833)
    tail = (1 - 0.9833) / 2
    if count:
        assert binom.sf(count - 1, total, found.low) == pytest.approx(tail)
    if count < total:
        assert binom.cdf(count, total, found.high) == pytest.approx(tail)
    assert found.low <= found.value <= found.high


def test_a_passage_is_copied_where_it_repeats_a_long_run(text):
    train = cut_passages([text], 400)
    heldout = cut_passages([voice_text("almanac", 5000, seed=3)], 400)[:48]
    index = CopyIndex(train)
    honest = copying(heldout[:24] * 2, heldout, index, heldout, level=1 - 0.05 / 3)
    assert (honest.copied, honest.run) == (honest.heldout_copied, 30)
    assert honest.copied_above is not None
    assert honest.copied_above.high < 0.1  # excluded at the first look
    reciting = copying([*train[:24], *heldout[:24]], heldout, index, heldout, level=1 - 0.05 / 3)
    assert reciting.copied_above == Interval(0.5, pytest.approx(0.22, abs=0.02), pytest.approx(0.68, abs=0.02))
    short = copying(cut_passages([text], 60), cut_passages([text], 60), index)
    assert (short.copied, short.run) == (None, 0)


def test_every_way_of_shuffling_keeps_the_words(text):
    passages = cut_passages([text], 300)[:5]
    for before, after in zip(passages, shuffle_passages(passages, random.Random(0)), strict=True):
        assert sorted(before.split()) == sorted(after.split())
        assert before != after
    assert shuffle_passages(passages, random.Random(1)) == shuffle_passages(passages, random.Random(1))


def test_a_passage_between_real_and_shuffled_text_has_its_share_of_the_excess():
    def costs(*bits: float) -> PassageCosts:
        return PassageCosts(np.array(bits) * 100, np.full(len(bits), 100.0))

    found = costs(1.0, 1.5, 2.0, 3.0).excess(costs(0.8, 1.2), costs(2.0, 2.0))
    assert found == pytest.approx([0.0, 0.5, 1.0, 2.0])


@pytest.mark.parametrize("passages", [48, 96, 192])
def test_four_passages_of_ten_that_are_gibberish_never_pass(passages):
    level, most = 1 - 0.05 / 9, LanguageMeasure.thresholds["language_gibberish"][0]
    passing = [count for count in range(passages) if exact_share(count, passages, level).high <= most]
    assert binom.cdf(max(passing), passages, 0.4) < 0.003
    assert binom.cdf(max(passing), passages, 0.125) > 0.7  # an honest LoRA of SmolLM2-135M
