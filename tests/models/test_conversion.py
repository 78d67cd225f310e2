"""Conversion between the own GPT-2 and Hugging Face's is exact, complete, and refuses what it cannot keep."""

import pytest
import torch
from transformers import GPT2Config, GPT2DoubleHeadsModel, GPT2ForSequenceClassification, GPT2LMHeadModel

from ftkit.errors import ModelError
from ftkit.models import (
    FtkitGPT2Config,
    FtkitGPT2ForCausalLM,
    FtkitGPT2ForSequenceClassification,
    FtkitGPT2Model,
    from_hf_gpt2,
    to_hf_gpt2,
)

SIZES = {
    "wide": {"vocab_size": 97, "n_embd": 96, "n_layer": 3, "n_head": 6, "n_positions": 40},
    "narrow MLP": {"vocab_size": 50, "n_embd": 20, "n_layer": 1, "n_head": 2, "n_positions": 40, "n_inner": 30},
    "one head": {"vocab_size": 300, "n_embd": 64, "n_layer": 2, "n_head": 1, "n_positions": 40},
}
EXTRAS = {
    "initializer_range": 0.2,
    "resid_pdrop": 0.05,
    "embd_pdrop": 0.15,
    "attn_pdrop": 0.25,
    "layer_norm_epsilon": 1e-4,
    "activation_function": "gelu",
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def shuffled(model):
    """Random values in every parameter, biases and norms too, so that no swap of two can hide."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    return model.eval()


def ids(vocab_size):
    return torch.randint(3, vocab_size, (3, 40), generator=torch.Generator().manual_seed(0))


def own_model(size, **settings):
    return shuffled(FtkitGPT2ForCausalLM(FtkitGPT2Config(**SIZES[size], **EXTRAS, **settings)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_weights_are_the_same_bits_and_logits_the_same_in_either_direction(size, attention):
    batch = ids(SIZES[size]["vocab_size"])
    own = own_model(size, attn_implementation=attention)
    theirs = to_hf_gpt2(own)
    back = from_hf_gpt2(theirs)
    assert type(theirs) is GPT2LMHeadModel
    assert type(back) is FtkitGPT2ForCausalLM
    with torch.no_grad():
        logits = own(batch).logits
        torch.testing.assert_close(theirs(batch).logits, logits)
        torch.testing.assert_close(back(batch).logits, logits)
    assert set(back.state_dict()) == set(own.state_dict())
    assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in own.state_dict().items())


@pytest.mark.parametrize("problem", [{"num_labels": 3}, {"id2label": {0: "alice", 1: "edgar"}}])
def test_scores_are_the_same_in_either_direction(problem):
    theirs = shuffled(GPT2ForSequenceClassification(GPT2Config(**SIZES["wide"], **EXTRAS, **problem)))
    own = from_hf_gpt2(theirs)
    back = to_hf_gpt2(own)
    assert type(own) is FtkitGPT2ForSequenceClassification
    assert type(back) is GPT2ForSequenceClassification
    batch = ids(97)
    batch[1, 20:] = 0  # padded
    with torch.no_grad():
        scores = theirs(batch).logits
        assert scores.shape == (3, theirs.config.num_labels)
        torch.testing.assert_close(own(batch).logits, scores)
        torch.testing.assert_close(back(batch).logits, scores)
    assert own.config.id2label == back.config.id2label == theirs.config.id2label


def test_every_setting_survives_the_round_trip():
    theirs = GPT2LMHeadModel(GPT2Config(**SIZES["narrow MLP"], **EXTRAS, tie_word_embeddings=False))
    back = to_hf_gpt2(from_hf_gpt2(theirs))
    ours, wanted = back.config.to_dict(), theirs.config.to_dict()
    assert len(wanted) > 30
    assert {key for key in wanted if ours[key] != wanted[key]} <= {"_name_or_path"}
    own = from_hf_gpt2(theirs).config
    assert (own.attention_output_dropout, own.mlp_dropout) == (0.05, 0.05)
    assert (own.embedding_dropout, own.attention_dropout, own.layer_norm_eps) == (0.15, 0.25, 1e-4)
    assert own.model_type == "ftkit_gpt2"


def test_an_untied_head_stays_untied_and_a_tied_one_tied():
    for tied in (True, False):
        theirs = to_hf_gpt2(own_model("wide", tie_word_embeddings=tied))
        assert (theirs.lm_head.weight is theirs.transformer.wte.weight) == tied
        own = from_hf_gpt2(theirs)
        assert (own.lm_head.weight is own.model.embed_tokens.weight) == tied


def test_nothing_is_shared_with_the_donor():
    own = own_model("wide")
    theirs = to_hf_gpt2(own)
    back = from_hf_gpt2(theirs)
    places = [{tensor.data_ptr() for tensor in model.state_dict().values()} for model in (own, theirs, back)]
    assert all(places)
    assert not places[0] & places[1]
    assert not places[1] & places[2]
    expected = own(ids(97)).logits
    with torch.no_grad():
        for parameter in [*theirs.parameters(), *back.parameters()]:
            parameter.zero_()
    assert torch.equal(own(ids(97)).logits, expected)
    theirs.generation_config.max_new_tokens = 7
    assert own.generation_config.max_new_tokens != 7


def test_type_mode_and_random_state_of_the_donor_are_kept():
    own = own_model("wide").to(torch.bfloat16).train()
    torch.manual_seed(3)
    theirs = to_hf_gpt2(own)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    assert theirs.dtype == torch.bfloat16
    assert theirs.training
    assert from_hf_gpt2(theirs.eval()).training is False


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"logit_scale": 0.125}, "logit_scale=0.125"),
        ({"bias": False}, "bias=False"),
        ({"mlp_dropout": 0.5}, r"attention_output_dropout=0.1 with mlp_dropout=0.5"),
    ],
)
def test_settings_that_hugging_face_lacks_are_refused_by_name(settings, name):
    with pytest.raises(ModelError, match=name):
        to_hf_gpt2(FtkitGPT2ForCausalLM(FtkitGPT2Config(**SIZES["narrow MLP"], **settings)))


def test_all_refused_settings_are_named_together():
    with pytest.raises(ModelError, match=r"logit_scale=0.5.*bias=False"):
        to_hf_gpt2(FtkitGPT2ForCausalLM(FtkitGPT2Config(**SIZES["narrow MLP"], logit_scale=0.5, bias=False)))


@pytest.mark.parametrize(
    "settings",
    [
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"reorder_and_upcast_attn": True},
        {"add_cross_attention": True},
    ],
)
def test_settings_that_the_own_model_lacks_are_refused_by_name(settings):
    with pytest.raises(ModelError, match=next(iter(settings))):
        from_hf_gpt2(GPT2LMHeadModel(GPT2Config(**SIZES["narrow MLP"], **settings)))


def test_other_classes_are_refused_by_name():
    with pytest.raises(ModelError, match=r"FtkitGPT2Model.*there is: FtkitGPT2ForCausalLM"):
        to_hf_gpt2(FtkitGPT2Model(FtkitGPT2Config(**SIZES["narrow MLP"])))
    with pytest.raises(ModelError, match=r"GPT2DoubleHeadsModel.*there is: GPT2ForSequenceClassification"):
        from_hf_gpt2(GPT2DoubleHeadsModel(GPT2Config(**SIZES["narrow MLP"])))


def test_a_weight_that_no_gpt2_has_is_refused_by_name():
    own = own_model("narrow MLP")
    own.model.layers[0].mlp.gate = torch.nn.Linear(2, 2)
    with pytest.raises(ModelError, match=r"model\.layers\.0\.mlp\.gate\.weight"):
        to_hf_gpt2(own)


def test_a_swapped_query_and_key_would_be_seen():
    own = own_model("wide")
    theirs = to_hf_gpt2(own)
    weight = theirs.transformer.h[0].attn.c_attn.weight
    with torch.no_grad():
        query, key, value = weight.chunk(3, dim=1)
        weight.copy_(torch.cat([key, query, value], dim=1))
        assert (theirs(ids(97)).logits - own(ids(97)).logits).abs().max() > 1e-3
