"""The model card: valid metadata, the run's own numbers, and nothing a model wrote becomes markup."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from made_evidence import changed
from markdown_it import MarkdownIt
from markdown_it.token import Token
from transformers import BertConfig, BertForSequenceClassification

from ftkit.config import AdapterSettings
from ftkit.data import load_tokenizer
from ftkit.errors import DataError
from ftkit.evidence import (
    Copying,
    Damage,
    Discriminator,
    Evidence,
    Fluency,
    HeldOut,
    Interval,
    StyleScore,
    WordOrder,
    decide,
    score_classifier,
)
from ftkit.evidence.measures.fluency import ComparedFluency
from ftkit.evidence.measures.general import General
from ftkit.evidence.measures.integrity import Integrity
from ftkit.evidence.measures.style import Style
from ftkit.evidence.measures.training_text import TrainingText
from ftkit.evidence.measures.weights import Weights
from ftkit.hub.card import model_card, unedited_card, write_card
from ftkit.models import load_model, save_model
from ftkit.training import Predictions
from ftkit.tuning import attach_adapter

SHA = "85664982973bfdd1" * 4
EVIL = (
    "```\n~~~\n````\n---\nlicense: evil\n---\n# Heading\n</div><script>alert(1)</script>\n"
    "[x](javascript:alert(1)) | a |\n"
    "![i](http://evil.example/i.png) <img src=x onerror=alert(1)> `code` **bold** \x1b[31m\u202e"
)


def around(value: float, half: float = 0.04) -> Interval:
    return Interval(value, value - half, value + half)


def evidence(general_name: str = "moby, gulliver") -> Evidence:
    """What was measured on a model that worked."""
    style = StyleScore("ngrams", around(0.1), around(0.8), around(0.9), around(0.85), around(0.9), True, "")
    copying = Copying(12, 60.0, around(0.001, 0.0005), around(0.002, 0.001), around(-0.001), 14, "a b", 12)
    fluency = Fluency(0.03, (0.0, 0.09), 0.63, (0.5, 0.74), 0.04)
    damage = Damage(around(0.0), around(0.0), around(0.0))
    measures = {
        "training_text": TrainingText(around(2.3), around(1.8), around(0.052, 0.01)),
        "general": General(
            general_name, 0.0, True, around(2.3), around(2.4), around(0.139, 0.01), around(0.805), around(0.123, 0.01)
        ),
        "style": Style((style,)),
        "discriminator": Discriminator(around(0.97), around(0.99, 0.005), 60),
        "copying": copying,
        "word_order": WordOrder(0.52, 0.41, around(0.79)),
        "fluency": ComparedFluency(fluency, fluency, fluency, damage),
        "integrity": Integrity(reload_difference=0.0),
        "weights": Weights(0.08, 68, 68, {}),
    }
    return Evidence(HeldOut(around(2.351), around(1.814), around(0.537), 40), measures, passes=2.9)


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) if path.suffix == ".json" else yaml.safe_dump(value), encoding="utf-8")


def run_with_model(folder: Path, name: str = "alice", text: str = "a sample", **settings: object) -> Path:
    """A run folder as recipes leave it, with one model of no weights."""
    measured = evidence()
    data = {"source": "gutenberg:11", "sha256": SHA, "words": 26443, "bytes": 144696, "removed": []}
    other = {**data, "source": "hub:wikitext:train#text"}
    versions = {"ftkit": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"}
    write(folder / "manifest.json", {"recipe": "imitate", "data": {name: data, "other": other}, "versions": versions})
    plain = {"recipe": "imitate", "seed": 42, "model": "openai-community/gpt2", "corpora": {name: "gutenberg:11"}}
    write(folder / "config.yaml", plain | settings)
    passages = {"base model": ["from the base"], name: [text] * 5}
    predictive = {"margin": {name: {}}, "chance": 0.5, "accuracy": around(0.95).as_dict()}
    own = {"before": {name: around(0.047).as_dict()}, "after": {name: {name: around(0.17).as_dict()}}}
    usage = {"lists": {"distinctive": own | {"real": {name: {name: around(0.114).as_dict()}}}}}
    found = {
        "models": {name: measured.as_dict()},
        "judges": {},
        "passages": passages,
        "predictive": predictive,
        "usage_matrix": usage,
    }
    write(folder / "evidence.json", found)
    write(folder / "verdict.json", {name: decide(measured).as_dict()})
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    write(folder / "models" / name / "config.json", config)
    return folder / "models" / name


def test_metadata_are_valid_and_say_what_is_known(tmp_path):
    card = ModelCard(model_card(run_with_model(tmp_path), repo="me/alice", license="mit"))
    assert card.data.to_dict() == {
        "base_model": "openai-community/gpt2",
        "datasets": ["wikitext"],
        "library_name": "transformers",
        "license": "mit",
        "pipeline_tag": "text-generation",
        "tags": ["ftkit", "project-gutenberg"],
    }
    assert "license" not in ModelCard(model_card(tmp_path / "models" / "alice")).data.to_dict()


@pytest.mark.parametrize("model", ["new:gpt2,n_layer=2", "base:tales", "/home/me/secret-project/gpt2", "./gpt2"])
def test_a_base_that_is_not_on_the_hub_is_no_base_model(tmp_path, model):
    text = model_card(run_with_model(tmp_path, model=model))
    assert "base_model" not in ModelCard(text).data.to_dict()
    assert "/home/me" not in text


def test_the_card_shows_the_runs_own_numbers(tmp_path):
    text = model_card(run_with_model(tmp_path), repo="me/alice")
    assert "## Verdict: worked (also: forgot)" in text
    row = next(line for line in text.splitlines() if line.startswith("| bits per byte"))
    assert [float(number) for number in re.findall(r"\d\.\d+", row)] == [2.35, 2.31, 2.39, 1.81, 1.77, 1.85]
    assert "| gain, paired |  | 0.537 [0.497,\u00a00.577] |  |" in text
    assert "13.9\u00a0% [12.9,\u00a014.9]" in text
    assert "| word 12-grams copied from the training text |  | 0.1\u00a0%" in text
    assert "| KL to the base on general text, bits per token | 0 | 0.123 [0.113,\u00a00.133] |  |" in text
    assert "| gain on its training text beyond that on held-out text |  | 0.052 [0.042,\u00a00.062] |  |" in text
    assert "| mean probability of the target, judge ngrams | 0.100 [0.060,\u00a00.140] | 0.800 [0.760," in text
    assert "| style position, judge ngrams | 0 | 0.850 [0.810,\u00a00.890] | 1 |" in text
    assert "| tokens that are distinctive of its text | 4.7\u00a0% [0.7,\u00a08.7] | 17.0\u00a0% [" in text
    assert "| word 3-grams that a passage has used before | 3.0\u00a0% | 3.0\u00a0% | 3.0\u00a0% |" in text
    assert "| loss reduction from correct word order, bits per byte | 0.520 | 0.410 |  |" in text
    assert "| AUC of real against generated passages | 0.99" in text
    assert "| relative change of the weights |  | 0.0800 |  |" in text
    assert "| unseen passages that the right model of the run predicts best | 50.0 % (chance) | 95.0\u00a0% [" in text
    for reason in json.loads((tmp_path / "verdict.json").read_text())["alice"]["reasons"]:
        assert re.sub(r"\W", "", reason) in re.sub(r"\W", "", text), reason
    assert f"| alice | gutenberg\\:11 | 26,443 | `{SHA}` |" in text
    assert text.count("\na sample\n") == 3
    assert "torch 2.13.0" in text
    settings = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    assert settings == yaml.safe_load((tmp_path / "config.yaml").read_text())


def read_markdown(text: str) -> list[Token]:
    """What a Markdown reader makes of the card below its metadata."""
    blocks = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text.split("\n---\n", 1)[1])
    return [token for block in blocks for token in (block, *(block.children or []))]


def test_nothing_that_was_generated_or_named_becomes_markup(tmp_path):
    plain = read_markdown(model_card(run_with_model(tmp_path / "plain")))
    folder = run_with_model(tmp_path / "evil", text=EVIL, general={EVIL: EVIL}, model=EVIL, recipe=EVIL)
    measured = evidence(general_name=EVIL)
    measured = changed(measured, {"style.judges": (replace(measured.style.judges[0], judge=EVIL),)})
    verdict = {"alice": {"verdict": EVIL, "also": [EVIL], "reasons": [EVIL] * 6}}
    write(tmp_path / "evil" / "verdict.json", verdict)
    passages = {"alice": [EVIL] * 3}
    found = {"models": {"alice": measured.as_dict()}, "passages": passages, "predictive": {"margin": {EVIL: {}}}}
    found["usage_matrix"] = {"lists": {"distinctive": {"after": {"alice": {"alice": EVIL}}}}}
    write(tmp_path / "evil" / "evidence.json", found)
    data = {EVIL: {"source": EVIL, "sha256": EVIL, "words": EVIL}, f"2{EVIL}": {}}
    write(tmp_path / "evil" / "manifest.json", {"recipe": EVIL, "data": data, "versions": {EVIL: EVIL}})
    write(folder / "config.json", {"model_type": EVIL, "architectures": [EVIL]})
    text = model_card(folder)
    assert ModelCard(text).data.to_dict() == {"library_name": "transformers", "tags": ["ftkit"]}
    tokens = read_markdown(text)
    assert sum("Heading" in token.content for token in tokens if token.type == "text") >= 6  # it is shown, as text
    assert sum("Heading" in token.content for token in tokens if token.type == "fence") == 4
    kinds = [token.type for token in tokens]
    assert {"table_open", "heading_open", "fence"} < {*kinds} <= {token.type for token in plain} | {"text_special"}
    for kind in ("heading_open", "table_open", "tr_open", "td_open", "fence"):
        assert kinds.count(kind) == [token.type for token in plain].count(kind), kind
    assert "\x1b" not in text


def test_secrets_and_places_of_a_run_do_not_reach_the_card(tmp_path):
    secret = "hf_abcdefghijklmnopqrstuvwxyz01234567"
    corpora = {"me": "/home/me/diary.txt", "you": "~/letters/", "web": f"https://me:{secret}@host.example/x.txt"}
    folder = run_with_model(tmp_path, text=f"my token is {secret}", corpora=corpora, output_dir="/home/me/runs/1")
    text = model_card(folder)
    assert secret not in text
    assert "/home/me" not in text
    assert "diary.txt" in text


def test_a_folder_without_a_run_says_that_nothing_was_measured(tmp_path):
    write(tmp_path / "m" / "config.json", {"model_type": "ftkit_gpt2", "architectures": ["FtkitGPT2ForCausalLM"]})
    text = model_card(tmp_path / "m")
    assert "nothing here says whether it learned anything" in text
    assert 'AutoModelForCausalLM.from_pretrained("FOLDER", trust_remote_code=True)' in text
    assert "import ftkit\nfrom transformers" in text
    assert 'AutoModelForCausalLM.from_pretrained("FOLDER")' in text
    assert ModelCard(text).data.to_dict()["tags"] == ["ftkit", "custom_code"]
    assert "## Measured" not in text


def test_an_adapter_names_its_base_and_its_library(tmp_path):
    adapter = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "gpt2"}
    write(tmp_path / "a" / "adapter_config.json", adapter)
    text = model_card(tmp_path / "a", repo="me/a")
    data = ModelCard(text).data.to_dict()
    assert (data["library_name"], data["base_model"], data["pipeline_tag"]) == ("peft", "gpt2", "text-generation")
    assert 'from_pretrained("me/a")' in text


def classified(name: str = "classifier", above_chance: bool = True) -> dict:
    """What the recipe classify leaves: real scores of 60 texts, of which 45 are classified rightly."""
    labels = np.array([0, 1] * 30)
    given = np.where(np.arange(60) % 4 == 0, 1 - labels, labels)
    said = Predictions(np.log(np.eye(2)[given] * 0.8 + 0.1), labels)
    scores = score_classifier(said, ("bad | worse", "good"))
    return {
        "finding": "The classifier gets 75.0 % right.",
        "classifiers": {who: {**scores.as_dict(), "above_chance": above_chance} for who in ("untrained", name)},
    }


def run_with_classifier(folder: Path, **changes: object) -> Path:
    data = {"train": {"source": "reviews.csv", "sha256": SHA, "words": 900}}
    write(folder / "manifest.json", {"recipe": "classify", "data": data, "versions": {}})
    write(folder / "config.yaml", {"recipe": "classify", "model": "google-bert/bert-base-uncased"})
    write(folder / "evidence.json", classified(**changes))
    names = {"0": "bad | worse", "1": "good"}
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "id2label": names}
    write(folder / "models" / "classifier" / "config.json", config)
    return folder / "models" / "classifier"


def test_the_card_of_a_classifier_shows_its_classes_and_scores(tmp_path):
    text = model_card(run_with_classifier(tmp_path), repo="me/x")
    data = ModelCard(text).data.to_dict()
    assert (data["pipeline_tag"], data["base_model"]) == ("text-classification", "google-bert/bert-base-uncased")
    assert "one of the classes bad \\| worse, good" in text
    assert "The classifier gets 75.0 % right." in text
    row = next(line for line in text.splitlines() if line.startswith("| accuracy"))
    assert [float(n) for n in re.findall(r"\d+\.\d+", row)][:2] == [50.0, 75.0], (
        "chance, then the model without training"
    )
    assert next(line for line in text.splitlines() if line.startswith("|  | chance")).endswith("this model |")
    for wrong in ("continues text", "generate", "No evidence", "did not learn", "does not show"):
        assert wrong not in text
    assert "belongs to none of them" in text
    assert "no better than chance" in model_card(run_with_classifier(tmp_path / "b", above_chance=False))


def test_the_code_on_the_card_of_a_classifier_runs(tmp_path):
    labels = {"id2label": {0: "bad", 1: "good"}, "problem_type": "multi_label_classification"}
    config = BertConfig(vocab_size=320, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, **labels)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "m")
    load_tokenizer("byte", with_mask=True).save_pretrained(tmp_path / "m")
    code = re.search(r"```python\n(.*?)```", model_card(tmp_path / "m", repo=str(tmp_path / "m")), re.DOTALL)[1]
    assert {found["label"] for found in run_code(code)} == {"bad", "good"}


def lines_of_card(folder: Path) -> list[str]:
    """The pieces of Python on the card of a folder, which is named in them."""
    return re.findall(r"```python\n(.*?)```", model_card(folder).replace("FOLDER", str(folder)), re.DOTALL)


def ran(code: str) -> str:
    """What the lines of a card print in a process of their own, and at last the module of the class of ``model``."""
    program = f"{code}\nprint('is', type(model).__module__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("ladder", [False, True])
def test_the_lines_on_the_card_of_an_own_model_load_it_with_and_without_ftkit(tmp_path, ladder):
    spec = "new:ftkit_ladder,rung=4,num_hidden_layers=1" if ladder else "new:ftkit_gpt2,n_layer=1"
    save_model(load_model(spec, vocab_size=257, max_positions=16), load_tokenizer("byte"), tmp_path / "m")
    without, with_ftkit = lines_of_card(tmp_path / "m")
    assert ran(without).startswith("is transformers_modules")  # and nothing was asked
    assert ran(with_ftkit).startswith("is ftkit.models.modeling_ftkit_")


def test_the_lines_on_the_card_of_an_adapter_load_it_with_the_base_beside_it(tmp_path):
    model = load_model("new:ftkit_gpt2,n_layer=1", vocab_size=257, max_positions=16)
    save_model(model, load_tokenizer("byte"), tmp_path / "base")
    settings = AdapterSettings(model="new:ftkit_gpt2", tokenizer="byte", peft="lora")
    adapted = attach_adapter(model, settings, base=str(tmp_path / "base"))
    save_model(adapted, load_tokenizer("byte"), tmp_path / "adapter")
    without, with_ftkit = lines_of_card(tmp_path / "adapter")
    assert "trust_remote_code=True" in without
    assert ran(without).endswith("is peft.peft_model\n")
    assert ran(with_ftkit) == "is peft.peft_model\n"


def test_the_card_in_a_models_folder_is_written_again_until_somebody_edits_it(tmp_path):
    folder = run_with_model(tmp_path)
    write_card(folder)
    readme = folder / "README.md"
    assert unedited_card(readme) == model_card(folder)
    (folder.parents[1] / "verdict.json").unlink()
    write_card(folder)
    assert "No evidence is attached" in readme.read_text(encoding="utf-8")
    readme.write_text(readme.read_text(encoding="utf-8").replace("## Limits", "## My limits"), encoding="utf-8")
    write_card(folder)
    assert "## My limits" in readme.read_text(encoding="utf-8")


def run_code(code: str) -> list[dict]:
    """The value of the last line of a program."""
    *lines, last = code.strip().splitlines()
    names: dict = {}
    exec("\n".join(lines), names)
    return eval(last, names)


@pytest.mark.parametrize(
    ("architecture", "pipeline", "shown"),
    [
        ("BertForMaskedLM", "fill-mask", 'fill = pipeline("fill-mask"'),
        ("GPT2LMHeadModel", "text-generation", "AutoModelForCausalLM.from_pretrained"),
        ("BertForTokenClassification", "token-classification", 'pipeline("token-classification"'),
        ("BertModel", None, "AutoModel.from_pretrained"),
    ],
)
def test_each_task_has_its_own_card(tmp_path, architecture, pipeline, shown):
    write(tmp_path / "m" / "config.json", {"model_type": "bert", "architectures": [architecture]})
    text = model_card(tmp_path / "m")
    assert ModelCard(text).data.to_dict().get("pipeline_tag") == pipeline
    assert shown in text
    assert ("continues text" in text) == (pipeline == "text-generation")


def test_the_adapter_of_a_classifier_names_its_base_and_its_classes(tmp_path):
    adapter = {"peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": "google-bert/bert-base-uncased"}
    write(tmp_path / "a" / "adapter_config.json", adapter)
    write(tmp_path / "a" / "base.json", {"labels": ["a", "b", "c"]})
    text = model_card(tmp_path / "a", repo="me/a")
    data = ModelCard(text).data.to_dict()
    assert (data["base_model"], data["pipeline_tag"]) == ("google-bert/bert-base-uncased", "text-classification")
    assert "one of the classes a, b, c: an adapter of type LORA for google-bert/bert-base-uncased" in text
    assert 'AutoPeftModelForSequenceClassification.from_pretrained("me/a", num_labels=3)' in text


@pytest.mark.parametrize("file", ["evidence.json", "verdict.json", "manifest.json", "config.yaml"])
def test_a_spoilt_file_of_the_run_is_one_error_that_names_it(tmp_path, file):
    folder = run_with_model(tmp_path)
    (tmp_path / file).write_text('{"a: [')
    with pytest.raises(DataError, match=re.escape(file)):
        model_card(folder)


@pytest.mark.parametrize("value", [[], "x", 3, None, {"alice": []}, {"models": {"alice": {"copying": 3}}}])
def test_files_of_another_shape_are_no_crash(tmp_path, value):
    folder = run_with_model(tmp_path)
    for file in ("evidence.json", "verdict.json", "manifest.json"):
        write(tmp_path / file, value)
    assert ModelCard(model_card(folder)).data.tags[0] == "ftkit"
