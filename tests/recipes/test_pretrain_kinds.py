"""The recipe pretrain with models that are not the own GPT-2: an encoder, which writes nothing, and a rung."""

import json
from pathlib import Path

import pytest
import torch
from processes import python

from ftkit.models import load_model
from ftkit.models.outputs import ROUNDING

SHORT = ["--fast", "--max_steps", "8", "--num_passages", "8", "--eval_steps", "4", "--sample_steps", "4"]


def test_pretraining_goes_through_its_text_as_often_as_asked(tmp_path):
    flags = ["--fast", "--num_passages", "8", "--num_train_epochs", "0.5", "--output_dir", str(tmp_path / "run")]
    done = python("-m", "ftkit", "run", "pretrain", *flags, ACCELERATE_USE_CPU="true")
    assert done.returncode == 0, done.stderr
    plan = read(tmp_path / "run", "manifest.json")["plan"]["model"]
    assert plan["steps"] == round(0.5 * plan["text_tokens"] / plan["step_tokens"])
    assert plan["passes"] == pytest.approx(0.5, abs=0.5 / plan["steps"])


def pretrained(model: str, folder: Path, *more: str) -> Path:
    """A short run of one model."""
    arguments = ["run", "pretrain", *SHORT, "--model", model, "--output_dir", str(folder), *more]
    done = python("-m", "ftkit", *arguments, ACCELERATE_USE_CPU="true")
    assert done.returncode == 0, done.stderr
    return folder


def read(run: Path, name: str) -> dict:
    return json.loads((run / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(
        "new:bert", tmp_path_factory.mktemp("runs") / "bert", "--learning_rate", "0.01", "--heldout_share", "0.2"
    )


def test_an_encoder_learns_masked_tokens_and_is_judged_by_them(encoder):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    evidence = read(encoder, "evidence.json")["models"]["model"]
    assert evidence["heldout"]["gain"]["low"] > 0.05
    measures = evidence["measures"]
    assert measures["weights"]["changed"] == measures["weights"]["tensors"]
    assert evidence["measures"]["integrity"]["reload_difference"] < ROUNDING
    assert measures["copying"] is measures["fluency"] is None
    verdict = read(encoder, "verdict.json")["model"]
    assert verdict["verdict"] == "worked", verdict
    assert any("an encoder writes no text" in reason for reason in verdict["reasons"])
    assert 'id="copying"' not in (encoder / "report.html").read_text(encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(encoder / "models" / "model")
    model = AutoModelForMaskedLM.from_pretrained(encoder / "models" / "model")
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer("the lamp")["input_ids"][0] == tokenizer.cls_token_id


def test_an_encoders_samples_are_held_out_text_with_masks_filled_in(encoder):
    samples = [json.loads(line) for line in (encoder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [sample["step"] for sample in samples] == [0, 4, 8]
    for sample in samples:
        assert sample["prompt"].count("[MASK]") == sample["masks"] > 0
        assert "[MASK]" not in sample["text"]
        assert sample["truth"] == samples[0]["truth"]
        assert sample["right"] <= sample["masks"]


def test_a_finished_encoder_can_be_trained_on_with_its_own_tokenizer(encoder, tmp_path):
    folder = encoder / "models" / "model"
    again = pretrained(str(folder), tmp_path / "again", "--learning_rate", "0.003", "--heldout_share", "0.2")
    assert read(again, "evidence.json")["models"]["model"]["heldout"]["base"] == pytest.approx(
        read(encoder, "evidence.json")["models"]["model"]["heldout"]["tuned"], rel=1e-6
    )


@pytest.mark.parametrize("rung", [1, 3])
def test_a_rung_of_the_ladder_is_trained_and_judged_like_any_causal_model(rung, tmp_path):
    run = pretrained(f"new:ftkit_ladder,rung={rung}", tmp_path / "run", "--learning_rate", "0.01")
    evidence = read(run, "evidence.json")["models"]["model"]
    assert evidence["heldout"]["gain"]["low"] > 0
    assert evidence["measures"]["integrity"]["reload_difference"] < ROUNDING
    assert evidence["measures"]["copying"]["ngrams_per_passage"] > 0
    config = read(run / "models" / "model", "config.json")
    assert (config["model_type"], config["rung"]) == ("ftkit_ladder", rung)
    assert (run / "models" / "model" / "modeling_ftkit_ladder.py").is_file()


def test_nll_trains_what_next_token_trains(tmp_path):
    """Both forms are one loss, so the steps are equal but for rounding; the folder gives logits."""
    losses = []
    for name in ("next_token", "nll"):
        run = pretrained("new:gpt2", tmp_path / name, "--objective", name)
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses.append([record["loss"] for record in records if record["split"] == "train"])
    assert len(losses[0]) == 8
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    logits = load_model(str(run / "models" / "model"))(input_ids=torch.tensor([[5, 6, 7]])).logits
    assert float(logits.logsumexp(-1).detach().abs().max()) > 0.1
