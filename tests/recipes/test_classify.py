"""A classifier from texts to ``ftkit predict``: early stop, the test beside simpler methods, labels that stay."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from transformers import pipeline
from typer.testing import CliRunner, Result

from ftkit.cli import app
from ftkit.config import find_recipe, resolve
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.resolve import read_flags
from ftkit.data import LabelledTexts, load_labelled, load_tokenizer, split_labelled
from ftkit.evidence import feature_baseline, word_baseline
from ftkit.evidence.baselines import text_features
from ftkit.models import load_model, save_model
from ftkit.runs import RunFolder
from ftkit.training import BestStep

TEXTS = {"keeper": "voices:keeper:3000", "almanac": "voices:almanac:5000"}


def classify(folder: Path, *flags: str) -> Path:
    recipe = load_recipe(find_recipe("classify"))
    settings_class = main_settings(recipe.main)
    given = ["--fast", "--use_cpu", *(f"--classes={name}={source}" for name, source in TEXTS.items()), *flags]
    settings = resolve(settings_class, "classify", read_flags(settings_class, given)).settings
    recipe.main(settings.model_copy(update={"output_dir": str(folder)}))
    return folder


def read(run: Path, name: str) -> dict:
    return json.loads((run / name).read_text(encoding="utf-8"))


def looks(run: Path, split: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["step"]: line["loss"] for line in lines if line["split"] == split}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classify(tmp_path_factory.mktemp("runs") / "classify", "--max_steps", "20", "--eval_steps", "5")


def test_what_is_saved_is_the_best_step_by_texts_kept_aside(run):
    found, phase = read(run, "evidence.json")["classifiers"]["classifier"], read(run, "manifest.json")["phases"]
    losses = {step: loss for step, loss in looks(run, "validation").items() if step}
    best = min(losses, key=losses.__getitem__)
    assert phase["classifier"]["best_step"] == best
    assert found["best_loss"] == losses[best]
    assert found["reload_difference"] < 1e-5
    verdict = read(run, "verdict.json")["classifier"]
    assert verdict["verdict"] in ("worked", "unsure", "nothing")  # 20 steps are few
    assert "a majority class" in verdict["reasons"][0] + verdict["reasons"][1]
    data = read(run, "manifest.json")["data"]
    assert list(data) == ["train", "validation", "test"]
    assert len({side["sha256"] for side in data.values()}) == 3
    assert found["above_chance"]


def test_a_start_that_knows_the_classes_is_a_floor(run, tmp_path):
    again = classify(tmp_path / "again", "--model", str(run / "models" / "classifier"), "--max_steps", "2")
    assert "above the start model" in " ".join(read(again, "verdict.json")["classifier"]["reasons"])
    assert "above the start model" not in " ".join(read(run, "verdict.json")["classifier"]["reasons"])


def test_the_order_of_the_classes_in_the_source_is_drawn(run):
    rows = (run / "figures" / "label_order.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "class,first,value"
    shares = {label: [float(row.split(",")[2]) for row in rows if row.startswith(label)] for label in TEXTS}
    assert shares["keeper"] == [1 - share for share in shares["almanac"]]
    assert (shares["keeper"][0], shares["keeper"][-1]) == (1.0, 0.0), "one source after the other"
    assert 'id="label_order-caption"' in (run / "report.html").read_text(encoding="utf-8")


def test_training_stops_when_it_gets_no_better(tmp_path, caplog):
    """At rate 0 no look is better than the first, so that two more end it; a warning has said so."""
    run = classify(
        tmp_path / "run", "--learning_rate", "0", "--weight_decay", "0", "--patience", "2", "--eval_steps", "2"
    )
    phase = read(run, "manifest.json")["phases"]["classifier"]
    assert (phase["best_step"], phase["last_step"]) == (2, 6)
    assert "learning_rate is 0: no update will change anything" in caplog.text


def test_a_table_is_enough_on_a_recipes_own_defaults(tmp_path, caplog):
    """A new model gets a tokenizer that follows from the texts; it is written down, and a resumed run takes it."""
    caplog.set_level("INFO", "ftkit")
    rows = "".join(f"it was {n} {'good' if n % 2 else 'bad'},{n % 2}\n" for n in range(200))
    (tmp_path / "t.csv").write_text(f"text,label\n{rows}")
    recipe = load_recipe(find_recipe("classify"))
    kind = main_settings(recipe.main)

    def start(*flags: str) -> None:
        given = ["--labelled", str(tmp_path / "t.csv"), "--output_dir", str(tmp_path / "run"), "--use_cpu", *flags]
        given += ["--max_steps", "2"]  # the only thing that is not a default, for time
        recipe.main(resolve(kind, "classify", read_flags(kind, given)).settings)

    start()
    assert "tokenizer: train:512, because new:bert has none of its own" in caplog.text
    assert "learning_rate 5e-05 is for pretrained ones" in caplog.text
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert (written["tokenizer"], written["window_tokens"]) == ("train:512", 128)
    assert read(tmp_path / "run", "manifest.json")["status"] == "done"
    start("--resume")


def test_a_resumed_run_decides_as_the_uninterrupted_one(tmp_path):
    run = RunFolder(tmp_path, "test", {}, is_main=True)
    settings = type("S", (), {"eval_steps": 5, "max_steps": 40, "patience": 2})

    def log(step: int, loss: float) -> None:
        run.log("metrics.jsonl", {"model": "m", "step": step, "split": "validation", "loss": loss})

    log(0, 0.1)  # the untrained model is no candidate
    whole = BestStep(run, "m", settings)
    answers = []
    for step, loss in ((5, 0.7), (10, 0.6), (15, 0.65), (20, 0.6)):
        log(step, loss)
        answers.append((whole.improved(step), whole.improved(step + 1), whole.stop))
    assert answers == [(True, False, False), (True, False, False), (False, False, False), (False, False, True)]
    resumed = BestStep(run, "m", settings)
    assert (resumed.step, resumed.loss, resumed.worse, resumed.stop) == (10, 0.6, 2, True)


def test_transformers_own_pipeline_gives_the_saved_classes(run):
    said = pipeline("text-classification", str(run / "models" / "classifier"), device="cpu")
    assert {found["label"] for found in said(["Wind east, 4 knots.", "Gentle reader!"])} <= {"keeper", "almanac"}


def ftkit(*arguments: object, given: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=given, catch_exceptions=False)


def test_predict_says_what_transformers_says(run, tmp_path):
    folder, texts = run / "models" / "classifier", ["Wind east, 4 knots. Ross is late.", "How often, gentle reader!"]
    said = pipeline("text-classification", str(folder), top_k=None, device="cpu")(texts)
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n\n", encoding="utf-8")
    for shown in (
        ftkit("predict", folder, *texts, "--json"),
        ftkit("predict", folder, "--file", tmp_path / "texts.txt", "--json"),
        ftkit("predict", folder, "--json", given="\n".join(texts)),
    ):
        assert shown.exit_code == 0
        found = json.loads(shown.stdout)["texts"]
        assert [row["text"] for row in found] == texts
        for row, reference in zip(found, said, strict=True):
            assert row["label"] == reference[0]["label"]
            scores = {item["label"]: item["score"] for item in reference}
            assert row["probabilities"] == pytest.approx(scores, abs=1e-5)
    assert "probability" in ftkit("predict", folder, texts[0]).stdout


def test_a_long_text_is_cut_as_in_training(run):
    folder, long = run / "models" / "classifier", "Wind east. " * 500
    cut = json.loads(ftkit("predict", folder, long, "--json").stdout)["texts"][0]
    short = json.loads(ftkit("predict", folder, long, "--json", "--max-tokens", "48").stdout)["texts"][0]
    assert cut["probabilities"] == short["probabilities"]


def test_predict_refuses_what_is_no_classifier_or_no_text(run, tmp_path):
    tokenizer = load_tokenizer("byte", with_mask=True)
    save_model(load_model("new:bert", task="masked-lm", vocab_size=len(tokenizer)), tokenizer, tmp_path / "encoder")
    refused = ftkit("predict", tmp_path / "encoder", "a text")
    assert refused.exit_code == 4
    assert "holds no classifier" in refused.stderr
    assert ftkit("predict", run / "models" / "classifier", given="\n \n").exit_code == 2


def test_features_are_the_means_of_each_texts_vectors():
    tokenizer = load_tokenizer("byte", with_mask=True)
    model = load_model("new:bert", task="sequence-classification", vocab_size=len(tokenizer), max_positions=64)
    texts = ["short", "a good deal longer than that", "mid one"]
    found = text_features(model, tokenizer, texts, 64)
    with torch.no_grad():
        for text, features in zip(texts, found, strict=True):
            states = model.bert(**tokenizer(text, return_tensors="pt")).last_hidden_state
            assert np.allclose(features, states[0].mean(0).numpy(), atol=1e-5)


def test_simple_methods_learn_what_words_say_and_nothing_from_shuffled_labels():
    split = split_labelled(load_labelled(TEXTS), heldout_share=0.4)
    assert word_baseline(split.train, split.test).right.mean() > 0.9
    tokenizer = load_tokenizer("byte", with_mask=True)
    model = load_model("new:bert", task="sequence-classification", vocab_size=len(tokenizer), max_positions=64)
    assert feature_baseline(model, tokenizer, split.train, split.test, 64).right.mean() > 0.8
    draw = np.random.default_rng(0)
    noise = [f"{draw.integers(100)} {draw.integers(100)} {n}" for n in range(400)]
    labels = tuple(int(label) for label in draw.integers(0, 2, 400))
    shuffled = split_labelled(LabelledTexts("n", "n", tuple(noise), labels, ("a", "b")))
    assert abs(word_baseline(shuffled.train, shuffled.test).right.mean() - 0.5) < 0.2


def test_the_word_baseline_is_logistic_regression_on_counts():
    split = split_labelled(load_labelled(TEXTS), heldout_share=0.4)
    counts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=2000)
    model.fit(counts.fit_transform(split.train.texts), split.train.labels)
    reference = model.predict_proba(counts.transform(split.test.texts))
    assert np.allclose(np.exp(word_baseline(split.train, split.test).log_probabilities), reference, atol=1e-6)
