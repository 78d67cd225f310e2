"""Measures of answers: what counts as the same answer, what the form is, and which examples are compared."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ftkit.data import Example, Message, encode_examples, load_tokenizer
from ftkit.errors import DataError
from ftkit.evidence import ComparedAnswers, answer_looks, compare_examples
from ftkit.evidence.answers import Answers
from ftkit.evidence.intervals import exact_share
from ftkit.evidence.measures import answers as answers_file
from ftkit.evidence.measures import form as form_file
from ftkit.evidence.measures.answers import normalized_answer, token_f1
from ftkit.evidence.measures.form import _parts


@pytest.mark.parametrize(
    ("completion", "pattern", "expected"),
    [
        ("  The Dog. ", None, "the dog"),
        ("It is 7.\n#### 7", "#### (.*)", "7"),
        ("#### 3\n#### 4", "#### (.*)", "4"),
        ("no answer", "#### (.*)", None),
        ("a=1, b=2", r"(\w)=(\d)", "b"),
    ],
)
def test_the_answer_is_the_last_that_the_pattern_finds(
    completion: str, pattern: str | None, expected: str | None
) -> None:
    assert normalized_answer(completion, pattern) == expected


@pytest.mark.parametrize(
    ("text", "real", "expected"),
    [("The red dog", "a red dog!", 2 / 3), ("", "", 1.0), ("cat", "dog", 0.0), ("a a", "a", 2 / 3)],
)
def test_token_f1_is_that_of_counted_words(text: str, real: str, expected: float) -> None:
    assert token_f1(text, real) == pytest.approx(expected)


def test_answers_must_have_what_all_completions_have() -> None:
    lengths = [2, 4]
    assert list(_parts(['{"a": 1}', "[2]"], None, lengths)) == ["a plausible length", "valid JSON"]
    assert list(_parts(["one 1", "two 2"], r"\d", lengths)) == ["a plausible length", r"the pattern \d"]
    assert list(_parts(["one 1", "two"], r"\d", lengths)) == ["a plausible length"]  # half of them lack it
    plausible = _parts(["one"], None, lengths)["a plausible length"]
    assert [plausible(" ".join(["w"] * n)) for n in (0, 1, 8, 9)] == [False, True, True, False]


def test_looks_end_with_all_answers_that_there_are() -> None:
    assert answer_looks(500, None) == [50, 100, 200]
    assert answer_looks(80, None) == [50, 80]
    assert answer_looks(30, None) == [30]
    assert answer_looks(30, 64) == [30]


def test_more_answers_stand_behind_those_before() -> None:
    both = Answers(("a",), (True,), (3,)) + Answers(("b",), (False,), (4,))
    assert (both.texts, both.ended, both.tokens, len(both)) == (("a", "b"), (True, False), (3, 4), 2)
    assert len(ComparedAnswers().base) == 0


def encoded(pairs: list[tuple[str, str]], tokenizer: Any) -> Any:
    examples = [Example((Message("user", p), Message("assistant", c)), f"row {n}", 1) for n, (p, c) in enumerate(pairs)]
    return encode_examples(examples, tokenizer, max_tokens=64).rows


def test_examples_that_do_not_fit_after_both_prompts_are_in_neither_comparison() -> None:
    tokenizer = load_tokenizer("byte")
    pairs = [("a", "one"), ("b" * 50, "two"), ("c", "three"), ("d", "y" * 40)]
    rows = encoded(pairs, tokenizer)
    found = compare_examples(rows, rows, tokenizer, positions=64, few_shot=0)
    own, swapped = ([row.example.completion for row in side.encoded] for side in (found.last, found.swapped))
    assert own == swapped == ["one", "two", "three"]  # 40 bytes do not fit after the prompt of 50
    assert len(found.heldout) == 4
    for before, after in zip(found.last.encoded, found.swapped.encoded, strict=True):
        assert before.example.prompt != after.example.prompt
    with pytest.raises(DataError, match="none of 2 held-out examples fits whole into the model's 8 positions"):
        compare_examples(rows, rows[1::2], tokenizer, positions=8, few_shot=0)


def test_few_shots_that_do_not_fit_are_said() -> None:
    tokenizer = load_tokenizer("byte")
    rows = encoded([(f"question {n}", f"answer {n}") for n in range(12)], tokenizer)
    found = compare_examples(rows, rows, tokenizer, positions=64, few_shot=4)
    assert not found.after_shots
    assert "4 examples and a prompt take up to" in found.no_shots
    fits = compare_examples(rows, rows, tokenizer, positions=400, few_shot=4)
    assert [len(draw) for draw in fits.shots] == [4, 4, 4]
    assert all(len(side.prefix) > 40 for side in fits.after_shots)


def test_training_prompts_are_answered_only_where_completions_could_be_copied() -> None:
    tokenizer = load_tokenizer("byte")
    short = encoded([(f"q{n}", "short") for n in range(9)], tokenizer)
    assert not compare_examples(short, short, tokenizer, positions=None, few_shot=0).recited
    long = encoded([(f"q{n}", "w " * 20 + f"{n} " + "v " * 25) for n in range(9)], tokenizer)
    assert compare_examples(long, long, tokenizer, positions=None, few_shot=0).recited


def test_answers_after_examples_are_means_over_the_draws() -> None:
    """Of two prompts, the first is answered rightly in one draw of three, the second in all."""
    pairs = [Example((Message("user", f"q{n}"), Message("assistant", f"number {n}"))) for n in range(2)]
    right = [example.completion for example in pairs]
    draws = [Answers(["no", right[1]], [n > 0, True], [2, 2]) for n in range(2)] + [Answers(right, [True] * 2, [2, 2])]
    compared = SimpleNamespace(
        examples=SimpleNamespace(completions=right, answer_pattern=None), level=0.95,
        answers=ComparedAnswers(pairs, draws[0], draws[2], draws),
    )  # fmt: skip
    scores: Any = answers_file.MEASURE.compute(cast(Any, compared))
    assert scores.few_shot.exact.value == pytest.approx(4 / 6)
    assert scores.few_shot.token_f1.value == pytest.approx(4 / 6)
    assert scores.few_shot_answers == 2
    low, high = exact_share(1, 2), exact_share(2, 2)
    assert low.low < scores.few_shot.exact.low < high.low
    form: Any = form_file.MEASURE.compute(cast(Any, compared))
    assert form.few_shot.value == pytest.approx(5 / 6), "one answer of six does not end by itself"
