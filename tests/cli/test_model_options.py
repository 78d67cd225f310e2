"""A run's folder in place of a model: every command finds its model, or names those that it could be."""

import pytest
from typer.testing import CliRunner

from ftkit.cli import app
from ftkit.cli.model_options import find_model
from ftkit.data import load_tokenizer
from ftkit.models import load_model, save_model
from ftkit.runs.models import base_of_run, trained_on_text


@pytest.fixture
def run(tmp_path):
    """A run with a model of text and a classifier."""
    tokenizer = load_tokenizer("byte")
    for name, task in (("tuned", "causal-lm"), ("classifier", "sequence-classification")):
        model = load_model("new:gpt2,n_layer=1,n_embd=16,n_head=2", task=task, vocab_size=257)
        save_model(model, tokenizer, tmp_path / "run" / "models" / name)
    (tmp_path / "run" / "manifest.json").write_text("{}")
    return tmp_path / "run"


def test_the_model_of_a_run_is_found_and_named(run, capsys):
    assert find_model(str(run)) == str(run / "models" / "tuned")
    assert capsys.readouterr() == ("", f"model of the run: {run / 'models' / 'tuned'}\n")
    assert find_model(str(run), classifier=True) == str(run / "models" / "classifier")
    assert find_model(str(run / "models" / "tuned")) == str(run / "models" / "tuned")
    assert find_model("somebody/model") == "somebody/model"


@pytest.mark.parametrize(
    "arguments",
    [
        ("push", "RUN", "me/model"),
        ("verdict", "--base", "gone", "--tuned", "RUN", "--text", "gone.txt"),
        ("generate", "RUN", "--prompt", "a"),
        ("chat", "RUN"),
        ("predict", "RUN", "a"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_several_models_are_named_by_every_command(run, arguments):
    (run / "models" / "classifier").rename(run / "models" / "other")
    for name in ("tuned", "other"):
        (run / "models" / f"{name}2").symlink_to(run / "models" / name)
    shown = CliRunner().invoke(app, [str(run) if word == "RUN" else word for word in arguments])
    assert shown.exit_code == 4, shown.output
    known = {"push": ("tuned", "tuned2", "other", "other2"), "predict": ("other", "other2")}
    for name in known.get(arguments[0], ("tuned", "tuned2")):
        assert str(run / "models" / name) in shown.output


def test_a_run_says_what_its_model_began_as_and_what_it_was_trained_on(run):
    model = str(run / "models" / "tuned")
    assert (base_of_run(model), trained_on_text(model)) == (None, False)
    (run / "config.yaml").write_text("recipe: finetune\nmodel: somebody/base\ncorpora: {a: b.txt}\n")
    assert (base_of_run(model), trained_on_text(model)) == ("somebody/base", True)
    (run / "models" / "base").mkdir()
    assert base_of_run(model) == str(run / "models" / "base")
    (run / "config.yaml").write_text("recipe: finetune\nmodel: somebody/base\nexamples: rows.jsonl\ncorpus: null\n")
    assert not trained_on_text(model)
