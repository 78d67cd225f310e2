"""Passages for a reader who guesses: as many of each kind, in an order that says nothing, with an honest bar."""

from scipy.stats import binom

from ftkit.report.blind_test import blind_test


def test_as_many_of_each_kind_and_those_shown_elsewhere_last() -> None:
    generated, real = [f"made {n}" for n in range(9)], [f"real {n}" for n in range(6)]
    found = blind_test(generated, real, shown=4)
    assert found is not None
    assert {text for text, is_real in found.questions if not is_real} == {f"made {n}" for n in range(4, 9)}
    assert {text for text, is_real in found.questions if is_real} == {f"real {n}" for n in (4, 5, 0, 1, 2)}


def test_the_order_depends_on_the_passages_alone() -> None:
    one, other = ([f"{kind} {n}" for n in range(5)] for kind in ("one", "other"))
    found, turned = blind_test(one, other), blind_test(other, one)
    assert found is not None
    assert turned is not None
    assert [text for text, _ in found.questions] == [text for text, _ in turned.questions]
    assert [real for _, real in found.questions] == [not real for _, real in turned.questions]


def test_the_bar_is_what_guessing_reaches_in_one_test_of_twenty_at_most() -> None:
    for count in (3, 4, 5):
        found = blind_test(["a"] * count, ["b"] * count)
        assert found is not None
        at_least = [binom.sf(k - 1, 2 * count, 0.5) for k in range(2 * count + 1)]
        assert found.better == next(k for k, chance in enumerate(at_least) if chance <= 0.05)


def test_too_few_passages_make_no_test() -> None:
    assert blind_test(["a"] * 2, ["b"] * 9) is None


def test_white_space_around_a_passage_does_not_betray_it():
    """Completions often begin with a space, and answers by another chat template do not."""
    found = blind_test([f"answer {n}" for n in range(5)], [f" real {n}\n" for n in range(5)])
    assert {passage for passage, _ in found.questions} == {
        f"{kind} {n}" for kind in ("answer", "real") for n in range(5)
    }
