"""The command predict on every kind of head, beside transformers' own forward pass and pipeline."""

import json
from pathlib import Path

import peft
import pytest
import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    pipeline,
)
from typer.testing import CliRunner, Result

from ftkit.cli import app
from ftkit.data import load_tokenizer
from ftkit.models import load_model
from ftkit.training import predict_outputs

TEXTS = ["Wind east.", "How often, gentle reader, have I told you of the lamp!", "No."]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SIZES |= {"max_position_embeddings": 80, "initializer_range": 0.3}


def bert(**settings: object) -> BertConfig:
    return BertConfig(vocab_size=320, pad_token_id=0, **SIZES, **settings)


def saved(folder: Path, build: type, config: object) -> Path:
    """A model of random weights, large enough that its outputs differ, beside a tokenizer of bytes."""
    torch.manual_seed(0)
    build(config).save_pretrained(folder)
    load_tokenizer("byte", with_mask=True).save_pretrained(folder)
    return folder


def ftkit(*arguments: object, given: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=given, catch_exceptions=False)


def predicted(model: Path) -> list[dict]:
    done = ftkit("predict", model, *TEXTS, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)["texts"]
    assert [row["text"] for row in found] == TEXTS
    return found


def forward(folder: Path, build: type) -> torch.Tensor:
    """transformers' own logits, one text at a time and without padding."""
    model, tokenizer = build.from_pretrained(folder).eval(), load_tokenizer(str(folder))
    with torch.no_grad():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS])


@pytest.mark.parametrize("settings", [{"problem_type": "regression", "num_labels": 1}, {"num_labels": 1}])
def test_a_regression_shows_its_value(tmp_path, settings):
    folder = saved(tmp_path / "m", BertForSequenceClassification, bert(**settings))
    values = forward(folder, BertForSequenceClassification)[:, 0]
    assert values.std() > 0.01
    assert [row["value"] for row in predicted(folder)] == pytest.approx(values.tolist(), abs=1e-5)
    lines = ftkit("predict", folder, *TEXTS).stdout.splitlines()
    assert lines[0].split() == ["value", "text"]
    assert [float(line.split()[0]) for line in lines[1:]] == pytest.approx(values.tolist(), rel=1e-3)


def test_several_values_have_their_names(tmp_path):
    names = {0: "anger", 1: "joy"}
    folder = saved(tmp_path / "m", BertForSequenceClassification, bert(problem_type="regression", id2label=names))
    expected = forward(folder, BertForSequenceClassification)
    for row, values in zip(predicted(folder), expected, strict=True):
        assert row["values"] == pytest.approx(dict(zip(names.values(), values.tolist(), strict=True)), abs=1e-5)


def test_several_labels_at_once_have_their_own_probabilities(tmp_path):
    names = {0: "toxic", 1: "obscene", 2: "threat"}
    config = bert(problem_type="multi_label_classification", id2label=names)
    folder = saved(tmp_path / "m", BertForSequenceClassification, config)
    said = pipeline("text-classification", str(folder), top_k=None, device="cpu")(TEXTS)
    for row, reference in zip(predicted(folder), said, strict=True):
        scores = {item["label"]: item["score"] for item in reference}
        assert row["probabilities"] == pytest.approx(scores, abs=1e-5)
        assert row["labels"] == [name for name in names.values() if scores[name] >= 0.5]
        assert abs(sum(scores.values()) - 1) > 0.01
    assert "toxic " in ftkit("predict", folder, *TEXTS).stdout


def test_one_class_of_several_is_as_transformers_pipeline_says(tmp_path):
    folder = saved(tmp_path / "m", BertForSequenceClassification, bert(num_labels=12))
    said = pipeline("text-classification", str(folder), top_k=None, device="cpu")(TEXTS)
    for row, reference in zip(predicted(folder), said, strict=True):
        assert row["label"] == reference[0]["label"]
        scores = {item["label"]: item["score"] for item in reference}
        assert row["probabilities"] == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("pad", [None, 7])
def test_a_decoder_reads_the_last_token_of_each_text_in_a_batch(tmp_path, pad):
    """Without a padding token, and with another than the tokenizer's."""
    config = GPT2Config(
        vocab_size=320, n_embd=32, n_layer=2, n_head=2, n_positions=80, num_labels=3, pad_token_id=pad,
        initializer_range=0.3, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    folder = saved(tmp_path / "m", GPT2ForSequenceClassification, config)
    expected = forward(folder, GPT2ForSequenceClassification).softmax(-1)
    for row, probabilities in zip(predicted(folder), expected, strict=True):
        assert list(row["probabilities"].values()) == pytest.approx(probabilities.tolist(), abs=1e-5)
    model, tokenizer = load_model(str(folder), task="sequence-classification"), load_tokenizer(str(folder))
    together = predict_outputs(model, tokenizer, TEXTS, 80)
    alone = [predict_outputs(model, tokenizer, [text], 80)[0].tolist() for text in TEXTS]
    assert together.tolist() == [pytest.approx(row, abs=1e-6) for row in alone]


@pytest.mark.parametrize(
    ("build", "does"),
    [
        (BertForTokenClassification, "BertForTokenClassification, which labels single tokens"),
        (BertForQuestionAnswering, "BertForQuestionAnswering, which marks answers"),
        (BertModel, "its head is BertModel"),
    ],
)
def test_another_head_is_refused_by_its_name(tmp_path, build, does):
    refused = ftkit("predict", saved(tmp_path / "m", build, bert()), *TEXTS)
    assert (refused.exit_code, refused.stdout) == (4, "")
    assert does in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_head_without_classes_is_refused(tmp_path):
    folder = saved(tmp_path / "m", BertForSequenceClassification, bert())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "id2label": {}, "label2id": {}}))
    refused = ftkit("predict", folder, *TEXTS)
    assert refused.exit_code == 4
    assert "its head has 0 classes" in refused.stderr


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # peft 0.21 asks transformers 5.23 for an old name
@pytest.mark.parametrize("outputs", [1, 3])
def test_an_adapter_of_a_classifier_by_peft_has_its_own_number_of_classes(tmp_path, outputs):
    """The base is a body whose configuration says two classes, as those of the Hub do."""
    base = saved(tmp_path / "base", BertModel, bert())
    model = BertForSequenceClassification.from_pretrained(base, num_labels=outputs)
    settings = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, settings).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer = load_tokenizer(str(base))
    with torch.no_grad():
        logits = torch.cat([adapted(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS])
    found = predicted(tmp_path / "adapter")
    if outputs == 1:
        assert [row["value"] for row in found] == pytest.approx(logits[:, 0].tolist(), abs=1e-5)
    else:
        assert [list(row["probabilities"].values()) for row in found] == [
            pytest.approx(row, abs=1e-5) for row in logits.softmax(-1).tolist()
        ]


def test_the_folder_of_a_run_stands_for_its_classifier(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    models = tmp_path / "models"
    saved(models / "a", BertForSequenceClassification, bert())
    saved(models / "tuned", BertModel, bert())
    saved(models / "judge", BertForSequenceClassification, bert())
    done = ftkit("predict", tmp_path, "Wind east.", "--json")
    assert json.loads(done.stdout)["model"] == str(models / "a")
    saved(models / "b", BertForSequenceClassification, bert())
    refused = ftkit("predict", tmp_path, "Wind east.")
    assert refused.exit_code == 4
    assert f"with 2 classifiers; name one of them: {models / 'a'}, {models / 'b'}" in refused.stderr
    (tmp_path / "other" / "models" / "tuned").mkdir(parents=True)
    (tmp_path / "other" / "manifest.json").write_text("{}")
    refused = ftkit("predict", tmp_path / "other", "Wind east.")
    assert "without a classifier; it holds models/tuned" in refused.stderr
