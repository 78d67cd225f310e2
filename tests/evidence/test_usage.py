"""Usage of frequent tokens, against counting by hand."""

from collections import Counter

import numpy as np
import pytest

from ftkit.data import load_tokenizer, tokenize_texts
from ftkit.errors import DataError
from ftkit.evidence import distinctive_tokens, frequent_tokens, token_shares, token_usage, usage_matrix

TEXT = "the cat and the dog and the cat sat on the mat. " * 30


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("byte")


def test_frequent_tokens_are_those_of_a_counter(tokenizer, tmp_path):
    store = tokenize_texts([TEXT], tokenizer, cache=tmp_path)
    counts = Counter(np.asarray(store.ids).tolist())
    found = frequent_tokens(store, tokenizer, top=5)
    letters = {token: count for token, count in counts.items() if tokenizer.decode([token]).strip()}
    assert sorted((letters[t] for t in found), reverse=True) == sorted(letters.values(), reverse=True)[:5]
    assert found[0] == max(letters, key=lambda token: (letters[token], -token))
    with pytest.raises(DataError, match="has 2 characters or more"):
        frequent_tokens(store, tokenizer, min_chars=2)


def test_shares_leave_nothing_out_and_add_up(tokenizer):
    t, a = tokenizer("t")["input_ids"][0], tokenizer("a")["input_ids"][0]
    shares = token_shares(["tatt", "xxxx", "aaat"], tokenizer, [t])
    assert shares.tolist() == [0.75, 0.0, 0.25]
    assert (shares + token_shares(["tatt", "xxxx", "aaat"], tokenizer, [a])).tolist() == [1.0, 0.0, 1.0]


def test_usage_is_paired_and_its_interval_holds_the_planted_change(tokenizer):
    t = tokenizer("t")["input_ids"]
    generator = np.random.default_rng(0)

    def passages(rate: float) -> list[str]:
        return ["".join(generator.choice(["t", "x"], p=[rate, 1 - rate], size=100)) for _ in range(60)]

    usage = token_usage(passages(0.4), passages(0.6), passages(0.65), tokenizer, t)
    assert usage.before.low < 0.4 < usage.before.high
    assert usage.change.low < 0.2 < usage.change.high
    assert usage.change.value == pytest.approx(usage.after.value - usage.before.value)
    assert usage.real.low < 0.65 < usage.real.high


@pytest.fixture(scope="module")
def two(tokenizer, tmp_path_factory):
    cache = tmp_path_factory.mktemp("tokens")
    texts = {"a": "aaaaaaaaaabeeeeeeeeee" * 20, "e": "eeeeeeeeeecaaaaaaaaaacc" * 20}
    return {name: tokenize_texts([text], tokenizer, cache=cache) for name, text in texts.items()}


def test_stop_words_are_left_out_before_ranking(tokenizer, two):
    first = frequent_tokens(two["a"], tokenizer, top=2)
    assert [tokenizer.decode([token]) for token in first] == ["a", "e"]
    kept = frequent_tokens(two["a"], tokenizer, top=2, stop_words={"a"})
    assert [tokenizer.decode([token]) for token in kept] == ["e", "b"]


def test_distinctive_tokens_are_ranked_by_the_log_odds_formula(tokenizer, two):
    found = distinctive_tokens(two, tokenizer)
    counts = {name: Counter(np.asarray(store.ids).tolist()) for name, store in two.items()}
    prior = counts["a"] + counts["e"]

    def z(token: int, own: str, other: str) -> float:
        parts = []
        for name in (own, other):
            y, n = counts[name][token] + prior[token], counts[name].total() + prior.total()
            parts.append((np.log(y / (n - y)), 1 / y))
        return (parts[0][0] - parts[1][0]) / np.sqrt(parts[0][1] + parts[1][1])

    for own, other in (("a", "e"), ("e", "a")):
        scores = {token: z(token, own, other) for token in prior}
        expected = sorted((t for t in scores if scores[t] > 0), key=lambda t: -scores[t])
        ends = [token for token in expected if tokenizer.decode([token]).strip()]
        assert found[own] == ends
    assert tokenizer.decode([found["a"][0]]) == "b"
    assert tokenizer.decode([found["e"][0]]) == "c"


def test_the_matrix_counts_exactly_and_its_interaction_is_the_crossover(tokenizer):
    lists = {name: tokenizer(name)["input_ids"] for name in "ae"}
    tuned = {"a": ["aaax"] * 30, "e": ["aexx"] * 30}
    real = {"a": ["aaaa"] * 30, "e": ["eeea"] * 30}
    found = usage_matrix(dict.fromkeys("ae", ["axxx", "xxex"] * 15), tuned, real, tokenizer, lists)
    assert {m: {n: found.after[m][n].value for n in "ae"} for m in "ae"} == {
        "a": {"a": 0.75, "e": 0.0},
        "e": {"a": 0.25, "e": 0.25},
    }
    assert found.before["a"].value == found.before["e"].value == 0.125
    assert found.change["a"]["a"].value == 0.625
    assert found.interaction.value == pytest.approx((0.75 - 0.0) + (0.25 - 0.25))
    assert found.real_interaction.value == pytest.approx((1.0 - 0.0) + (0.75 - 0.25))
    assert found.interaction.low == found.interaction.high, "passages that are all alike"


def test_models_that_only_repeat_their_base_have_no_interaction(tokenizer):
    generator = np.random.default_rng(1)
    base = ["".join(generator.choice(list("aex"), size=80)) for _ in range(60)]
    lists = {name: tokenizer(name)["input_ids"] for name in "ae"}
    found = usage_matrix({"a": base, "e": base}, {"a": base, "e": base}, {"a": base, "e": base}, tokenizer, lists)
    assert found.interaction.value == pytest.approx(0, abs=1e-12)
    assert found.interaction.low < 0 < found.interaction.high
    assert found.change["a"]["e"].value == 0


def test_empty_passages_are_left_out_alike_and_all_empty_is_nothing(tokenizer):
    lists = {name: tokenizer(name)["input_ids"] for name in "ae"}
    tuned = {"a": ["aaax", ""] * 15, "e": ["aexx"] * 30}
    real = {"a": ["aaaa"] * 30, "e": ["eeea"] * 30}
    matrix = usage_matrix(dict.fromkeys("ae", ["axxx", "xxex"] * 15), tuned, real, tokenizer, lists)
    alone = token_usage(["axxx", "xxex"] * 15, tuned["a"], real["a"], tokenizer, lists["a"])
    assert matrix.after["a"]["a"] == alone.after
    assert alone.after.value == 0.75
    silent = token_usage(["a"] * 30, [""] * 30, ["a"] * 30, tokenizer, lists["a"])
    assert (silent.after.value, silent.after.high) == (0, 0)
