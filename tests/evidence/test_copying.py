"""Copied runs against a brute-force search, and planted copies."""

import numpy as np
import pytest

from ftkit.evidence import CopyIndex, copying, known_share, word_spans, words_of
from ftkit.evidence.intervals import bootstrap

LETTERS = ["a", "b", "c"]


def stands(words: list[str], texts: list[list[str]]) -> bool:
    n = len(words)
    return any(words == text[i : i + n] for text in texts for i in range(len(text) - n + 1))


def longest_run(passage: list[str], texts: list[list[str]], least: int) -> int:
    found = [
        n
        for n in range(least, len(passage) + 1)
        for i in range(len(passage) - n + 1)
        if stands(passage[i : i + n], texts)
    ]
    return max(found, default=0)


@pytest.mark.parametrize("seed", range(12))
def test_everything_found_in_small_random_texts_equals_a_brute_force_search(seed):
    draw = np.random.default_rng(seed)
    ngram = int(draw.integers(2, 6))
    texts = [draw.choice(LETTERS, size=draw.integers(0, 40)).tolist() for _ in range(3)]
    passages = [
        draw.choice([*LETTERS, "z"], size=draw.integers(0, 25), p=[0.32, 0.32, 0.32, 0.04]).tolist() for _ in range(9)
    ]
    index = CopyIndex([" ".join(text) for text in texts], ngram)
    joined = [" ".join(passage) for passage in passages]
    for passage, found in zip(passages, index.found(joined), strict=True):
        assert found.tolist() == [stands(passage[i : i + ngram], texts) for i in range(len(passage) - ngram + 1)]
    assert index.longest(joined)[0] == max(longest_run(passage, texts, ngram) for passage in passages)
    for passage in passages:
        first, length = index.runs(" ".join(passage))[1]
        assert length == longest_run(passage, texts, ngram)
        assert not length or stands(passage[first : first + length], texts)
    for text, spans in zip(joined, index.spans(joined), strict=True):
        covered = {
            word
            for i in range(len(text.split()) - ngram + 1)
            if stands(text.split()[i : i + ngram], texts)
            for word in range(i, i + ngram)
        }
        assert sum(len(text[start:end].split()) for start, end in spans) == len(covered)
        assert all(not text[start:end].startswith(" ") for start, end in spans)


def test_spans_are_the_copied_characters_with_their_punctuation():
    index = CopyIndex(["It was the best of times, it was the worst of times; nobody’s fault."])
    passage = "He said: “the WORST of times; nobody's fault. And then?” It was the best of times, it was the worst end."
    (spans,) = index.spans([passage])
    assert [passage[start:end] for start, end in spans] == ["It was the best of times, it was the worst"]
    assert (
        index.longest([passage]) == (9, "it was the best of times it was the")[:0] or index.longest([passage])[0] == 10
    )


def test_words_and_their_places_agree():
    text = "“Don’t!” cried İda; 12 o'clock — über_all straße ﬁn"
    assert [text[a:b].lower().replace("’", "'") for a, b in word_spans(text)] == words_of(text)


def test_both_lengths_count_ngrams_and_passages():
    train = " ".join(f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(300))
    words = train.split()
    new = "nobody ever wrote any of these words before that"
    generated = [" ".join(words[:9]) + " " + new, " ".join(words[20:40]), new, new]
    found = copying(generated, [new, new], CopyIndex([train]))
    eight, twelve = found.by_length
    counted = [len(words_of(passage)) for passage in generated]
    assert eight.ngram == 8
    assert eight.rate.value == pytest.approx((2 + 13) / sum(max(n - 7, 0) for n in counted))
    assert eight.passages.value == 0.5
    assert eight.heldout_passages.value == 0.0
    assert twelve.rate.value == found.rate.value == pytest.approx(9 / sum(max(n - 11, 0) for n in counted))
    assert twelve.passages.value == 0.25
    assert (found.longest_run, found.longest_run_text) == (20, " ".join(words[20:40]))
    assert [len(spans) for spans in found.spans] == [1, 1, 0, 0]
    assert found.heldout_spans == ((), ())


def test_a_large_sample_is_redrawn_in_parts_and_a_small_one_as_before():
    sample = np.random.default_rng(0).normal(3, 2, size=5000)  # 2,000 redraws of it are more than are held at a time
    found = bootstrap(lambda x: x.mean(-1), sample)
    half = 1.96 * sample.std() / 5000**0.5
    assert (found.low, found.high) == (
        pytest.approx(sample.mean() - half, abs=5e-3),
        pytest.approx(sample.mean() + half, abs=5e-3),
    )
    small = sample[:50]
    drawn = small[np.random.default_rng(0).integers(0, 50, size=(2000, 50))].mean(-1)
    assert (bootstrap(lambda x: x.mean(-1), small).low) == np.percentile(drawn, 2.5)


@pytest.mark.parametrize(
    "alphabet", [[chr(code) for code in range(0x4E00, 0x4E00 + 900)], [chr(code) for code in range(0x0E01, 0x0E2F)]]
)
def test_text_without_spaces_that_was_copied_is_seen_as_copied(alphabet):
    draw = np.random.default_rng(0)

    def written(length: int) -> str:
        return "".join(draw.choice(alphabet, size=length))

    train = "。".join(written(11) for _ in range(400))
    copied = [train[first : first + 100] + written(100) for first in range(0, 3000, 100)]
    fresh = [written(200) for _ in range(30)]
    found = copying(copied, fresh, CopyIndex([train]))
    assert found.longest_run >= 90
    assert found.longest_run_text in train.replace("。", "")
    assert found.rate.value == pytest.approx(0.45, abs=0.05)
    assert found.heldout_rate.value == 0
    assert copying(fresh, fresh, CopyIndex([train])).rate.value == 0


def test_the_share_that_is_known_before_training_is_the_verdicts():
    draw = np.random.default_rng(3)
    words = ["".join(chr(97 + int(digit)) for digit in str(number)) for number in draw.integers(0, 400, 6000)]
    train, heldout = " ".join(words[:5000]), " ".join(words[4700:])  # 300 of 1,300 words are known
    passages = [" ".join(heldout.split()[first : first + 65]) for first in range(0, 1300, 65)]
    index = CopyIndex([train])
    known = known_share(passages, index)
    assert known == pytest.approx(copying(passages, passages, index).heldout_rate.value)
    runs = [" ".join(row.split()[place : place + 12]) for row in passages for place in range(54)]
    assert known == pytest.approx(sum(f" {run} " in f" {train} " for run in runs) / len(runs))
    assert known_share(["too short"], index) == 0.0
