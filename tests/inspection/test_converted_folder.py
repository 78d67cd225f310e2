"""The command that converts GPT-2 between ftkit's architecture and Hugging Face's, through the real command line."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
)
from typer.testing import CliRunner

from ftkit.cli import app
from ftkit.data import load_tokenizer
from ftkit.errors import ModelError
from ftkit.inspection import converted_folder
from ftkit.inspection.converted_folder import convert_folder
from ftkit.inspection.verification import verify_folders
from ftkit.models import load_model, save_model

SIZE = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 48, "vocab_size": 257, "initializer_range": 0.2}
IDS = torch.arange(5, 45)[None]


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    """What transformers itself saves."""
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(**SIZE, bos_token_id=256, eos_token_id=256)).save_pretrained(tmp_path / "gpt2")
    load_tokenizer("byte").save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


def test_there_and_back_is_the_same_model_with_its_tokenizer(gpt2, tmp_path, capfd):
    runner = CliRunner()
    for source, target, to in (("gpt2", "own", "ftkit_gpt2"), ("own", "back", "gpt2")):
        done = runner.invoke(app, ["convert", str(tmp_path / source), str(tmp_path / target), "--to", to])
        assert done.exit_code == 0, done.output
        assert "parameters in float32, with a tokenizer" in done.output
        assert "largest difference of the logits: " in done.output
    assert type(load_model(str(tmp_path / "own"))).__name__ == "FtkitGPT2ForCausalLM"
    assert verify_folders(gpt2, tmp_path / "back").equal
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "back")  # transformers knows no ftkit in this folder
    assert type(plain) is GPT2LMHeadModel
    with torch.no_grad():
        expected = GPT2LMHeadModel.from_pretrained(gpt2)(IDS).logits
        torch.testing.assert_close(plain(IDS).logits, expected)
    for folder in ("own", "back"):
        assert AutoTokenizer.from_pretrained(tmp_path / folder)("a tale")["input_ids"] == [*b"a tale"]
    assert {path.name for path in tmp_path.iterdir()} == {"gpt2", "own", "back"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_classifier_keeps_its_labels_and_its_dtype(tmp_path, dtype):
    torch.manual_seed(0)
    labels = {0: "calm", 1: "stormy", 2: "foggy"}
    config = GPT2Config(**SIZE, id2label=labels, label2id={name: number for number, name in labels.items()})
    GPT2ForSequenceClassification(config).to(dtype).save_pretrained(tmp_path / "gpt2")
    done = convert_folder(str(tmp_path / "gpt2"), tmp_path / "own", "ftkit_gpt2")
    assert (done.target, done.has_tokenizer) == ("FtkitGPT2ForSequenceClassification", False)
    assert done.dtype == str(dtype).removeprefix("torch.")
    convert_folder(str(tmp_path / "own"), tmp_path / "back", "gpt2")
    back = AutoModelForSequenceClassification.from_pretrained(tmp_path / "back")
    assert (type(back), back.config.id2label, back.dtype) == (GPT2ForSequenceClassification, labels, dtype)
    assert verify_folders(tmp_path / "gpt2", tmp_path / "back").equal


def test_other_architectures_are_refused_by_name_before_weights_are_read(tmp_path):
    for name, class_name in (("llama", "LlamaForCausalLM"), ("gpt2", "GPT2LMHeadModel")):
        save_model(load_model(f"new:{name}"), None, tmp_path / name)
        (tmp_path / name / "model.safetensors").unlink()
        with pytest.raises(ModelError, match=rf"is a {class_name}.*model_type {name}.*there is: FtkitGPT2ForCausalLM"):
            convert_folder(str(tmp_path / name), tmp_path / "out", "gpt2")
    assert not (tmp_path / "out").exists()


def test_a_body_without_a_head_and_settings_that_the_target_lacks_are_refused(gpt2, tmp_path):
    GPT2LMHeadModel.from_pretrained(gpt2).transformer.save_pretrained(tmp_path / "body")
    with pytest.raises(ModelError, match="is a GPT2Model"):
        convert_folder(str(tmp_path / "body"), tmp_path / "out", "ftkit_gpt2")
    save_model(load_model("new:ftkit_gpt2,logit_scale=0.5"), None, tmp_path / "scaled")
    with pytest.raises(ModelError, match=r"logit_scale=0\.5"):
        convert_folder(str(tmp_path / "scaled"), tmp_path / "out", "gpt2")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_left_alone(gpt2, tmp_path):
    before = {path.name: path.read_bytes() for path in gpt2.iterdir()}
    for place in (gpt2, gpt2 / "config.json"):
        with pytest.raises(ModelError, match="exists and is not an empty folder"):
            convert_folder(str(gpt2), place, "ftkit_gpt2")
    assert {path.name: path.read_bytes() for path in gpt2.iterdir()} == before


def test_logits_that_differ_leave_nothing_behind(gpt2, tmp_path, monkeypatch):
    converted = converted_folder.from_hf_gpt2
    monkeypatch.setattr(converted_folder, "from_hf_gpt2", lambda donor: _spoil(converted(donor)))
    with pytest.raises(ModelError, match=r"logits .* differ by"):
        convert_folder(str(gpt2), tmp_path / "out", "ftkit_gpt2")
    assert [path.name for path in tmp_path.iterdir()] == ["gpt2"]


def _spoil(model):
    with torch.no_grad():
        model.model.layers[1].self_attn.q_proj.weight.mul_(1.1)
    return model


def test_an_unknown_architecture_is_an_error_of_usage(gpt2, tmp_path):
    assert CliRunner().invoke(app, ["convert", str(gpt2), str(tmp_path / "out"), "--to", "llama"]).exit_code == 2
    assert not (tmp_path / "out").exists()
