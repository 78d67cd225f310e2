"""Entropy, distinct pairs, length and what lies outside real text, against closed formulas."""

import itertools
import math

import pytest

from ftkit.evidence import fluency, language_damage, out_of_range

EIGHT = "one two three four five six seven eight"


def test_entropy_pairs_and_length_follow_their_formulas():
    even = fluency([EIGHT], set(EIGHT.split()))
    assert (even.entropy, even.words, even.distinct_bigrams) == (3.0, 8.0, 1.0)
    same = fluency(["the the the the"], {"the"})
    assert (same.entropy, same.distinct_bigrams) == (0.0, pytest.approx(1 / 3))
    mixed = fluency(["a a a b"], {"a", "b"})
    assert mixed.entropy == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))
    empty = fluency([""], set())
    assert (empty.entropy, empty.words, empty.repetition) == (0.0, 0.0, 1.0)


def test_only_what_lies_outside_real_text_is_named():
    real = fluency([EIGHT, "one two three four five six seven seven", "one two one two three four five six"], set())
    assert out_of_range(real, real) == []
    looping = fluency(["one one one one one one one one"] * 3, set())
    named = out_of_range(looping, real)
    assert named == ["repetition", "diversity", "distinct_bigrams", "entropy"], "its length is that of real text"


def test_one_repeated_word_group_in_ninety_six_passages_is_no_damage_and_a_loop_in_all_is():
    words = ["".join(letters) for letters in itertools.islice(itertools.product("abcdefghij", repeat=3), 400)]
    real = [" ".join(words[start : start + 40]) for start in range(96)]
    once = [*real[1:], " ".join([*words[:30], *words[1:4], *words[31:38]])]
    known = set(words)
    found = language_damage(once, real, real, known, known)
    assert 0 < found.repetition.value < 0.001
    assert found.repetition.low <= 0
    assert found.repetition.value == pytest.approx(1 / 38 / 96)
    looping = language_damage(["the sea and " * 14] * 96, real, real, known | {"the", "sea", "and"}, known)
    assert looping.repetition.low > 0.5
    assert looping.diversity.low > 0.5
    assert looping.unknown_words.value == 0
    as_bad = language_damage(["the sea and " * 14] * 96, ["the sea and " * 14] * 96, real, known, known)
    assert (as_bad.repetition.value, as_bad.diversity.value) == (0, 0)


def test_the_interval_of_unknown_words_is_that_of_the_bootstrap_over_passages():
    known = {"a"}
    tuned = ["a b"] * 30 + ["a a"] * 30
    found = language_damage(tuned, ["a a"] * 60, ["a a"] * 60, known, known)
    assert found.unknown_words.value == pytest.approx(0.25)
    half = 1.96 * 0.25 / math.sqrt(60)  # the share is the mean of 60 values of 0 or 1/2
    assert found.unknown_words.low == pytest.approx(0.25 - half, abs=0.02)
    assert found.unknown_words.high == pytest.approx(0.25 + half, abs=0.02)
