"""Rows of labelled texts, what a classifier says of texts, and its diary."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import NO_DROPOUT, settings

from ftkit.data import LabelledTexts, load_labelled, load_tokenizer, split_labelled
from ftkit.models import load_model
from ftkit.runs import RunFolder
from ftkit.training import (
    CLASSIFICATION,
    ClassifiedTexts,
    ClassSamples,
    Engine,
    Predictions,
    loss_sums,
    predict_classes,
    train_and_log,
)
from ftkit.training.datasets import _BATCHES_IN_POOL

TOKENIZER = load_tokenizer("byte", with_mask=True)


@pytest.fixture(scope="module")
def data() -> LabelledTexts:
    """Sentences of two voices, cut short: 60 bytes at most."""
    found = load_labelled({"keeper": "voices:keeper:3000", "almanac": "voices:almanac:3000"})
    short = tuple(text[: 10 + 7 * (place % 8)] for place, text in enumerate(found.texts))
    return LabelledTexts(found.name, found.source, short, found.labels, found.classes)


def source(data: LabelledTexts, seed: int = 0, rows: int = 8) -> ClassifiedTexts:
    return ClassifiedTexts(data.texts, data.labels, TOKENIZER, 64, rows, seed)


def classifier():
    return load_model(
        f"new:bert,{NO_DROPOUT['bert']}", task="sequence-classification", vocab_size=len(TOKENIZER), max_positions=64,
        labels=["keeper", "almanac"],
    )  # fmt: skip


def test_rows_are_a_function_of_their_number(data):
    forwards, backwards = source(data), source(data)
    numbers = list(range(200))
    there = {i: forwards.rows([i]) for i in numbers}
    for i in reversed(numbers):
        again = backwards.rows([i])
        assert all(torch.equal(there[i][name], again[name]) for name in again)
    whole = source(data).rows(range(40, 48))
    for place, i in enumerate(range(40, 48)):
        width = there[i]["input_ids"].shape[1]
        assert torch.equal(whole["input_ids"][place, :width], there[i]["input_ids"][0])
        assert whole["attention_mask"][place].sum() == width
        assert whole["labels"][place] == there[i]["labels"][0]
    other = source(data, seed=1)
    assert any(not torch.equal(other.rows([i])["input_ids"], there[i]["input_ids"]) for i in range(8))


def test_every_class_comes_equally_often_and_no_text_is_passed_over(data):
    size = 8 * _BATCHES_IN_POOL
    drawn = source(data)
    seen = [drawn._pools.item(i, drawn._drawn) for i in range(4 * size)]
    for pool in range(4):
        counts = Counter(data.labels[place] for place in seen[pool * size : (pool + 1) * size])
        assert counts == {0: size // 2, 1: size // 2}
    visits = Counter(place for place in seen if data.labels[place] == 1)
    assert len(visits) == data.counts["almanac"]
    assert max(visits.values()) - min(visits.values()) <= 1


def test_labels_stay_with_their_texts(data):
    known = {tuple(TOKENIZER(text)["input_ids"]): label for text, label in zip(data.texts, data.labels, strict=True)}
    batch = source(data).rows(range(64))
    for ids, mask, label in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        assert known[tuple(ids[mask.bool()].tolist())] == label


def test_less_is_padded_than_with_random_batches(data):
    sorted_rows = source(data)
    lengths = np.array([len(row) for row in sorted_rows.ids])
    ours = sum(sorted_rows.rows(range(8 * n, 8 * n + 8))["input_ids"].numel() for n in range(32))
    draw = np.random.default_rng(0)
    dynamic = sum(8 * lengths[draw.integers(0, len(lengths), 8)].max() for _ in range(32))
    assert dynamic > 1.3 * ours
    assert 1.6 * ours < 32 * 8 * 64


def test_predictions_are_those_of_the_model_on_each_text_alone(data):
    model = classifier().train()
    found = predict_classes(model, TOKENIZER, data.texts[:20], 64, batch_rows=7)
    assert model.training
    model.eval()
    with torch.no_grad():
        for text, said in zip(data.texts[:20], found, strict=True):
            alone = model(**TOKENIZER(text, return_tensors="pt")).logits.log_softmax(-1)[0]
            assert np.allclose(said, alone.numpy(), atol=1e-5)


def test_loss_of_predictions_is_the_objective(data):
    model, rows = classifier().eval(), source(data).rows(range(16))
    texts = [TOKENIZER.decode(ids[1 : mask.sum() - 1]) for ids, mask in zip(rows["input_ids"], rows["attention_mask"])]  # noqa: B905
    found = Predictions(predict_classes(model, TOKENIZER, texts, 64), rows["labels"].numpy())
    with torch.no_grad():
        assert found.nats.sum() == pytest.approx(float(loss_sums(model, rows, CLASSIFICATION)[0]), rel=1e-5)
    assert found.right.sum() == (found.log_probabilities.argmax(1) == rows["labels"].numpy()).sum()


def test_the_diary_of_a_classifier_has_training_and_fixed_samples(data, tmp_path):
    split = split_labelled(data, seed=0)
    run = RunFolder(tmp_path, "test", {"plan": {}}, is_main=True)
    rows = source(split.train)
    samples = {"test": split.test.stratified(20), "seen": split.train.stratified(20)}
    model = classifier()
    with Engine(model, CLASSIFICATION, rows, settings(max_steps=4, eval_steps=2, window_tokens=64)) as engine:
        records = list(train_and_log(engine, run, "arm", rows, ClassSamples(samples, TOKENIZER, 64)))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines if line["split"] == "train"] == [record.loss for record in records]
    for split_name, sample in samples.items():
        looks = [line for line in lines if line["split"] == split_name]
        assert [look["step"] for look in looks] == [0, 2, 4]
        found = Predictions(predict_classes(model, TOKENIZER, sample.texts, 64), np.array(sample.labels))
        assert looks[-1]["accuracy"] == pytest.approx(found.right.mean())
        assert looks[-1]["loss"] == pytest.approx(found.nats.mean(), rel=1e-5)
    plan = SimpleNamespace(**run.manifest["plan"]["arm"])
    assert (plan.texts, plan.step_texts, plan.steps) == (len(split.train), 8, 4)
    assert plan.passes == pytest.approx(32 / len(split.train))
