"""What ``ftkit plan`` predicts of memory is what the run takes, evaluation included."""

import json
from pathlib import Path

import pytest
from processes import python

from ftkit.data import load_tokenizer
from ftkit.models import load_model, save_model

MEASURED_RUN = Path(__file__).parents[2] / "scripts" / "benchmarks" / "measured_run.py"


@pytest.mark.parametrize("flags", [(), ("--peft", "lora", "--bf16")], ids=["full", "lora-bf16"])
def test_resident_memory_and_tensors_are_foreseen(flags: tuple[str, ...], tmp_path: Path) -> None:
    made = load_model("new:llama,hidden_size=64,intermediate_size=256", vocab_size=30_000, max_positions=128)
    save_model(made, load_tokenizer("byte"), tmp_path / "base")
    argv = [
        "finetune", "--model", tmp_path / "base", "--corpus", "voices:keeper:2500", "--general",
        "almanac=voices:almanac:1200", "--max_steps", "2", "--eval_steps", "2", "--sample_steps", "2",
        "--passage_chars", "20", "--num_passages", "30", "--eval_windows", "2", "--window_tokens", "128",
        "--per_device_train_batch_size", "8", "--use_cpu", *flags,
    ]  # fmt: skip
    done = python("-m", "ftkit", "plan", *argv, "--json", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    (arm,) = json.loads(done.stdout[done.stdout.index("{\n") :])["arms"].values()
    memory = arm["memory"]
    assert set(memory["phases"]) == {"load", "train", "evaluate", "generate", "judge"}
    ran = python(MEASURED_RUN, *argv, "--output_dir", tmp_path / "run", OMP_NUM_THREADS="1")
    assert ran.returncode == 0, ran.stderr
    real = json.loads(ran.stdout.splitlines()[-1])
    assert memory["peak_rss_growth_bytes"] == pytest.approx(real["rss"], rel=0.2)
    # Weights that are mapped from a file are no allocation: those of the base and of the saved model, at evaluation.
    mapped = 2 * (tmp_path / "base" / "model.safetensors").stat().st_size
    assert memory["peak_tensor_bytes"] == pytest.approx(real["tensors"] + mapped, rel=0.15)
