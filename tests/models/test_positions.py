"""Usable positions, against what the models of transformers can in fact read."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from ftkit.config import AdapterSettings
from ftkit.errors import ModelError
from ftkit.models import check_positions, load_model, usable_positions
from ftkit.tuning import attach_adapter

ROWS = 24
SMALL = {
    "vocab_size": 40, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": ROWS, "pad_token_id": 1, "ffn_dim": 8, "word_embed_proj_dim": 8, "attention_window": [4],
}  # fmt: skip
SHIFTED = [
    "roberta",
    "xlm-roberta",
    "camembert",
    "roberta-prelayernorm",
    "data2vec-text",
    "xlm-roberta-xl",
    "mpnet",
    "ibert",
]
PLAIN = ["bert", "electra", "opt", "gpt2", "biogpt"]


def reads(model, tokens: int) -> bool:
    """Whether a model computes a row of that length."""
    try:
        with torch.no_grad():
            model(input_ids=torch.full((1, tokens), 7))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize(("family", "taken"), [*((name, 2) for name in SHIFTED), *((name, 0) for name in PLAIN)])
def test_usable_positions_are_the_longest_row_that_the_model_reads(family, taken):
    model = AutoModel.from_config(AutoConfig.for_model(family, **SMALL)).eval()
    assert usable_positions(model) == ROWS - taken
    assert reads(model, ROWS - taken)
    assert not reads(model, ROWS - taken + 1)


def test_longformer_pads_to_its_window_and_has_the_same_shift():
    model = AutoModel.from_config(AutoConfig.for_model("longformer", **SMALL)).eval()
    assert usable_positions(model) == ROWS - 2
    assert reads(model, ROWS - 2)
    assert not reads(model, ROWS - 1)


def test_another_padding_id_shifts_by_another_number():
    model = AutoModel.from_config(AutoConfig.for_model("roberta", **{**SMALL, "pad_token_id": 4})).eval()
    assert usable_positions(model) == ROWS - 5
    assert (reads(model, ROWS - 5), reads(model, ROWS - 4)) == (True, False)


def test_a_window_beyond_them_is_refused_with_the_number():
    model = AutoModel.from_config(AutoConfig.for_model("roberta", **SMALL))
    check_positions(model, ROWS - 2, "window_tokens")
    with pytest.raises(ModelError, match=r"window_tokens is 24, but the model has 22 usable positions.*to 22 or less"):
        check_positions(model, ROWS, "window_tokens")


def test_virtual_tokens_take_positions_too():
    settings = AdapterSettings(model="m", tokenizer="byte", peft="prompt", virtual_tokens=5)
    model = attach_adapter(load_model("new:gpt2", max_positions=ROWS), settings)
    assert usable_positions(model) == ROWS - 5
    with pytest.raises(ModelError, match=r"19 usable positions .24 without those that it needs itself: 5 for virtual"):
        check_positions(model, ROWS - 4, "window_tokens")


def test_a_recurrent_model_has_no_limit():
    small = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 1, "state_size": 2}
    assert usable_positions(AutoModel.from_config(AutoConfig.for_model("mamba", **small))) is None
