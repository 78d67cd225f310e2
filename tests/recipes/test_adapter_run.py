"""A whole run through adapters: one base for all, kept with them; evidence and verdicts as ever."""

import json
from pathlib import Path

import torch
from processes import python

from ftkit.models import load_model
from ftkit.models.outputs import ROUNDING

SMALL = {
    "max_steps": 6, "window_tokens": 64, "eval_steps": 6, "judge_steps": 6, "save_steps": 6, "eval_windows": 4,
    "passage_chars": 40, "num_passages": 30, "judged_passages": 4, "judge_max_steps": 4, "judge_tokens": 24,
}  # fmt: skip


def test_imitate_with_lora_keeps_base_and_adapters_together(tmp_path):
    folder = tmp_path / "run"
    flags = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    done = python(
        "-m", "ftkit", "run", "imitate", "--fast", "--model", "new:ftkit_gpt2", "--peft", "lora",
        "--lora_target_modules", "attention,mlp.in", "--output_dir", folder, *flags, ACCELERATE_USE_CPU="true",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = ("keeper", "almanac")
    records = [json.loads((folder / "models" / name / "base.json").read_text()) for name in names]
    assert [record["base"] for record in records] == ["../base", "../base"]
    assert records[0]["sha256"] == records[1]["sha256"]

    evidence = json.loads((folder / "evidence.json").read_text())["models"]
    plan = json.loads((folder / "manifest.json").read_text())["plan"]
    for name in names:
        assert plan[name]["trainable"] == 2 * (4 * 8 * (64 + 64) + 8 * (64 + 256))
        moved = evidence[name]["measures"]["weights"]
        assert moved["changed"] == 2 * 5  # the weights of q, k, v, out and mlp.in in two blocks
        assert (moved["leaks"], moved["frozen"]) == ([], records[0]["parameters"])
        assert evidence[name]["measures"]["integrity"]["reload_difference"] < ROUNDING
        assert {p.suffix for p in (folder / "checkpoints" / name / "step-000006").iterdir()} == {
            ".json", ".safetensors"
        }  # fmt: skip
    assert json.loads((folder / "verdict.json").read_text()).keys() == set(names)

    moved_to = Path(tmp_path / "elsewhere")
    folder.rename(moved_to)
    base, tuned = load_model(str(moved_to / "models" / "base")), load_model(str(moved_to / "models" / "keeper"))
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert not torch.equal(base(input_ids=ids).logits, tuned(input_ids=ids).logits)
