"""What a model is for comes from transformers' own lists of classes, and from what it computes."""

import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

from ftkit.errors import ModelError
from ftkit.models import load_model, task_of
from ftkit.models.tasks import reads_both_ways

SMALL = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": 64, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
SAYS_NOT = ["gpt_neox", "gpt_neox_japanese"]
BOTH = ["bert", "roberta", "electra", "xlm-roberta", "camembert", "rembert", "roformer", "data2vec-text"]


def saved(folder, family, automatic=AutoModelForCausalLM, **values) -> str:
    """A folder with a small model of a family."""
    automatic.from_config(AutoConfig.for_model(family, **{**SMALL, **values})).save_pretrained(folder)
    return str(folder)


def test_a_causal_class_without_a_masked_one_is_causal_whatever_is_decoder_says():
    names = [*CAUSAL][::6]  # reading every configuration class takes four seconds
    causal = [CONFIG_MAPPING[name] for name in {*names, *SAYS_NOT} if name not in MASKED]
    masked = [CONFIG_MAPPING[name] for name in [*MASKED][::3] if name not in CAUSAL]
    bare = object.__new__  # the defaults of a configuration, without the checks that some cannot pass
    assert [kind.model_type for kind in causal if reads_both_ways(bare(kind))] == []
    assert [kind.model_type for kind in masked if not (reads_both_ways(bare(kind)) or kind.is_encoder_decoder)] == []
    assert len(causal) > 20
    assert len(masked) > 5
    assert sum(getattr(kind, "is_decoder", None) is False for kind in causal) >= 2


@pytest.mark.parametrize("family", SAYS_NOT)
def test_a_decoder_that_says_is_decoder_false_is_a_causal_model(tmp_path, family):
    folder = saved(tmp_path, family)
    assert AutoConfig.from_pretrained(folder).is_decoder is False
    assert task_of(folder) == "causal-lm"
    assert load_model(folder).config.model_type == family


@pytest.mark.parametrize("family", BOTH)
def test_where_transformers_has_both_classes_is_decoder_decides(tmp_path, family):
    decoder = saved(tmp_path / "decoder", family, is_decoder=True)
    encoder = saved(tmp_path / "encoder", family, AutoModelForMaskedLM)
    assert (task_of(decoder), task_of(encoder)) == ("causal-lm", "masked-lm")
    assert load_model(decoder).config.is_decoder
    load_model(encoder, task="masked-lm")
    with pytest.raises(ModelError, match=f"{family} reads in both directions"):
        load_model(encoder)
    with pytest.raises(ModelError, match=f"{family} does not read in both directions"):
        load_model(decoder, task="masked-lm")


def test_a_causal_class_that_sees_the_future_is_refused(tmp_path):
    folder = saved(tmp_path / "bidirectional", "bert-generation", initializer_range=0.3)
    with pytest.raises(ModelError, match=r"bert-generation as configured lets a token see the tokens after it"):
        load_model(folder)
    assert load_model(saved(tmp_path / "decoder", "bert-generation", is_decoder=True)).config.is_decoder


@pytest.mark.parametrize("family", ["mixtral", "mamba", "opt", "bloom"])
def test_no_causal_model_is_taken_for_one_that_sees_the_future(tmp_path, family):
    torch.manual_seed(0)
    folder = saved(tmp_path, family, initializer_range=0.5, num_key_value_heads=2, num_local_experts=4, ffn_dim=16)
    load_model(folder)


def test_encoder_decoders_and_models_of_pictures_are_refused_with_what_to_use(tmp_path):
    bart = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    AutoConfig.for_model("bart", **SMALL | bart | heads).save_pretrained(tmp_path / "bart")
    (tmp_path / "bart" / "model.safetensors").write_bytes(b"")
    for task in ("causal-lm", "masked-lm"):
        with pytest.raises(ModelError, match=r"bart is an encoder-decoder model.*Use transformers.Seq2SeqTrainer"):
            load_model(str(tmp_path / "bart"), task=task)
    small = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "image_size": 16,
    }
    ViTForImageClassification(ViTConfig(**small)).save_pretrained(tmp_path / "vit")
    with pytest.raises(ModelError, match=r"vit is no model of text alone.*Use transformers.Trainer or TRL"):
        load_model(str(tmp_path / "vit"))
