"""``ftkit verdict`` on models that other tools have trained."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml
from transformers import Trainer, TrainingArguments
from typer.main import get_group
from typer.testing import CliRunner, Result

from ftkit.cli import app
from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.models import load_model, save_model


def verdict(*arguments: object) -> Result:
    """The command."""
    return CliRunner().invoke(app, ["verdict", *map(str, arguments)], catch_exceptions=False)


class Windows(torch.utils.data.Dataset):
    """Consecutive windows as transformers' Trainer wants them."""

    def __init__(self, ids: torch.Tensor) -> None:
        self.rows = ids[: len(ids) // 64 * 64].reshape(-1, 64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[number], "labels": self.rows[number]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and a model that transformers' Trainer has made of it, with the texts that are needed."""
    folder = tmp_path_factory.mktemp("foreign")
    for name, voice, seed in (("text", "keeper", 1), ("heldout", "keeper", 2), ("general", "letters", 3)):
        (folder / f"{name}.txt").write_text(voice_text(voice, 2400, seed=seed), encoding="utf-8")
    text = (folder / "text.txt").read_text(encoding="utf-8")
    tokenizer = load_tokenizer("train:384", texts=[text, voice_text("market", 2000)])
    model = load_model("new:gpt2,n_layer=1,n_embd=48,n_head=2", seed=0, vocab_size=len(tokenizer), max_positions=96)
    save_model(model, tokenizer, folder / "base")
    ids = torch.tensor(tokenize_texts([text], tokenizer).ids.astype("int64"))
    arguments = TrainingArguments(
        str(folder / "trainer"), max_steps=50, per_device_train_batch_size=16, learning_rate=1e-2, report_to="none",
        use_cpu=True, save_strategy="no", disable_tqdm=True, logging_strategy="no", seed=0,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=Windows(ids))
    trainer.train()
    trainer.save_model(str(folder / "tuned"))
    tokenizer.save_pretrained(folder / "tuned")
    return folder


def inputs(folder: Path) -> list[object]:
    """What is the same in every call."""
    return [
        "--base", folder / "base", "--text", folder / "text.txt", "--heldout", folder / "heldout.txt",
        "--general", folder / "general.txt", "--window-tokens", 64, "--passage-chars", 120, "--num-passages", 30,
        "--eval-windows", 40,
    ]  # fmt: skip


def test_a_model_of_transformers_trainer_is_judged(trained, tmp_path):
    page = tmp_path / "verdict.html"
    done = verdict(*inputs(trained), "--tuned", trained / "tuned", "--json", "--report", page)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {
        "verdict", "also", "reasons", "thresholds", "decided_by", "rule", "passages", "open", "next", "evidence"
    }  # fmt: skip
    gain = found["evidence"]["heldout"]["gain"]
    assert gain["low"] > 0.3  # fifty steps on the right text
    assert gain["low"] <= gain["value"] <= gain["high"]
    assert found["verdict"] in ("worked", "unsure")
    assert f"gain.low {gain['low']:.3f} > worked_gain 0.01" in found["decided_by"]
    passages = found["evidence"]["judges"]["ngrams"]["passages"]
    assert passages["base model"] == 30
    assert min(passages["text"], passages["other"]) >= 30
    text = page.read_text(encoding="utf-8")
    assert "bits per byte for unseen text, the base" in text, "the model is not named after its text"
    assert re.search(r'<td>text</td>\s*<td>other</td>\s*<td class="value">(1\.00|0\.\d)', text), "AUC against the other"


def test_a_threshold_that_is_set_decides_and_is_shown(trained):
    done = verdict(*inputs(trained), "--tuned", trained / "tuned", "--threshold", "worked_gain=9")
    assert (done.exit_code, "UNSURE" in done.stdout or "FORGOT" in done.stdout) == (0, True)
    assert "<= worked_gain 9" in done.stdout
    done = verdict(*inputs(trained), "--tuned", trained / "tuned", "--threshold", "worked_gan=9")
    assert (done.exit_code, "worked_gain" in done.stderr) == (2, True)


def test_the_base_itself_learned_nothing_and_the_last_tenth_stands_for_held_out_text(trained):
    arguments = inputs(trained)
    place = arguments.index("--heldout")
    del arguments[place : place + 2]
    arguments[arguments.index("--window-tokens") + 1] = 32
    done = verdict(*arguments, "--tuned", trained / "base")
    assert done.exit_code == 0, done.stderr
    assert "NOTHING" in done.stdout
    assert "none of" in done.stdout
    assert "the last tenth of the text is used" in done.stdout


def test_what_cannot_be_judged_leaves_with_4_and_says_why(trained, tmp_path):
    other = tmp_path / "other"
    tokenizer = load_tokenizer(str(trained / "base"))
    save_model(load_model("new:gpt2,n_layer=3,n_embd=32,n_head=2", vocab_size=len(tokenizer)), tokenizer, other)
    done = verdict(*inputs(trained), "--tuned", other)
    assert (done.exit_code, "did not start from" in done.stderr) == (4, True)
    empty = tmp_path / "empty.txt"
    empty.write_text("", encoding="utf-8")
    arguments = inputs(trained)
    arguments[arguments.index("--heldout") + 1] = empty
    done = verdict(*arguments, "--tuned", trained / "tuned")
    assert (done.exit_code, "empty.txt" in done.stderr) == (4, True)


@pytest.mark.parametrize(
    ("against", "said"),
    [
        ("other=voices:almanac", "'other' is a name that ftkit uses itself"),
        ("character chain=voices:almanac", "'character chain' is a name that ftkit uses itself"),
        ("voices:almanac", "NAME=SOURCE"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_before_anything_is_loaded(trained, against, said):
    done = verdict(*inputs(trained), "--tuned", "no/such/model", "--against", against)
    assert (done.exit_code, said in done.stderr) == (2, True)


def test_a_gate_that_does_not_hold_leaves_with_8_after_everything_is_written(trained, tmp_path):
    page, junit = tmp_path / "verdict.html", tmp_path / "verdict.xml"
    asked = [*inputs(trained), "--tuned", trained / "base", "--report", page, "--junit", junit, "--json"]
    done = verdict(*asked, "--require", "worked", "--fail-on", "broken,forgot")
    assert (done.exit_code, done.stderr) == (8, f"ftkit: {trained / 'base'}: asked --require worked, found nothing\n")
    assert json.loads(done.stdout)["verdict"] == "nothing"
    cases = [(case.get("name"), len(case)) for case in ElementTree.parse(junit).iter("testcase")]
    assert cases == [("--require worked", 1), ("--fail-on broken", 0), ("--fail-on forgot", 0)]
    assert page.exists()
    assert verdict(*asked, "--require", "worked,nothing").exit_code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fail-on", "broken,forget"), "did you mean 'forgot'?"),
        (("--junit", "verdict.xml"), "give --require or --fail-on"),
    ],
)
def test_a_gate_that_cannot_be_is_refused_before_anything_is_loaded(trained, options, said):
    done = verdict(*inputs(trained), "--tuned", "no/such/model", *options)
    assert (done.exit_code, said in done.stderr) == (2, True)


def test_the_workflow_of_the_page_gives_options_that_exist():
    page = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")
    workflow = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    (command,) = (step["run"] for step in workflow["jobs"]["verdict"]["steps"] if "verdict" in step.get("run", ""))
    known = {name for each in get_group(app).commands["verdict"].params for name in each.opts}
    given = [word for word in command.split() if word.startswith("--")]
    assert len(given) >= 8
    assert set(given) <= known


def test_several_models_are_one_object_and_the_gate_applies_to_each(trained, tmp_path):
    asked = [*inputs(trained), "--tuned", trained / "base", "--tuned", trained / "tuned", "--json"]
    done = verdict(*asked, "--fail-on", "nothing", "--junit", tmp_path / "verdict.xml")
    assert (done.exit_code, done.stderr) == (8, "ftkit: base: asked --fail-on nothing, found nothing\n")
    found = json.loads(done.stdout)["models"]
    assert list(found) == ["base", "tuned"]
    assert found["tuned"]["evidence"]["heldout"]["gain"]["low"] > 0.3
    cases = [
        (case.get("classname"), len(case)) for case in ElementTree.parse(tmp_path / "verdict.xml").iter("testcase")
    ]
    assert cases == [("base", 1), ("tuned", 0)]
    done = verdict(*inputs(trained), "--tuned", trained / "base", "--tuned", f"{trained}/base")
    assert (done.exit_code, "takes different models" in done.stderr) == (2, True)
