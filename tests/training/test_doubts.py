"""What makes a training worthless is said before it: each fault is planted, and honest runs stay without a word."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from typer.testing import CliRunner

from ftkit.cli import app
from ftkit.config import AdapterSettings
from ftkit.data import TokenStore, load_tokenizer, voice_text
from ftkit.errors import ModelError
from ftkit.models import load_model, save_model
from ftkit.runs.models import shipped_base
from ftkit.training import NEXT_TOKEN, Engine, TokenWindows
from ftkit.training.resource_plan import Planner, _living
from ftkit.tuning import attach_adapter

TALES = shipped_base("base:tales")
NEW = ("<|user|>", "<|bot|>")
PEFT = ["--peft", "lora"]


def resized(folder: Path, mean_resizing: bool) -> Path:
    """base:tales with two new tokens and rows for them."""
    model, tokenizer = load_model(str(TALES)), load_tokenizer(str(TALES))
    tokenizer.add_tokens(list(NEW), special_tokens=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=mean_resizing)
    save_model(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bases with new tokens, a chat in them, plain text, and tokenizers of other models with as many tokens."""
    place = tmp_path_factory.mktemp("planted")
    resized(place / "mean", mean_resizing=True)
    resized(place / "random", mean_resizing=False)
    plain = voice_text("keeper", 8000)
    (place / "plain.txt").write_text(plain, encoding="utf-8")
    lines = [line for line in plain.splitlines() if line]
    turns = "\n".join(f"{NEW[number % 2]} {line}" for number, line in enumerate(lines))
    (place / "chat.txt").write_text(turns, encoding="utf-8")
    load_tokenizer("train:3000", texts=[voice_text("market", 20000)]).save_pretrained(place / "other")
    save_model(load_model(str(TALES)), load_tokenizer("byte"), place / "mixed")
    return place


def planned(base: Path | str, text: Path | str, *arguments: object) -> list[str]:
    """The warnings of a plan."""
    common = ["--use_cpu", "--max_steps", "4", "--window_tokens", "64", "--num_passages", "30"]
    argv = ["plan", "finetune", "--model", base, "--corpus", text, *common, *arguments, "--json"]
    done = CliRunner().invoke(app, [str(argument) for argument in argv], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])
    (training,) = found["arms"]["finetune"]["trainings"]
    return list(training["warnings"])


@pytest.mark.parametrize("base", ["mean", "random"])
@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (PEFT, "peft: tokens, trainable_tokens: [3456, 3457]"),
        (["--train", "attention"], "add embedding[rows=3456+3457] to what is trained"),
    ],
)
def test_new_tokens_whose_rows_are_frozen(made, base, arguments, remedy):
    (said,) = planned(made / base, made / "chat.txt", "--special_tokens", "tokens", *arguments)
    assert said.startswith("the embeddings of 2 tokens were never trained and are frozen: '<|")
    assert "'<|bot|>'" in said
    assert " times" in said
    assert remedy in said


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("chat.txt", []),  # they are trained
        ("chat.txt", ["--peft", "tokens", "--trainable_tokens", "[3456, 3457]"]),
        ("chat.txt", ["--train", "attention,embedding[rows=3456+3457]"]),
        ("plain.txt", PEFT),  # they do not stand in the text
    ],
)
def test_new_tokens_that_are_trained_or_absent_are_no_fault(made, text, arguments):
    assert planned(made / "mean", made / text, "--special_tokens", "tokens", *arguments) == []


def test_trained_rows_of_tokens_that_the_text_does_not_have(made):
    known = load_tokenizer(str(TALES))(".")["input_ids"][0]
    (said,) = planned(made / "mean", made / "plain.txt", "--peft", "tokens", "--trainable_tokens", f"[3456, {known}]")
    assert "trainable_tokens: 1 of 2 never stand in the text" in said
    assert "'<|user|>' 0 times" in said


def test_a_tokenizer_that_was_named_and_is_not_the_model_s(made):
    (said,) = planned(TALES, made / "plain.txt", "--tokenizer", made / "other")
    assert "is not this model's: " in said
    assert "leave tokenizer out" in said


def test_a_tokenizer_of_another_model_in_the_folder_of_the_base(made):
    (said,) = planned(made / "mixed", made / "plain.txt")
    assert "with tokens exchanged at random" in said
    assert "the tokenizer is not this model's" in said


@pytest.mark.parametrize("arguments", [[], PEFT, ["--freeze", "embedding"], ["--tokenizer", str(TALES)]])
def test_honest_runs_are_without_a_word(made, arguments):
    assert planned(TALES, made / "plain.txt", *arguments) == []


def test_a_rate_that_is_lost_in_rounding(made):
    (said,) = planned("base:tales", made / "plain.txt", "--learning_rate", "1e-10")
    assert "the learning rate 1e-10 is lost in rounding" in said


def test_held_out_text_that_is_trained_on_too(made, tmp_path):
    twice = tmp_path / "twice.txt"
    twice.write_text(2 * (made / "plain.txt").read_text(encoding="utf-8"), encoding="utf-8")
    argv = ["plan", "finetune", "--model", str(TALES), "--corpus", str(twice), "--use_cpu", "--max_steps", "2"]
    done = CliRunner().invoke(app, argv, catch_exceptions=False)
    assert "word 12-grams occur in the training text too, so it is not held out" in done.output


def test_an_adapter_without_gradient_is_refused_by_its_plan(store: TokenStore, tmp_path: Path):
    run = AdapterSettings(model="base", peft="lora", window_tokens=32, max_steps=6, save_steps=0, use_cpu=True)
    model = attach_adapter(load_model("new:gpt2", vocab_size=257, max_positions=64), run, base=str(tmp_path))
    inside: Any = model.base_model.model
    inside.transformer.h[1].mlp.c_fc.forward = lambda x: inside.transformer.h[1].mlp.c_fc.base_layer(x)
    with Engine(model, NEXT_TOKEN, TokenWindows(store, 32, 3), run) as engine:
        with pytest.raises(ModelError, match="tensors of the adapter have had no gradient"):
            Planner(tmp_path, use_cpu=True).followed(engine, "model", {}, None)


def test_a_model_that_has_hardly_been_trained_is_not_taken_for_a_stranger(made, tmp_path):
    tokenizer = load_tokenizer(str(TALES))
    fresh = load_model("new:ftkit_gpt2", vocab_size=len(tokenizer), max_positions=64)
    save_model(fresh, tokenizer, tmp_path / "fresh")
    assert planned(tmp_path / "fresh", made / "plain.txt") == []


def test_a_fake_tensor_that_something_else_left_is_passed_over():
    with FakeTensorMode():
        left = torch.empty(7)
    real = torch.empty(7)
    found = [id(tensor) for tensor in _living(torch.device("cpu"))]
    assert id(real) in found
    assert id(left) not in found
