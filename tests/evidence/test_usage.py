"""Usage of frequent tokens, against counting by hand."""

from collections import Counter

import numpy as np
import pytest

from ftkit.data import load_tokenizer, tokenize_texts
from ftkit.errors import DataError
from ftkit.evidence import frequent_tokens, token_shares, token_usage

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
