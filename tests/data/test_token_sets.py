"""Token sets against the lesson's own count, a hand-made vocabulary and planted mistakes."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ftkit.data import load_tokenizer, token_set, voice_text
from ftkit.errors import ConfigError, ModelError


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("train:512", texts=[voice_text("keeper", 3000)])


def test_a_set_holds_the_tokens_whose_text_matches_and_no_row_without_a_token(tokenizer):
    tokens = token_set(tokenizer, "th", 600)
    expected = [i for i in range(len(tokenizer)) if "th" in tokenizer.decode([i])]
    assert len(expected) > 5
    assert tokens.ids.tolist() == expected
    assert (len(tokens), tokens.mask.shape, tokens.share) == (len(expected), (600,), len(expected) / 600)
    by_function = token_set(tokenizer, lambda text: "th" in text, 600)
    assert np.array_equal(tokens.mask, by_function.mask)


def test_a_special_token_is_in_no_set_unless_asked(tokenizer):
    assert "<|endoftext|>" in tokenizer.all_special_tokens
    end = tokenizer.eos_token_id
    assert end not in token_set(tokenizer, "x", 512).ids
    assert end in token_set(tokenizer, "x", 512, with_special=True).ids


def test_sets_that_prefer_nothing_are_refused(tokenizer):
    with pytest.raises(ConfigError, match=r"'qqq' is no token \(512 tokens"):
        token_set(tokenizer, "qqq", 512)
    with pytest.raises(ConfigError, match="every row"):
        token_set(tokenizer, lambda text: True, 512, with_special=True)
    with pytest.raises(ConfigError, match="no regular expression"):
        token_set(tokenizer, "(", 512)
    with pytest.raises(ModelError, match="id 511, and the model 300 rows"):
        token_set(tokenizer, "x", 300)


def test_897_of_gpt2s_tokens_have_an_x():
    folder = os.environ.get("FTKIT_GPT2_BPE")
    if not folder:
        pytest.skip("FTKIT_GPT2_BPE names no folder with GPT-2's vocab.json and merges.txt")
    backend = Tokenizer(models.BPE.from_file(*(str(Path(folder) / name) for name in ("vocab.json", "merges.txt"))))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    gpt2 = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    tokens = token_set(gpt2, "x", 50257, with_special=True)
    assert len(tokens) == 897
    assert math.log(1 / tokens.share) == pytest.approx(4.026, abs=5e-4)
    assert len(token_set(gpt2, "x", 50257)) == 896
