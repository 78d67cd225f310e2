"""Entropy, distinct pairs, length and what lies outside real text, against closed formulas."""

import math

import pytest

from ftkit.evidence import fluency, out_of_range

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
    named = [sentence.split()[0] for sentence in out_of_range(looping, real)]
    assert named == ["repetition", "diversity", "distinct", "entropy"], "its length is that of real text"
