"""A verdict on classifiers that a plain loop of torch and transformers made, and of which it is known what became."""

import csv
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, Trainer, TrainingArguments

import ftkit
from ftkit.cli import main
from ftkit.data import load_tokenizer
from ftkit.errors import ConfigError, ModelError
from ftkit.jobs.class_verdicts import judge_classifiers
from ftkit.jobs.verdict_requests import ClassVerdictRequest

WORDS = {"kind": ["warm", "bright", "gentle", "clear"], "harsh": ["cold", "dull", "rough", "murky"]}
SHARED = ["the", "light", "over", "this", "bay", "was", "and", "we", "saw", "its", "wall", "from", "here", "today"]


def rows(count: int, seed: int, rare: float = 0.5) -> list[tuple[str, str]]:
    """Texts with a class, whose words are mostly shared."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        label = "harsh" if draw.random() < rare else "kind"
        words = draw.choices(SHARED, k=9) + draw.choices(WORDS[label], k=2)
        draw.shuffle(words)
        found.append((" ".join(words), label))
    return found


def written(path: Path, texts: list[tuple[str, str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *texts])
    return str(path)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """An encoder without a head, with its tokenizer."""
    return encoder(tmp_path_factory.mktemp("base") / "encoder")


def encoder(folder: Path, width: int = 32, seed: int = 0) -> Path:
    """An encoder of random weights."""
    tokenizer = load_tokenizer("train:400", texts=[text for text, _ in rows(300, 99)], with_mask=True)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=2 * width, max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(seed)
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tuned(base: Path, folder: Path, texts: list[tuple[str, str]], seed: int, steps: int = 60) -> str:
    """A classifier as a plain loop makes it."""
    tokenizer: Any = load_tokenizer(str(base))
    torch.manual_seed(seed)
    model: Any = BertForSequenceClassification.from_pretrained(
        base, num_labels=2, id2label={0: "harsh", 1: "kind"}, label2id={"harsh": 0, "kind": 1}
    )
    optimizer, draw = torch.optim.AdamW(model.parameters(), lr=5e-3), random.Random(seed)
    model.train()
    for _ in range(steps):
        batch = draw.choices(texts, k=32)
        labels = torch.tensor([model.config.label2id[label] for _, label in batch])
        loss = model(**tokenizer([text for text, _ in batch], return_tensors="pt", padding=True), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def planted(name: str, base: Path, folder: Path, seed: int) -> tuple[str, str, str, str]:
    """Base, tuned model, training texts and test texts of a case."""
    draw, rare = random.Random(seed), 0.05 if name == "rare class" else 0.5
    train, test = rows(400, 2 * seed, rare), rows(400, 2 * seed + 1, rare)
    learned = {
        "majority class": [(text, "kind") for text, _ in train],
        "labels shuffled": [(text, draw.choice(("kind", "harsh"))) for text, _ in train],
    }.get(name, train)
    if name == "leaked rows":
        test = [*test[:200], *train[:200]]
    start = str(base)
    model = tuned(base, folder / "tuned", learned, seed, 150 if name == "rare class" else 60)
    if name == "untouched":
        start = str(shutil.copytree(model, folder / "start"))
    return start, model, written(folder / "train.csv", train), written(folder / "test.csv", test)


EXPECTED = {
    "honest": ("worked",), "rare class": ("worked",), "majority class": ("nothing",),
    "labels shuffled": ("unsure", "nothing"), "untouched": ("nothing",), "leaked rows": ("unsure",),
}  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", EXPECTED)
def test_a_planted_classifier_from_elsewhere_is_named_rightly(name, seed, base, tmp_path):
    start, model, train, test = planted(name, base, tmp_path, seed)
    judged = judge_classifiers(ClassVerdictRequest(start, train, test), {"tuned": model}, tmp_path / "verdict")
    verdict = judged.models["tuned"].verdict
    assert verdict.verdict in EXPECTED[name], verdict
    evidence = json.loads((tmp_path / "verdict" / "evidence.json").read_text())
    assert set(evidence["classifiers"]) == {"untrained", "counted words", "frozen features", "tuned"}


def test_the_command_judges_two_classifiers_and_draws_one_report(base, tmp_path, capsys, monkeypatch):
    start, good, train, test = planted("honest", base, tmp_path, 3)
    other = tuned(base, tmp_path / "other", [(text, "kind") for text, _ in rows(200, 8)], 8)
    report = tmp_path / "out.html"
    asked = [
        "verdict", "--base", start, "--tuned", good, "--tuned", other, "--labelled", train, "--labelled-test", test,
        "--report", str(report),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["ftkit", *asked])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr().out
    assert left.value.code == 0
    assert "tuned: WORKED" in said
    assert "other: NOTHING" in said
    page = report.read_text(encoding="utf-8")
    assert "counted words" in page
    assert "macro F1" in page


def test_options_of_another_kind_of_data_are_refused(base, capsys, monkeypatch):
    asked = ["verdict", "--base", str(base), "--tuned", str(base), "--labelled", "a.csv", "--canaries", "c.txt"]
    monkeypatch.setattr(sys, "argv", ["ftkit", *asked])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "canaries: has no effect with labelled, it goes with text; leave it out" in capsys.readouterr().err


def test_python_judges_a_classifier_as_the_command_does(base, tmp_path):
    start, model, train, test = planted("honest", base, tmp_path, 4)
    judged = ftkit.verdict(start, model, labelled=train, labelled_test=test)
    assert judged.verdict.verdict == "worked"
    assert judged.holds(require="worked")
    assert "accuracy" in judged._repr_html_()


def test_a_trainers_classifier_is_judged_at_the_end(base, tmp_path):
    train, test = rows(300, 11), rows(200, 12)
    tokenizer: Any = load_tokenizer(str(base))
    model: Any = BertForSequenceClassification.from_pretrained(
        base, num_labels=2, id2label={0: "harsh", 1: "kind"}, label2id={"harsh": 0, "kind": 1}
    )
    texts = [tokenizer(text) | {"labels": model.config.label2id[label]} for text, label in train]
    callback = ftkit.VerdictCallback(
        labelled=written(tmp_path / "train.csv", train), labelled_test=written(tmp_path / "test.csv", test)
    )
    trainer = Trainer(
        model,
        TrainingArguments(
            str(tmp_path / "out"), max_steps=60, per_device_train_batch_size=32, learning_rate=5e-3, use_cpu=True,
            report_to="none", save_strategy="no", disable_tqdm=True,
        ),
        train_dataset=texts, processing_class=tokenizer, callbacks=[callback],
    )  # fmt: skip
    trainer.train()
    assert callback.result.verdict.verdict == "worked"
    (logged,) = (entry for entry in trainer.state.log_history if "verdict" in entry)
    assert logged["verdict_macro_f1_low"] > 0.8


def test_a_classifier_that_started_from_another_model_is_refused(tmp_path):
    # Matrices below 4,096 elements are not compared, and none that a high rate has made three times as large.
    start, stranger = encoder(tmp_path / "start", 96), encoder(tmp_path / "stranger", 96, seed=77)
    train = rows(200, 12)
    model = tuned(start, tmp_path / "tuned", train, seed=6, steps=2)
    files = [written(tmp_path / "train.csv", train), written(tmp_path / "test.csv", rows(200, 13))]
    with pytest.raises(ModelError, match=r"did not start from .*stranger: their weights"):
        ftkit.verdict(str(stranger), model, labelled=files[0], labelled_test=files[1])


def test_what_cannot_be_judged_is_refused_by_name(base, tmp_path):
    start, model, train, test = planted("honest", base, tmp_path, 5)
    with pytest.raises(
        ConfigError, match=r"labelled_test: texts with classes that the classifier never saw are missing"
    ):
        ftkit.verdict(start, model, labelled=train)
    other = written(tmp_path / "other.csv", [("a b c", "up"), ("d e f", "down")] * 20)
    with pytest.raises(ModelError, match=r"is no classifier of down, up.*names harsh, kind"):
        ftkit.verdict(start, model, labelled=other, labelled_test=other)
    with pytest.raises(ConfigError, match="text and labelled were given"):
        ftkit.verdict(start, model, train, labelled=train, labelled_test=test)
    with pytest.raises(ConfigError, match="num_passages: has no effect with labelled, it goes with text; leave it out"):
        ftkit.verdict(start, model, labelled=train, labelled_test=test, num_passages=60)
