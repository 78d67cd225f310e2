"""``ftkit verdict`` on models that other tools have trained."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainingArguments, set_seed

from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.models import load_model, save_model


def verdict(*arguments: object, cache: Path) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    environment = {**os.environ, "FTKIT_CACHE": str(cache), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "ftkit", "verdict", *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip


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
        (folder / f"{name}.txt").write_text(voice_text(voice, 3000, seed=seed), encoding="utf-8")
    text = (folder / "text.txt").read_text(encoding="utf-8")
    tokenizer = load_tokenizer("train:384", texts=[text, voice_text("market", 3000)])
    set_seed(0)
    model = load_model("new:gpt2,n_layer=2,n_embd=64,n_head=2", seed=0, vocab_size=len(tokenizer), max_positions=192)
    save_model(model, tokenizer, folder / "base")
    ids = torch.tensor(tokenize_texts([text], tokenizer).ids.astype("int64"))
    arguments = TrainingArguments(
        str(folder / "trainer"), max_steps=60, per_device_train_batch_size=16, learning_rate=5e-3, report_to="none",
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


def test_a_model_of_transformers_trainer_is_judged(trained, tmp_path, cache):
    page = tmp_path / "verdict.html"
    done = verdict(*inputs(trained), "--tuned", trained / "tuned", "--json", "--report", page, cache=cache)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) >= {"verdict", "also", "reasons", "evidence", "thresholds"}
    gain = found["evidence"]["gain"]
    assert gain["low"] > 0.3  # sixty steps on the right text
    assert gain["low"] <= gain["value"] <= gain["high"]
    assert found["verdict"] in ("worked", "unsure")
    assert found["evidence"]["judges"]["ngrams"]["passages"] == {
        "text": found["evidence"]["judges"]["ngrams"]["passages"]["text"], "base model": 30,
        "other": found["evidence"]["judges"]["ngrams"]["passages"]["other"],
    }  # fmt: skip
    assert "<script" in page.read_text(encoding="utf-8")


def test_the_base_itself_learnt_nothing(trained, cache):
    done = verdict(*inputs(trained), "--tuned", trained / "base", cache=cache)
    assert done.returncode == 0, done.stderr
    assert "NOTHING" in done.stdout
    assert "none of" in done.stdout


def test_what_cannot_be_judged_leaves_with_4_and_says_why(trained, tmp_path, cache):
    other = tmp_path / "other"
    tokenizer = load_tokenizer(str(trained / "base"))
    save_model(load_model("new:gpt2,n_layer=3,n_embd=32,n_head=2", vocab_size=len(tokenizer)), tokenizer, other)
    done = verdict(*inputs(trained), "--tuned", other, cache=cache)
    assert (done.returncode, "did not start from" in done.stderr) == (4, True)
    empty = tmp_path / "empty.txt"
    empty.write_text("", encoding="utf-8")
    arguments = inputs(trained)
    arguments[arguments.index("--heldout") + 1] = empty
    done = verdict(*arguments, "--tuned", trained / "tuned", cache=cache)
    assert done.returncode == 4
    assert "empty.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_is_taken_is_refused_before_anything_is_loaded(trained, cache):
    done = verdict(*inputs(trained), "--tuned", trained / "tuned", "--against", "other=voices:almanac", cache=cache)
    assert (done.returncode, "NAME=SOURCE" in done.stderr) == (2, True)
