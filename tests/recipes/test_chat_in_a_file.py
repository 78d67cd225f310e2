"""A chat that was written to a file, learned and judged in the tokens of its format from beginning to end."""

import json
import math

import pytest
import torch
from recipe_runs import read, run_recipe
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from ftkit.cli import app
from ftkit.data import load_tokenizer, voice_text
from ftkit.models import load_model, save_model

MARKS = ["<|im_start|>", "<|im_end|>"]
WINDOW = 64


def chat(words: int, seed: int) -> str:
    sentences = voice_text("keeper", words, seed=seed).split(". ")
    roles = ("user", "assistant")
    return "".join(f"<|im_start|>{roles[n % 2]}\n{said}.<|im_end|>\n" for n, said in enumerate(sentences))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    (folder / "chat.txt").write_text(chat(6000, 1), encoding="utf-8")
    (folder / "held.txt").write_text(chat(1500, 2), encoding="utf-8")
    tokenizer = load_tokenizer("train:384", texts=[voice_text("keeper", 3000)])
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    model = load_model("new:gpt2,n_layer=1,n_embd=48,n_head=2", vocab_size=len(tokenizer), max_positions=96)
    save_model(model, tokenizer, folder / "base")
    common = {
        "model": folder / "base", "corpus": folder / "chat.txt", "max_steps": 30, "window_tokens": WINDOW,
        "learning_rate": 0.01, "eval_steps": 30, "save_steps": 0, "sample_steps": 30, "eval_windows": 8,
        "passage_chars": 60, "num_passages": 30,
    }  # fmt: skip
    return folder, run_recipe("finetune", folder / "run", **common)


def true_bits(folder, text: str) -> float:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    rows = ids[: len(ids) // WINDOW * WINDOW].view(-1, WINDOW)
    with torch.no_grad():
        logits = model(input_ids=rows).logits[:, :-1]
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum").item()
    return nats / math.log(2) / sum(len(tokenizer.decode(row[1:]).encode()) for row in rows)


def test_a_run_learns_writes_and_says_the_tokens_of_a_chat(places):
    _, run = places
    assert read(run, "manifest.json")["special_tokens_read_as"] == "tokens"
    assert "special_tokens: tokens\n" in (run / "config.yaml").read_text(encoding="utf-8")
    said = " ".join(read(run, "evidence.json")["models"]["tuned"]["assumptions"])
    assert "<|im_start|>" in said
    assert "each is read as one token" in said
    written = read(run, "evidence.json")["passages"]

    assert any(MARKS[0] in passage for passage in written["tuned"])


@pytest.mark.parametrize("reading", ["auto", "text"])
def test_a_verdict_on_it_has_the_bits_per_byte_of_transformers(places, reading, tmp_path, monkeypatch):
    folder, run = places
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path))
    tuned = run / "models" / "tuned"
    arguments = [
        "--base", folder / "base", "--tuned", tuned, "--text", folder / "chat.txt", "--heldout", folder / "held.txt",
        "--window-tokens", WINDOW, "--eval-windows", 10_000, "--passage-chars", 60, "--num-passages", 30, "--json",
        *(() if reading == "auto" else ("--special-tokens", reading)),
    ]  # fmt: skip
    result = CliRunner().invoke(app, ["verdict", *map(str, arguments)], catch_exceptions=False)
    printed = result.stdout  # a run in this process may have sent the log there too
    found = json.loads(printed[printed.index("{") :])["evidence"]
    wanted = true_bits(tuned, (folder / "held.txt").read_text(encoding="utf-8"))
    if reading == "auto":
        assert found["heldout"]["tuned"]["value"] == pytest.approx(wanted, rel=1e-4)
        assert "special_tokens: text reads otherwise" in " ".join(found["assumptions"])
    else:
        assert found["heldout"]["tuned"]["value"] > wanted + 0.3
        assert "special_tokens: tokens reads otherwise" in " ".join(found["assumptions"])


def test_an_unknown_reading_is_refused_with_the_nearest(places):
    folder, _ = places
    both = ["--base", str(folder / "base"), "--tuned", str(folder / "base"), "--text", str(folder / "chat.txt")]
    result = CliRunner().invoke(app, ["verdict", *both, "--special-tokens", "token"])
    assert result.exit_code == 2
    assert "tokens" in result.output
