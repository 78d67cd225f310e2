"""``ftkit plan``: what it says is what a run does, it refuses what will not fit, and it leaves nothing behind."""

import csv
import json
import re

import pytest
from typer.testing import CliRunner, Result

from ftkit.cli import app
from ftkit.config import list_entries

SMALL = [
    "--fast", "--use_cpu", "--model", "new:gpt2", "--max_steps", "6", "--window_tokens", "64", "--num_passages", "8",
    "--passage_chars", "40", "--eval_steps", "3", "--sample_steps", "6", "--save_steps", "2", "--eval_windows", "4",
]  # fmt: skip
TIGHT = 0.012
"""Gigabytes in which the fast model does not fit with a batch of 8 rows."""


def ftkit(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def planned(*arguments: object) -> dict:
    """The plan as JSON; log and errors stand outside it."""
    output = ftkit("plan", *arguments, "--json").stdout
    found: dict = json.loads(output[output.index("{") : output.rindex("}") + 1])
    return found["arms"]


def test_a_plan_says_what_the_run_will_write_down(tmp_path):
    (training,) = planned("pretrain", *SMALL)["pretrain"]["trainings"]
    assert ftkit("run", "pretrain", *SMALL, "--output_dir", tmp_path / "run").exit_code == 0
    made = json.loads((tmp_path / "run" / "manifest.json").read_text())["plan"]["model"]
    assert training["plan"] == json.loads(json.dumps(made))
    assert training["steps"] == 6
    assert training["seconds_per_step"] > 0
    assert training["fits"]


def test_memory_foreseen_from_small_batches_is_what_a_real_step_takes():
    (real,) = planned("pretrain", *SMALL)["pretrain"]["trainings"]
    (foreseen,) = planned("pretrain", *SMALL, "--memory-gb", TIGHT)["pretrain"]["trainings"]
    assert foreseen["seconds_per_step"] is None  # the step was not tried
    assert foreseen["peak_bytes"] == pytest.approx(real["peak_bytes"], rel=0.1)


def test_what_will_not_fit_fits_after_the_advice():
    refused = ftkit("plan", "pretrain", *SMALL, "--memory-gb", TIGHT)
    assert refused.exit_code == 3
    assert "WILL NOT FIT" in refused.stdout
    found = re.search(r"(per_device_train_batch_size): (\d+) with (gradient_accumulation_steps): (\d+)", refused.stdout)
    assert found is not None
    assert int(found[2]) * int(found[4]) == 8
    flags = [f"--{found[1]}", found[2], f"--{found[3]}", found[4]]
    assert ftkit("plan", "pretrain", *SMALL, *flags, "--memory-gb", TIGHT).exit_code == 0


def test_weights_that_do_not_fit_are_not_loaded():
    refused = ftkit("plan", "pretrain", *SMALL, "--model", "new:gpt2,n_embd=4096,n_layer=48", "--memory-gb", 8)
    assert refused.exit_code == 3
    assert "its weights alone take" in refused.output


TRAINING = [entry.name for entry in list_entries() if entry.kind == "recipe" and entry.name != "numerics"]


def test_what_trains_nothing_has_no_plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ftkit("plan", "numerics", "--fast")
    assert done.exit_code == 2
    assert "numerics trains nothing" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("recipe", TRAINING)
def test_every_recipe_can_be_planned_and_nothing_stays(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ftkit("plan", recipe, "--fast", "--use_cpu")
    assert done.exit_code == 0, done.output
    assert "in all about" in done.stdout
    assert "first rows of the first batch:" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_base_that_is_not_made_is_planned_and_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    base = tmp_path / "small_base.yaml"
    base.write_text(
        "recipe: pretrain\ncorpus: voices:keeper:10000\ntokenizer: train:400\nwindow_tokens: 64\nmax_steps: 5\n"
        "per_device_train_batch_size: 4\npassage_chars: 40\nnum_passages: 8\nuse_cpu: true\n"
    )
    argv = ["targeted_freezing", *SMALL[:2], "--model", f"base:{base}", "--tokenizer", "none", "--window_tokens", "64"]
    found = planned(*argv, "--max_steps", "6", "--passage_chars", "40")["targeted_freezing"]
    assert found["bases_not_made_yet"] == [f"base:{base}"]
    assert [training["name"] for training in found["trainings"]] == [f"base:{base}: model", "everything", "selected"]
    assert [training["steps"] for training in found["trainings"]] == [5, 6, 6]
    assert not (tmp_path / "cache" / "bases").exists()


def test_each_arm_of_a_study_is_planned_once():
    found = planned("pretrain", *SMALL, "--sweep", "per_device_train_batch_size=2,4", "--seeds", "1,2,3")
    assert {arm: (plan["runs"], plan["trainings"][0]["rows"]) for arm, plan in found.items()} == {
        "per_device_train_batch_size=2": (3, 2),
        "per_device_train_batch_size=4": (3, 4),
    }


def test_the_schedule_is_drawn_beside_its_numbers_and_an_idle_end_is_said(tmp_path):
    argv = ["--lr_scheduler_type", "linear", "--warmup_steps", "2", "--schedule_steps", "4"]
    done = ftkit("plan", "pretrain", *SMALL, *argv, "--figure", tmp_path / "rate.svg")
    assert "warning: the learning rate is 0 after update 4: the last 2 of 6 updates change nothing" in done.stdout
    with (tmp_path / "rate.csv").open(encoding="utf-8", newline="") as file:
        rates = [float(row["value"]) for row in csv.DictReader(file)]
    assert rates == pytest.approx([0.0015, 0.003, 0.003, 0.0015, 0, 0])
    assert (tmp_path / "rate.svg").read_text(encoding="utf-8").startswith("<?xml")
