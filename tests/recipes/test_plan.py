"""``ftkit plan``: what it says is what a run does, it refuses what will not fit, and it leaves nothing behind."""

import csv
import json
import re
import signal
import tempfile
import time
from pathlib import Path

import pytest
from processes import Running, python
from typer.testing import CliRunner, Result

from ftkit.cli import app
from ftkit.config import list_entries
from ftkit.jobs.plan import _remove_left

SMALL = [
    "--fast", "--use_cpu", "--model", "new:gpt2", "--max_steps", "6", "--window_tokens", "64", "--num_passages", "8",
    "--passage_chars", "40", "--eval_steps", "3", "--sample_steps", "6", "--save_steps", "2", "--eval_windows", "4",
]  # fmt: skip
WIDE = [
    *SMALL, "--model", "new:llama,hidden_size=128,num_hidden_layers=3,intermediate_size=512",
    "--per_device_train_batch_size", "96",
]  # fmt: skip
"""Many rows, each of which takes about 4 MB."""


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


def test_a_plan_counts_the_disk_space_of_checkpoints_and_best_steps(tmp_path):
    run = [*SMALL, "--save_total_limit", "1", "--load_best_model_at_end"]
    (training,) = planned("pretrain", *run)["pretrain"]["trainings"]
    assert ftkit("run", "pretrain", *run, "--output_dir", tmp_path / "run").exit_code == 0
    found, place = training["disk_bytes"], tmp_path / "run" / "checkpoints" / "model"
    (checkpoint,), best = place.glob("step-*"), list(place.glob("best/step-*"))
    assert found["checkpoints"] == pytest.approx(2 * size(checkpoint), rel=0.05)  # one is kept while one is written
    assert found["best steps"] == pytest.approx(2 * size(best[0]), rel=0.05)  # of two evaluations
    assert found["saved model"] == pytest.approx(size(best[0]), rel=0.05)
    assert "best steps" in ftkit("plan", "pretrain", *run).stdout
    assert "best steps" not in ftkit("plan", "pretrain", *SMALL).stdout


def test_what_a_terminal_would_be_warned_of_is_in_the_json(tmp_path):
    text = tmp_path / "short.txt"
    text.write_text("a few words that come again and again. " * 700, encoding="utf-8")
    output = ftkit("plan", "pretrain", *SMALL, "--corpus", text, "--json").stdout
    warnings = json.loads(output[output.index("{\n") : output.rindex("}") + 1])["warnings"]
    assert any("a style is hardly learned from fewer than 10,000" in each for each in warnings)
    assert any("100% of the held-out text's word 12-grams" in each for each in warnings)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def in_a_process(*arguments: object) -> tuple[int, str, dict]:
    """A plan in a process of its own, whose memory nothing else has used: exit code, all that was said, and the arm."""
    done = python("-m", "ftkit", "plan", *arguments, "--json", OMP_NUM_THREADS="1")
    (arm,) = json.loads(done.stdout[done.stdout.index("{\n") : done.stdout.rindex("}") + 1])["arms"].values()
    return done.returncode, done.stdout + done.stderr, arm


def test_what_will_not_fit_is_foreseen_from_smaller_batches_and_fits_after_the_advice():
    _, _, real = in_a_process("pretrain", *WIDE)
    (training,) = real["trainings"]
    needed = training["phases"]["train"]["rss_growth_bytes"]
    assert training["tried_rows"] == [1, 2, 4, 8, 16, 32, 64, 96]
    tight = ["--memory-gb", 0.75 * needed / 1e9]  # clearly too little, also where the system counts pages otherwise
    code, said, arm = in_a_process("pretrain", *WIDE, *tight)
    assert (code, arm["fits"]) == (3, False)
    (foreseen,) = arm["trainings"]
    assert 3 <= len(foreseen["tried_rows"]) < 8  # the step was not tried
    assert foreseen["seconds_per_step"] is None
    assert foreseen["peak_bytes"] == pytest.approx(training["peak_bytes"], rel=0.15)
    assert foreseen["phases"]["train"]["rss_growth_bytes"] == pytest.approx(needed, rel=0.2)
    found = re.search(r"(per_device_train_batch_size): (\d+) with (gradient_accumulation_steps): (\d+)", said)
    assert found is not None
    assert int(found[2]) * int(found[4]) == 96
    code, said, _ = in_a_process("pretrain", *WIDE, f"--{found[1]}", found[2], f"--{found[3]}", found[4], *tight)
    assert code == 0, said


def test_a_signal_ends_a_plan_at_once_and_the_next_one_clears_up():
    def left() -> list[Path]:
        return list(Path(tempfile.gettempdir()).glob(f"ftkit-plan-{run._process.pid}-*"))

    run = Running("-m", "ftkit", "plan", "pretrain", *WIDE, OMP_NUM_THREADS="1")
    while not left() and run.poll() is None:
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    assert run.wait().returncode == -signal.SIGTERM
    assert left()
    _remove_left()  # what every plan does first
    assert not left()


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


@pytest.mark.parametrize(
    ("planted", "code", "said"),
    [
        (["--window_tokens", "24", "--truncate", "end"], 4, "the model will not learn to end one"),
        (["--window_tokens", "64"], 0, ""),
        (["--window_tokens", "8", "--truncate", "end"], 4, "nothing could be learned"),
        (["--learning_rate", "0"], 0, "no update will change anything"),
    ],
)
def test_what_makes_a_run_on_examples_worthless_is_said_by_its_plan(tmp_path, planted, code, said):
    pairs = [
        {"prompt": f"Say the number {n}.", "completion": " and".join(f" {n}" for _ in range(5))} for n in range(60)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    done = python(
        "-m", "ftkit", "plan", "sft", "--fast", "--use_cpu", "--model", "new:gpt2", "--tokenizer", "byte",
        "--examples", tmp_path / "pairs.jsonl", *planted,
    )  # fmt: skip
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr
    assert said or "learn to end one" not in done.stdout
