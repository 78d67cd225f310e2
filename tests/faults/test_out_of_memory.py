"""Memory that runs out, anywhere: exit code 3, one message with where, asked, free and remedy, and on it goes."""

import re
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import trials
from processes import python

from ftkit.errors import ModelError, OutOfMemory
from ftkit.memory import memory_phase
from ftkit.runs.integrity import check_folder

MEGA = 2**20
BIG = ("--model", "new:ftkit_gpt2,vocab_size=60000", "--max_steps", "4", "--eval_steps", "2", "--eval_windows", "16")
"""The job with logits of 31 MB for each row of 128 tokens."""


def complaint(said: str) -> str:
    """The one line that says what went wrong."""
    (line,) = [line for line in said.splitlines() if line.startswith("ftkit: ")]
    return line


@pytest.mark.parametrize(
    ("phase", "words", "remedy"),
    [
        ("load", "while loading a model", "a smaller model"),
        ("evaluate", "while evaluating", "a smaller window_tokens"),
        ("generate", "while generating text", "passage_chars"),
        ("judge", "while judging", "judge_batch_size"),
    ],
)
def test_each_phase_says_where_what_and_what_to_change(phase: str, words: str, remedy: str, tmp_path: Path) -> None:
    done = python(Path(__file__).with_name("starved.py"), phase, tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    line = complaint(done.stderr)
    assert re.match(rf"ftkit: out of memory {words}: ([\d.]+ [MG]B asked, )?[\d.e+]+ [MG]B free\. Try ", line), line
    assert remedy in line


def test_a_run_that_ran_out_of_memory_goes_on_bit_for_bit(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code, said = trials.run(*trials.job(tmp_path / "whole", *BIG), log=log)
    assert code == 0, said
    run = tmp_path / "run"
    code, said = trials.run(*trials.job(run, *BIG), log=log, room=90 * MEGA)
    assert code == 3, said
    assert "out of memory while evaluating: " in complaint(said)
    assert f"ftkit resume {run}" in complaint(said)
    assert (trials.manifest(run)["status"], trials.manifest(run)["exit_code"]) == ("failed", 3)
    assert trials.leftovers(run) == []

    started = trials.Trial("resume", str(run), log=log)
    trials.wait_until(lambda: (run / "checkpoints" / "model" / "step-000002" / "manifest.json").exists())
    started.send(signal.SIGTERM)
    assert started.wait() == 143
    code, said = trials.run("resume", str(run), log=log, room=60 * MEGA)
    assert code == 3, said
    assert trials.leftovers(run) == []
    assert check_folder(run).broken == ()
    code, said = trials.run("resume", str(run), log=log)
    assert code == 0, said
    assert trials.weights(run) == trials.weights(tmp_path / "whole")
    assert trials.losses(run) == trials.losses(tmp_path / "whole")


def test_a_smaller_batch_with_more_accumulation_goes_on_with_a_run_that_did_not_fit(tmp_path: Path) -> None:
    log, run = tmp_path / "log", tmp_path / "run"
    large = ("--model", "new:llama", "--per_device_train_batch_size", "512", "--max_steps", "1")
    code, said = trials.run(*trials.job(run, *large), log=log, room=100 * MEGA)
    assert code == 3, said
    line = complaint(said)
    found = re.search(r"per_device_train_batch_size: (\d+) with gradient_accumulation_steps: (\d+)", line)
    assert found is not None, line
    assert int(found[1]) * int(found[2]) == 512
    config = (run / "config.yaml").read_text()
    for name, before, now in (("per_device_train_batch_size", 512, 64), ("gradient_accumulation_steps", 1, 8)):
        assert f"{name}: {before}\n" in config
        config = config.replace(f"{name}: {before}\n", f"{name}: {now}\n")
    (run / "config.yaml").write_text(config)
    code, said = trials.run("resume", str(run), log=log, room=100 * MEGA)
    assert code == 0, said
    (record,) = [record for record in trials.losses(run) if "train" in record]
    code, said = trials.run(*trials.job(tmp_path / "whole", *large), log=log)
    assert code == 0, said
    (whole,) = [record for record in trials.losses(tmp_path / "whole") if "train" in record]
    assert record[3] == pytest.approx(whole[3], rel=1e-6)


@pytest.mark.parametrize(
    ("allocate", "asked"),
    [
        (lambda: torch.empty(2**58), 2**60),
        (lambda: np.empty(2**57), 2**60),
        (lambda: bytearray(2**62), None),
    ],
    ids=["torch", "numpy", "python"],
)
def test_every_library_s_refusal_is_one_error_however_it_is_wrapped(allocate, asked) -> None:
    def load() -> None:
        try:
            allocate()
        except Exception as error:
            raise ModelError("folder x cannot be loaded") from error

    with pytest.raises(OutOfMemory) as found, memory_phase("judge"), memory_phase("load"):
        load()
    assert (found.value.phase, found.value.asked, found.value.exit_code) == ("judge", asked, 3)
    assert 0 < found.value.free <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    "error", [ModelError("'out of memory' is no model"), RuntimeError("shapes do not match"), OSError(2, "no file")]
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as found, memory_phase("load"):
        raise error
    assert found.value is error
