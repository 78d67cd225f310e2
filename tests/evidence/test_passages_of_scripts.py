"""Real and generated passages of scripts without spaces are cut alike, and the simple judge reads their words."""

import numpy as np
import pytest

from ftkit.evidence import cut_passages, fit_passage, shuffle_words
from ftkit.evidence.baselines import spelling_model
from ftkit.evidence.judges import JudgeTexts
from ftkit.evidence.judges.ngrams import NgramJudge

HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 600)]


def han(length: int, seed: int = 0) -> str:
    draw = np.random.default_rng(seed)
    return "，".join("".join(draw.choice(HAN, size=9)) for _ in range(length // 10))


def test_real_passages_keep_the_text_as_it_is_and_are_as_long_as_generated_ones():
    text = han(4000)
    passages = cut_passages([text], 200)
    assert "".join(passages) == text[: sum(map(len, passages))]
    assert {len(passage) for passage in passages} <= {199, 200}
    assert len(fit_passage(text, 200)) == 200


def test_nothing_is_dropped_from_the_beginning_of_text_without_spaces():
    assert fit_passage("我爱北京 天安门", 100) == "我爱北京 天安门"
    assert fit_passage("rest of it", 100) == "of it"


def test_no_passage_ends_before_a_mark():
    thai = "กิ่" * 200
    assert len(fit_passage(thai, 100)) % 3 == 0
    assert all(passage.startswith("ก") for passage in cut_passages([thai], 100))


def test_characters_are_shuffled_where_words_have_no_spaces():
    text = f"{han(60)}\n\n{han(60, seed=1)}"
    shuffled = shuffle_words(text)
    assert shuffled != text
    assert [sorted(part) for part in shuffled.split("\n\n")] == [sorted(part) for part in text.split("\n\n")]


@pytest.mark.parametrize(("text", "word"), [("我爱北京，天安门。" * 300, "我"), ("किताब अच्छी " * 300, "किताब")])
def test_the_simple_judge_counts_words_of_every_script(text, word):
    model = spelling_model().fit([text[:1000], text[1000:]], [0, 1])
    counted = model[0].transformer_list[1][1].vocabulary_
    assert word in counted
    assert all(len(found) == 1 for found in counted) == (len(word) == 1)


def test_two_han_writers_are_told_apart():
    texts = {name: [han(200, seed) for seed in range(first, first + 20)] for name, first in (("a", 0), ("b", 100))}
    texts["b"] = [
        text.translate({ord(char): HAN[number // 2] for number, char in enumerate(HAN)}) for text in texts["b"]
    ]
    judge = NgramJudge(JudgeTexts(texts, {}))
    assert judge.probabilities([texts["b"][0]])[0, 1] > 0.9
