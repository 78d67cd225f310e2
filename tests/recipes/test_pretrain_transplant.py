"""Embeddings copied from a donor into random weights: equal, not shared, and frozen where asked (lesson 06/07)."""

from pathlib import Path

import pytest
import torch
from recipe_runs import run_recipe, settings_of
from safetensors.torch import load_file

from ftkit.data import load_tokenizer
from ftkit.errors import ConfigError, ModelError
from ftkit.models import load_model, save_model

SMALL = {
    "model": "new:ftkit_ladder,rung=1,hidden_size=64", "max_steps": 4, "window_tokens": 32, "eval_steps": 2,
    "save_steps": 0, "eval_windows": 4, "passage_chars": 40, "num_passages": 8, "learning_rate": 0.01,
}  # fmt: skip


def pretrained(run: Path, **values: object) -> torch.Tensor:
    """The embedding of a model after a short run."""
    found = load_file(run_recipe("pretrain", run, **{**SMALL, **values}) / "models" / "model" / "model.safetensors")
    return found["model.embed_tokens.weight"]


@pytest.fixture(scope="module")
def donor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("donor")
    save_model(load_model("new:gpt2", seed=7, vocab_size=257), load_tokenizer("byte"), folder)
    return folder


@pytest.mark.parametrize("freeze", ["embedding", "none"])
def test_the_copy_trains_alone_or_stays_and_the_donor_stays_anyway(donor, tmp_path, freeze):
    before = load_file(donor / "model.safetensors")["transformer.wte.weight"]
    found = pretrained(tmp_path / "run", donor=donor, freeze=freeze)
    assert torch.equal(load_file(donor / "model.safetensors")["transformer.wte.weight"], before)
    assert found.shape == before.shape
    assert torch.equal(found, before) == (freeze == "embedding")
    assert torch.cosine_similarity(found.flatten(), before.flatten(), dim=0) > 0.5  # random weights would be near 0


def test_without_a_copy_only_the_tokenizer_is_the_donors(donor, tmp_path):
    found = pretrained(tmp_path / "run", donor=donor, transplant="none", freeze="embedding")
    before = load_file(donor / "model.safetensors")["transformer.wte.weight"]
    assert found.shape == before.shape
    assert abs(torch.cosine_similarity(found.flatten(), before.flatten(), dim=0)) < 0.1


def test_a_donor_of_another_width_and_settings_without_effect_are_refused(donor, tmp_path):
    with pytest.raises(ModelError, match="do not fit"):
        pretrained(tmp_path / "run", donor=donor, model="new:ftkit_ladder,rung=1,hidden_size=32")
    with pytest.raises(ConfigError, match="transplant: has no effect without a donor"):
        settings_of("pretrain", transplant="position")
    with pytest.raises(ConfigError, match="tokenizer: has no effect beside donor"):
        settings_of("pretrain", donor=donor, tokenizer="byte")


def test_a_first_loss_of_copied_weights_is_not_held_against_that_of_random_ones(tmp_path, caplog):
    loud = load_model("new:gpt2", seed=7, vocab_size=257)
    with torch.no_grad():
        loud.transformer.wte.weight *= 50
    save_model(loud, load_tokenizer("byte"), tmp_path / "donor")
    caplog.set_level("INFO", "ftkit")
    pretrained(tmp_path / "run", donor=tmp_path / "donor", model="new:ftkit_gpt2,hidden_size=64", window_tokens=64)
    [start] = [record.getMessage() for record in caplog.records if "starts at" in record.getMessage()]
    assert float(start.split("starts at ")[1].split()[0]) > 8  # far above ln 257 = 5.549
    assert "random weights should" not in caplog.text
