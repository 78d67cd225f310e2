"""Dropout that is set afterwards: every family, every place, and nothing is dropped in eval mode."""

import pytest
import torch
from torch import nn
from transformers import BloomConfig, BloomForCausalLM, OPTConfig, OPTForCausalLM, PreTrainedModel

from ftkit.errors import ModelError
from ftkit.models import load_model, set_dropout

PLACES = {
    "ftkit_gpt2": 1 + 2 * 2,
    "gpt2": 1 + 3 * 2,
    "gpt_neo": 1 + 3 * 2,
    "codegen": 1 + 3 * 2,
    "llama": 2,
    "qwen3": 2,
}
"""Of tiny models with two blocks: after the embeddings, and in each block; the own GPT-2 and Llama drop attention
weights by their configuration, without a module."""


@pytest.mark.parametrize("family", PLACES)
def test_every_place_is_set_and_training_drops(family):
    model = load_model(f"new:{family}", seed=0)
    ids = torch.arange(24).reshape(2, 12)
    before = model(ids).logits
    assert set_dropout(model, 0.5) == PLACES[family]
    assert torch.equal(model(ids).logits, before)
    model.train()
    assert not torch.equal(model(ids).logits, model(ids).logits)
    set_dropout(model, 0.0)
    assert torch.equal(model(ids).logits, model(ids).logits)
    assert all(module.p == 0 for module in model.modules() if isinstance(module, nn.Dropout))


def test_attention_weights_of_the_own_model_are_dropped_too():
    model = load_model("new:ftkit_gpt2", seed=0)
    for name in ("embedding_dropout", "attention_dropout", "attention_output_dropout", "mlp_dropout"):
        setattr(model.config, name, 0.0)
    set_dropout(model, 0.3)
    assert {model.config.attention_dropout, model.config.mlp_dropout} == {0.3}
    attention = model.model.layers[0].self_attn.train()
    attention.output_dropout.p = 0.0
    hidden = torch.randn(1, 8, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    first = attention(hidden)[0]
    assert not torch.equal(first, attention(hidden)[0])


def test_a_model_without_a_place_for_it_says_so():
    with pytest.raises(ModelError, match="has no place for it"):
        set_dropout(load_model("new:ftkit_ladder,rung=1", seed=0), 0.1)


def foreign(family: str) -> PreTrainedModel:
    common = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    if family == "opt":
        config = {"ffn_dim": 64, "max_position_embeddings": 32, "word_embed_proj_dim": 32, "dropout": 0.1}
        return OPTForCausalLM(OPTConfig(**common, **config))
    return BloomForCausalLM(
        BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=2, hidden_dropout=0.1, attention_dropout=0.1)
    )


@pytest.mark.parametrize("family", ["opt", "bloom"])
def test_families_that_keep_their_dropout_as_a_number_drop_as_much_as_they_are_told(family):
    model, ids = foreign(family).eval(), torch.arange(24).reshape(2, 12)
    quiet = model(ids).logits
    set_dropout(model, 0.0)
    assert torch.equal(model.train()(ids).logits, quiet)
    set_dropout(model, 0.5)
    assert not torch.allclose(model(ids).logits, quiet)
