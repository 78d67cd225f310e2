"""Fine-tuning on one text: what is counted before and after, sweeps on the same batches, passes and dropout."""

import logging
from pathlib import Path

import pytest
import torch
from processes import python
from recipe_runs import lines, read, run_recipe, settings_of
from safetensors.torch import load_file

from ftkit.config import find_recipe
from ftkit.config.catalogue import load_recipe
from ftkit.errors import ConfigError
from ftkit.models import load_model
from ftkit.models.outputs import ROUNDING

SMALL = {
    "model": "new:gpt2", "max_steps": 6, "window_tokens": 64, "eval_steps": 3, "save_steps": 3, "sample_steps": 3,
    "eval_windows": 4, "passage_chars": 40, "num_passages": 30,
}  # fmt: skip


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_recipe("finetune", tmp_path_factory.mktemp("runs") / "tuned", **SMALL, freeze="attention,mlp,norm@0..")


def test_only_what_may_change_has_changed_and_samples_begin_before_training(tuned):
    before, after = load_model("new:gpt2", seed=42, vocab_size=512, max_positions=64), tuned / "models" / "tuned"
    saved = load_file(after / "model.safetensors")
    start = before.state_dict()
    changed = {name for name, tensor in saved.items() if not torch.equal(tensor, start[name])}
    assert changed == {name for name in saved if ".h." not in name}
    assert read(tuned, "evidence.json")["models"]["tuned"]["measures"]["weights"]["leaks"] == []
    assert [sample["step"] for sample in lines(tuned, "samples.jsonl")] == [0, 3, 6]


def test_usage_is_counted_before_and_after_beside_real_text(tuned):
    found = read(tuned, "evidence.json")
    usage = found["usage"]["models"]["tuned"]
    assert found["usage"]["top"] == 100
    assert usage["before"] == found["metrics"]["tuned"]["usage_before"]
    assert usage["change"]["value"] == pytest.approx(usage["after"]["value"] - usage["before"]["value"])
    assert usage["real"]["value"] > usage["before"]["value"]  # random weights do not know what is frequent
    assert {"usage", "usage_change"} <= {path.stem for path in (tuned / "figures").glob("*.svg")}


def test_the_best_step_is_saved_and_manifest_terminal_and_report_say_so(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="ftkit"):
        run = run_recipe(
            "finetune", tmp_path / "run",
            **{**SMALL, "max_steps": 12, "eval_steps": 2, "learning_rate": 0.2, "warmup_steps": 4},
            load_best_model_at_end=True, early_stopping_patience=2,
        )  # fmt: skip
    manifest = read(run, "manifest.json")
    best, plan = manifest["best"]["tuned"], manifest["plan"]["tuned"]
    losses = {r["step"]: r["loss"] for r in lines(run, "metrics.jsonl") if r["split"] == "heldout"}
    assert (best["step"], best["loss"]) == min(((s, x) for s, x in losses.items() if s), key=lambda found: found[1])
    assert best["step"] < best["last_step"] == max(losses) < 12
    said = (
        f"best at step {best['step']} of {best['last_step']}, held-out loss {best['loss']:.3f} "
        f"({best['last_loss']:.3f} at step {best['last_step']}); stopped before max_steps (12); "
        f"saved as it was at step {best['step']}"
    )
    assert f"\ntuned: {said}" in caplog.text
    assert f"tuned: {said}." in (run / "report.html").read_text(encoding="utf-8")
    stored = load_file(run / "checkpoints" / "tuned" / "best" / f"step-{best['step']:06d}" / "model.safetensors")
    saved = load_file(run / "models" / "tuned" / "model.safetensors")
    assert saved.keys() <= stored.keys()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in saved.items())
    passes = read(run, "evidence.json")["models"]["tuned"]["passes"]
    assert passes == pytest.approx(plan["passes"] * best["step"] / 12)
    verdict = read(run, "verdict.json")["tuned"]
    assert not any("held-out loss was lowest" in text for text in verdict["next"])
    chosen = (
        f"step {best['step']} of {best['last_step']} was saved because its loss on this held-out text was the lowest"
    )
    assert any(text.startswith(chosen) for text in verdict["reasons"])


def test_a_sweep_has_fresh_models_the_same_batches_and_its_two_panels(tmp_path):
    flags = [part for key, value in SMALL.items() for part in (f"--{key}", str(value))]
    done = python(
        "-m", "ftkit", "run", "finetune", "--fast", "--use_cpu", *flags, "--sweep", "learning_rate=1e-2,1e-5",
        "--output_dir", tmp_path / "study",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    points = sorted((tmp_path / "study" / "points").iterdir())
    assert len(points) == 2
    first, last = ([r["loss"] for r in lines(point, "metrics.jsonl") if r["split"] == "train"] for point in points)
    assert first[0] == last[0]  # before any update the rate has done nothing
    assert first[1:] != last[1:]
    rows = (tmp_path / "study" / "figures" / "study_usage.csv").read_text().splitlines()
    assert sum(row.startswith("usage") for row in rows) == 4  # two rates, before and after
    assert sum(row.startswith("loss") for row in rows) == 2  # every seventh of six steps, of two rates
    assert "Use of frequent tokens" in done.stdout
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert 'class="wide"' in page


def test_passes_take_the_steps_that_the_text_needs(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="ftkit"):
        run = run_recipe(
            "finetune",
            tmp_path / "run",
            **{**SMALL, "max_steps": 500},
            num_train_epochs=0.25,
            per_device_train_batch_size=4,
        )
    plan = read(run, "manifest.json")["plan"]["tuned"]
    assert plan["steps"] == round(0.25 * plan["text_tokens"] / (4 * 64))
    assert plan["passes"] == pytest.approx(0.25, abs=0.5 * 4 * 64 / plan["text_tokens"])
    trained = [record for record in lines(run, "metrics.jsonl") if record["split"] == "train"]
    assert len(trained) == plan["steps"]
    assert "0.25 epochs of" in caplog.text


def test_passes_and_max_steps_are_told_apart_and_a_warm_up_must_fit(tmp_path):
    with pytest.raises(ConfigError, match="has no effect beside num_train_epochs"):
        settings_of("finetune", num_train_epochs=2, max_steps=40)
    with pytest.raises(ConfigError, match=r"are \d+ steps, and warmup_steps is 400, longer than the run"):
        run_recipe("finetune", tmp_path / "run", model="new:gpt2", num_train_epochs=0.1, warmup_steps=400)


def test_texts_of_different_length_get_equal_passes(tmp_path):
    settings = settings_of(
        "imitate", model="new:gpt2", num_train_epochs=0.2, window_tokens=64, passage_chars=40, num_passages=30,
        judge_max_steps=5, judged_passages=4, output_dir=tmp_path / "run",
    )  # fmt: skip
    texts = {"keeper": "voices:keeper:12000", "almanac": "voices:almanac:24000"}
    load_recipe(find_recipe("imitate")).main(settings.model_copy(update={"corpora": texts}))
    plans = read(tmp_path / "run", "manifest.json")["plan"]
    assert plans["almanac"]["steps"] > 1.5 * plans["keeper"]["steps"]
    assert [plan["passes"] for plan in plans.values()] == pytest.approx([0.2, 0.2], abs=0.012)


def test_an_adapter_and_another_objective_go_through_the_same_program(tmp_path):
    run = run_recipe(
        "finetune", tmp_path / "run", **SMALL, peft="lora", objective="next_token + 0.1*kl_to_base", dropout=0.2
    )
    assert (run / "models" / "tuned" / "adapter_model.safetensors").exists()
    first = next(record for record in lines(run, "metrics.jsonl") if record["split"] == "train")
    assert first["losses"].keys() == {"next_token", "kl_to_base"}
    assert read(run, "evidence.json")["models"]["tuned"]["measures"]["integrity"]["reload_difference"] < ROUNDING
