"""Counts of published models, from their configurations alone: nothing is downloaded and nothing is held in memory."""

import json
from pathlib import Path

import pytest
from transformers import BertConfig, CodeGenConfig, GPT2Config, GPTNeoConfig

from ftkit.inspection.model_summary import Inspection, inspect_model
from ftkit.models.meta_models import outline
from ftkit.tuning import ParameterGroups, select

GPT2_SIZES = {"gpt2": (768, 12, 12), "medium": (1024, 24, 16), "large": (1280, 36, 20), "xl": (1600, 48, 25)}


def described(config: object, folder: Path, **asked: object) -> Inspection:
    config.save_pretrained(folder)
    return inspect_model(outline(str(folder)), **asked)


def gpt2(folder: Path, size: str = "gpt2", **asked: object) -> Inspection:
    width, layers, heads = GPT2_SIZES[size]
    return described(GPT2Config(n_embd=width, n_layer=layers, n_head=heads), folder, **asked)


def gpt_neo(folder: Path, **asked: object) -> Inspection:
    config = GPTNeoConfig(
        hidden_size=768, num_layers=12, num_heads=12, max_position_embeddings=2048, vocab_size=50257,
        attention_types=[[["global", "local"], 6]],
    )  # fmt: skip
    return described(config, folder, **asked)


def bert(folder: Path, **asked: object) -> Inspection:
    return described(BertConfig(architectures=["BertForSequenceClassification"], num_labels=2), folder, **asked)


def row(found: Inspection, group: str):
    return next(row for row in found.table.rows if row.group == group)


def test_gpt2_counts_its_tied_matrix_once(tmp_path):
    found = gpt2(tmp_path)
    assert found.table.total == 124_439_808
    assert found.counted_by_name == 163_037_184
    assert found.tied == (("transformer.wte.weight", "lm_head.weight"),)
    assert found.num_bytes == {"float32": 497_759_232, "bfloat16": 248_879_616}


@pytest.mark.parametrize(
    ("size", "total", "attention", "mlp"),
    [
        ("gpt2", 124_439_808, 22.8, 45.5),
        ("medium", 354_823_168, 28.4, 56.7),
        ("large", 774_030_080, 30.5, 61.0),
        ("xl", 1_557_611_200, 31.6, 63.1),
    ],
)
def test_shares_of_attention_and_mlp_in_the_four_sizes(tmp_path, size, total, attention, mlp):
    found = gpt2(tmp_path, size)
    assert found.table.total == total

    def share(group: str) -> float:  # of matrices alone: with biases the MLP of the medium size has 56.8
        weights = sum(row.weights for row in found.table.rows if row.group.startswith(group))
        return round(100 * weights / total, 1)

    assert (share("attention"), share("mlp")) == (attention, mlp)


def test_norms_and_biases_are_a_sliver(tmp_path):
    found = gpt2(tmp_path)
    norm = row(found, "norm")
    assert norm.parameters == 25 * 2 * 768  # two in each block and the last one, each gain and bias
    assert round(100 * norm.parameters / 2 / found.table.total, 3) == 0.015  # gains only
    # Biases: 3 + 1 widths in attention, 4 + 1 in the MLP; gains and biases of the norms.
    assert found.table.total - found.weights == 12 * 9 * 768 + norm.parameters
    assert found.weights / found.table.total > 0.999


def test_freezing_all_blocks_of_gpt2_leaves_embeddings_and_the_last_norm(tmp_path):
    found = gpt2(tmp_path, freeze=r"name:\.h\.")
    assert found.table.trainable == 39_385_344 == 50257 * 768 + 1024 * 768 + 2 * 768


def test_gpt_neo_and_what_the_lessons_freeze_of_it(tmp_path):
    assert gpt_neo(tmp_path).table.total == 125_198_592
    assert gpt_neo(tmp_path, freeze="attention").table.trainable == 96_877_824
    by_group = gpt_neo(tmp_path, freeze=["attention", "embedding", "position"]).table.trainable
    by_name = gpt_neo(tmp_path, freeze=["name:attn", "name:wte|wpe"]).table.trainable
    assert by_group == by_name == 56_707_584  # MLPs with all norms
    assert gpt_neo(tmp_path, freeze=["attention", "embedding", "position", "norm"]).table.trainable == (
        56_707_584 - 25 * 2 * 768
    )


def test_query_key_and_value_of_the_later_half_of_gpt_neo(tmp_path):
    found = gpt_neo(tmp_path, train="attention.q@6..,attention.k@6..,attention.v@6..")
    assert found.table.trainable == 10_616_832
    assert round(100 * found.table.trainable / found.table.total, 2) == 8.48


def test_bert_classifier_and_what_attention_or_embeddings_in_a_name_freezes(tmp_path):
    found = bert(tmp_path, freeze="name:attention|embeddings")
    assert found.model == "BertForSequenceClassification"
    assert found.table.total == 109_483_778
    assert found.table.trainable == 57_279_746
    assert found.table.total - found.table.trainable == 52_204_032
    # The name also catches the norm after attention and that of the embeddings; the groups do not.
    by_group = bert(tmp_path, freeze=["attention", "embedding", "position"])
    assert by_group.table.trainable - found.table.trainable == (12 + 1) * 2 * 768


def test_codegen_350m_has_more_rows_than_tokens(tmp_path):
    config = CodeGenConfig(
        vocab_size=51_200, n_embd=1024, n_layer=20, n_head=16, n_positions=2048, n_ctx=2048, rotary_dim=32
    )
    config.save_pretrained(tmp_path)
    described = outline(str(tmp_path))
    found = inspect_model(described)
    assert row(found, "embedding").parameters == 51_200 * 1024
    assert row(found, "attention.q").parameters == 20 * 1024 * 1024
    # The head is a matrix of its own with a bias, beside 20 blocks with one norm each and the last norm.
    block = 4 * 1024**2 + (2 * 4 * 1024**2 + 5 * 1024) + 2 * 1024
    assert found.table.total == 2 * 51_200 * 1024 + 51_200 + 20 * block + 2 * 1024
    assert len(select(ParameterGroups(described.model), "attention.q").masks) == 20


def test_the_class_is_the_one_that_the_configuration_names(tmp_path):
    for name, task in [
        ("BertForMaskedLM", "masked-lm"),
        ("BertForSequenceClassification", "sequence-classification"),
        ("BertModel", "none"),
        (None, "masked-lm"),
    ]:
        BertConfig(num_hidden_layers=1, architectures=name and [name]).save_pretrained(tmp_path)
        found = outline(str(tmp_path))
        assert found.task == task
        assert found.name == (name or "BertForMaskedLM")
        assert {parameter.device.type for parameter in found.model.parameters()} == {"meta"}


def test_a_configuration_that_asks_for_a_foreign_kernel_is_not_followed(tmp_path):
    GPT2Config(n_layer=1).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_attn_implementation": "someone/kernel"}))
    assert outline(str(tmp_path)).model.config._attn_implementation == "eager"
