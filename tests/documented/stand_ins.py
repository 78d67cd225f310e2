"""What stands in for the names that the pages use: tiny models, short texts, finished runs, a small Hub."""

import csv
import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import torch
from blocks import ROOT, blocks
from processes import python, ranks

from ftkit.data import load_tokenizer, voice_text
from ftkit.hub.archive import pack
from ftkit.models import load_model, save_model

METRIC = """
import datasets
import evaluate

class Share(evaluate.Metric):
    def _info(self):
        value = datasets.Value("int64")
        return evaluate.MetricInfo(description="", citation="", inputs_description="",
                                   features=datasets.Features({"predictions": value, "references": value}))

    def _compute(self, predictions, references, average="binary"):
        return {"share": sum(p == r for p, r in zip(predictions, references)) / len(references)}
"""
BOOKS = {"11": "keeper", "2148": "almanac", "829": "letters", "2701": "market", "35": "letters"}
"""Voices in place of the books that the pages name by their numbers."""
RUNS = ("RUN", "runs/imitate-20260101-120000", "runs/NAME")


def make(folder: Path) -> None:
    """Fill a folder; what runs leave is made by runs.

    Args:
        folder: A new folder.
    """
    folder.mkdir(parents=True)
    make_texts(folder)
    make_code(folder)
    make_models(folder)
    (folder / "my_losses.py").write_text(next(block.text for block in blocks() if "focal_sum" in block.text))
    (folder / "my_study.yaml").write_text(
        next(b.text for b in blocks() if b.page == "docs/studies.md" and b.kind == "yaml"), encoding="utf-8"
    )
    for metric in ("my_metric", "f1"):
        (folder / metric).mkdir()
        (folder / metric / f"{metric}.py").write_text(METRIC, encoding="utf-8")
    make_runs(folder)


def make_texts(folder: Path) -> None:
    """Novels, classes and books."""
    novels = {"novel": "keeper", "book": "keeper", "trained_on": "keeper", "other": "letters"}
    novels |= {"alice": "keeper", "poe": "almanac"}
    for name, voice in novels.items():
        (folder / f"{name}.txt").write_text(voice_text(voice, 4000, seed=len(name)), encoding="utf-8")
    (folder / "canaries.txt").write_text("The code of the vault is 4711.\n", encoding="utf-8")
    (folder / "prompts.txt").write_text("Once upon a time\nThe sea\n", encoding="utf-8")
    for name in ("my_texts", "letters"):
        (folder / name).mkdir()
        (folder / name / "diary.txt").write_text(voice_text("market", 4000), encoding="utf-8")
    rows = [json.dumps({"text": paragraph}) for paragraph in voice_text("market", 4000).split("\n\n")]
    (folder / "web_pages.jsonl").write_text("\n".join(rows), encoding="utf-8")
    pairs = [(f"Say {n}.", f" It is {n}.") for n in range(60)]
    for name, part in (("chats", pairs), ("test", pairs[:30])):
        lines = "\n".join(json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in part)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    with open(folder / "questions.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "reply"), *pairs])
    (folder / "books").mkdir()
    for number, voice in BOOKS.items():
        (folder / "books" / f"{number}-0.txt").write_text(voice_text(voice, 4000, seed=int(number)), encoding="utf-8")
    sides = {side: voice_text(voice, 2500).split(". ")[:60] for side, voice in (("neg", "market"), ("pos", "letters"))}
    for side, sentences in sides.items():
        lines = "\n".join(" ".join(sentence.split()) for sentence in sentences)
        for name in (side, {"neg": "negative", "pos": "positive"}[side]):
            (folder / f"{name}.txt").write_text(lines, encoding="utf-8")
    (folder / "sentences").mkdir()
    for side in sides:
        shutil.copy(folder / f"{side}.txt", folder / "sentences" / f"{side}.txt")
    rows = [(sentence, side) for side, sentences in sides.items() for sentence in sentences]
    for name in ("reviews", "train", "test"):
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            heads = ("text", "label", "review", "sentiment")
            csv.writer(file).writerows([heads, *((text, side, text, side) for text, side in rows)])


def make_code(folder: Path) -> None:
    """A project, and a course of notebooks with the same code."""
    (folder / "my_project").mkdir()
    (folder / "calculus-book").mkdir()
    for path in sorted((ROOT / "ftkit" / "evidence").glob("[a-z]*.py")):
        shutil.copy(path, folder / "my_project" / path.name)
        cell = {
            "cell_type": "code",
            "source": path.read_text(encoding="utf-8").splitlines(True),
            "metadata": {},
            "outputs": [],
        }
        notebook = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {"language_info": {"name": "python"}},
            "cells": [cell],
        }
        (folder / "calculus-book" / f"{path.stem}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    shutil.make_archive(str(folder / "course"), "zip", folder / "calculus-book")


def make_models(folder: Path) -> None:
    """A base, the same after a little change, an encoder, a GPT-2 of seven blocks, and an old file of weights."""
    texts = [voice_text(voice, 4000) for voice in ("keeper", "letters", "market")]
    tokenizer = load_tokenizer("train:512", texts=texts)
    spec = "new:ftkit_gpt2,num_hidden_layers=2,hidden_size=48,num_attention_heads=2"
    model = load_model(spec, seed=0, vocab_size=len(tokenizer), max_positions=256)
    for name in ("base", "BASE", "A", "copy_of_base", "B"):
        save_model(model, tokenizer, folder / name)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    for name in ("alice", "poe", "TUNED", "runs/compare/models/full", "pair/poe", "pair/alice"):
        save_model(model, tokenizer, folder / name)
    words = load_tokenizer("train:512", texts=texts, with_mask=True)
    encoder = load_model("new:bert", seed=0, task="masked-lm", vocab_size=len(words), max_positions=128)
    save_model(encoder, words, folder / "encoder")
    classifier = load_model(str(folder / "encoder"), seed=0, task="sequence-classification")
    save_model(classifier, words, folder / "classifier")
    small = load_model("new:gpt2,n_layer=7,n_embd=16,n_head=2", seed=0, vocab_size=len(tokenizer), max_positions=128)
    save_model(small, tokenizer, folder / "gpt2")
    old = folder / "models" / "old"
    save_model(model := load_model("new:gpt2", seed=0, vocab_size=len(tokenizer), max_positions=128), tokenizer, old)
    (old / "model.safetensors").unlink()
    torch.save(model.state_dict(), old / "pytorch_model.bin")


def make_runs(folder: Path) -> None:
    """Finished runs of several recipes, a study, and what was packed of a run."""
    few = (
        *("--fast", "--max_steps", "4", "--num_passages", "30", "--save_steps", "2", "--eval_steps", "2"),
        *("--eval_windows", "4", "--passage_chars", "60", "--window_tokens", "48", "--model", folder / "base"),
    )
    voices = ("--corpora", "alice=voices:keeper:12000", "--corpora", "poe=voices:almanac:12000")
    first, *more = (folder / name for name in RUNS)
    started(
        "imitate",
        *few,
        *voices,
        "--judge_max_steps",
        "4",
        "--judged_passages",
        "4",
        "--tokenizer",
        folder / "base",
        "--output_dir",
        first,
    )
    for run in more:
        shutil.copytree(first, run)
    started(
        "classify", "--fast", "--max_steps", "4", "--eval_steps", "2", "--output_dir", folder / "runs/classify-TIME"
    )
    study = folder / "runs" / "pretrain-20250101-120000"
    started("pretrain", "--fast", "--max_steps", "2", "--seeds", "1,2", "--eval_windows", "4", "--output_dir", study)
    shared = ("--fast", "--max_steps", "4", "--output_dir", folder / "PAIR")
    for done in ranks(2, "-m", "ftkit", "run", "pretrain", *shared, "--per_device_train_batch_size", "8"):
        assert done.returncode == 0, done.stderr
    for name in ("run.zip", "alice.zip"):
        pack(first, folder / name)
    assert zipfile.is_zipfile(folder / "run.zip")


def started(recipe: str, *arguments: object) -> None:
    """A run that must succeed."""
    done: subprocess.CompletedProcess[str] = python("-m", "ftkit", "run", recipe, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def copy_named(command: str, source: Path, target: Path) -> None:
    """Copy what a command names, and every single file; recipes and scripts are those of the checkout."""
    words = re.split(r"[\s=#,:]+", command)
    for entry in [*source.iterdir(), *(source / "runs").iterdir(), *(source / "models").iterdir()]:
        name = str(entry.relative_to(source))
        asked = any(word == name or word.startswith(f"{name}/") or word == f"./{name}" for word in words)
        if entry.is_file() and not (name.endswith(".zip") and " pack " in command):
            shutil.copy(entry, target / name)
        elif entry.is_dir() and asked and name not in ("runs", "models"):
            shutil.copytree(entry, target / name, dirs_exist_ok=True)
    for name in ("recipes", "scripts", "tests"):
        os.symlink(ROOT / name, target / name)
