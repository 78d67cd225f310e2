"""Classifiers that start from classifiers: classes found by name, heads replaced, and what the log says of it."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from ftkit.errors import ModelError
from ftkit.models import load_model, save_model
from ftkit.models.class_heads import is_classifier

TASK = "sequence-classification"
SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 24, "max_position_embeddings": 40}
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
BUILD = {
    "bert": lambda **k: BertForSequenceClassification(BertConfig(**SIZES, **k)),
    "roberta": lambda **k: RobertaForSequenceClassification(RobertaConfig(**SIZES, **k)),
    "distilbert": lambda **k: DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=24, max_position_embeddings=40, **k)
    ),
    "gpt2": lambda **k: GPT2ForSequenceClassification(
        GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=40, pad_token_id=0, **k)
    ),
}  # fmt: skip


def saved(folder: Path, family: str = "bert", names: tuple[str, ...] | None = None, **settings: object) -> str:
    torch.manual_seed(0)
    if names:
        settings["id2label"] = dict(enumerate(names))
        settings["label2id"] = {name: number for number, name in enumerate(names)}
    BUILD[family](**settings).save_pretrained(folder)
    return str(folder)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


@pytest.mark.parametrize("family", BUILD)
def test_classes_in_another_order_compute_the_same(tmp_path, caplog, family):
    caplog.set_level(logging.INFO, "ftkit")
    folder = saved(tmp_path / "m", family, ("bad", "fair", "good"))
    before = logits(AutoModelForSequenceClassification.from_pretrained(folder))
    model = load_model(folder, task=TASK, labels=["good", "bad", "fair"])
    assert close(logits(model), before[:, [2, 0, 1]])
    assert model.config.id2label == {0: "good", 1: "bad", 2: "fair"}
    assert "(bad, fair, good) are taken by their names as good, bad, fair" in caplog.text
    save_model(model, None, tmp_path / "again")
    assert close(logits(load_model(str(tmp_path / "again"), task=TASK)), before[:, [2, 0, 1]])


def test_capitals_do_not_make_another_class(tmp_path):
    folder = saved(tmp_path / "m", names=("NEGATIVE", "POSITIVE"))
    before = logits(load_model(folder, task=TASK))
    model = load_model(folder, task=TASK, labels=["positive", "negative"])
    assert close(logits(model), before[:, [1, 0]])
    assert model.config.label2id == {"positive": 0, "negative": 1}


@pytest.mark.parametrize("family", BUILD)
@pytest.mark.parametrize("labels", [["a", "b", "c", "d", "e"], ["sad", "glad"]], ids=["five", "two"])
def test_other_classes_get_a_new_head_and_the_body_stays(tmp_path, caplog, family, labels):
    caplog.set_level(logging.INFO, "ftkit")
    folder = saved(tmp_path / "m", family, ("bad", "good"))
    stored = load_file(Path(folder) / "model.safetensors")
    first = load_model(folder, task=TASK, labels=labels, seed=1)
    assert f"its head knows other classes (bad, good); it gets a new one for {', '.join(labels)}" in caplog.text
    again = load_model(folder, task=TASK, labels=labels, seed=1)
    other = load_model(folder, task=TASK, labels=labels, seed=2)
    assert caplog.text.count("it gets a new one") == 1, "said once, however often a run loads its start"
    new = {name for name, tensor in first.state_dict().items() if name in stored and not same(tensor, stored[name])}
    assert new <= {name for name in stored if name.startswith(("classifier", "score"))}
    heads = [name for name in new if name.endswith("weight")]
    assert len(heads) == 1, "the projection onto classes, nothing before it"
    head = first.state_dict()[heads[0]]
    assert head.shape[0] == len(labels) == first.config.num_labels == logits(first).shape[1]
    assert head.std() == pytest.approx(0.02, rel=0.5), "drawn as the architecture draws"
    assert torch.equal(head, again.state_dict()[heads[0]])
    assert not torch.equal(head, other.state_dict()[heads[0]])


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal up to rounding: a product's last bit depends on where its weights lie in memory."""
    return torch.allclose(one, other, atol=1e-6) and not torch.allclose(one[:, 0], one[:, 1], atol=1e-4)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"names": ("a", "b"), "problem_type": "multi_label_classification"}, "gives several labels at once (a, b)"),
        ({"num_labels": 1, "problem_type": "regression"}, "gives values"),
        ({"num_labels": 1}, "gives values"),
    ],
)
def test_heads_for_several_labels_or_values_are_replaced(tmp_path, caplog, settings, said):
    caplog.set_level(logging.INFO, "ftkit")
    folder = saved(tmp_path / "m", **settings)
    model = load_model(folder, task=TASK, labels=["a", "b"])
    assert f"its head {said}; it gets a new one for a, b" in caplog.text
    assert model.config.problem_type in (None, "single_label_classification")
    stored = load_file(Path(folder) / "model.safetensors")["classifier.weight"]
    assert not same(model.classifier.weight, stored)
    assert model(input_ids=IDS, labels=torch.tensor([0, 1])).loss > 0  # cross-entropy: labels are classes


def test_unnamed_classes_are_taken_in_their_order_and_that_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO, "ftkit")
    folder = saved(tmp_path / "m")
    before = logits(load_model(folder, task=TASK))
    assert close(logits(load_model(folder, task=TASK, labels=["x", "y"])), before)
    assert "LABEL_0, LABEL_1 are taken as x, y" in caplog.text
    assert close(logits(load_model(folder, task=TASK, labels=["LABEL_1", "LABEL_0"])), before[:, [1, 0]])


def test_the_same_classes_need_no_word(tmp_path, caplog):
    caplog.set_level(logging.INFO, "ftkit")
    load_model(saved(tmp_path / "m", names=("a", "b")), task=TASK, labels=["a", "b"])
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("build", "config"),
    [
        (BertForTokenClassification, BertConfig(**SIZES)),
        (DistilBertForTokenClassification, DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2)),
        (BertForMaskedLM, BertConfig(**SIZES)),
    ],
)
@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "c"]])
def test_a_head_for_another_task_is_never_taken_for_one_of_texts(tmp_path, build, config, labels):
    """Heads for tokens have tensors of the same names, and of the same shape where there are as many labels."""
    build(config).save_pretrained(tmp_path / "m")
    stored = load_file(tmp_path / "m" / "model.safetensors")
    model = load_model(str(tmp_path / "m"), task=TASK, labels=labels)
    assert model.classifier.weight.shape[0] == len(labels)
    assert not same(model.classifier.weight, stored.get("classifier.weight", torch.zeros(0)))
    assert torch.equal(model.base_model.embeddings.word_embeddings.weight, stored[words_of(stored)])


def words_of(stored: dict[str, torch.Tensor]) -> str:
    return next(name for name in stored if name.endswith("word_embeddings.weight"))


def test_a_damaged_classifier_is_refused_also_where_its_head_would_be_replaced(tmp_path):
    folder = Path(saved(tmp_path / "m", "roberta", ("bad", "good")))
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"missing: classifier\.dense\.weight"):
        load_model(str(folder), task=TASK, labels=["a", "b", "c"])


def test_a_head_in_a_folder_that_names_no_architecture_is_kept(tmp_path):
    folder = Path(saved(tmp_path / "m", names=("bad", "good")))
    before = logits(load_model(str(folder), task=TASK))
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config))
    assert close(logits(load_model(str(folder), task=TASK, labels=["good", "bad"])), before[:, [1, 0]])


def test_a_language_model_whose_code_has_a_classifier_too_starts_with_a_new_head(tmp_path):
    """The own GPT-2 names the classes of all its tasks in its configuration."""
    save_model(load_model("new:ftkit_gpt2"), None, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert "AutoModelForSequenceClassification" in config["auto_map"]
    assert load_model(str(tmp_path / "m"), task=TASK, labels=["a", "b", "c"]).config.num_labels == 3
    own = BertConfig(**SIZES, architectures=["MyHead"], auto_map={"AutoModelForSequenceClassification": "my.MyHead"})
    assert is_classifier(own)
    own.architectures = ["MyLanguageModel"]
    assert not is_classifier(own)
