"""Killed, interrupted, killed again: what comes out in the end is the uninterrupted run, bit for bit."""

import random
import shutil
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import pytest
import trials

from ftkit.runs.integrity import check_folder
from ftkit.training import CheckpointFolder

MANY = pytest.mark.nightly, pytest.mark.timeout(3600)
# A slow disk: the job spends most of its time in writing, so that most kills hit a write.
SLOW = 0.004


def steps(run: Path) -> list[Path]:
    """The checkpoints of the job, newest last."""
    return sorted((run / "checkpoints" / "model").glob("step-*"))


def resume(run: Path) -> None:
    """Continue a run to its end, and look at what is left."""
    code, said = trials.run("resume", str(run), log=run.with_suffix(".log"))
    assert code == 0, said
    assert trials.leftovers(run) == []
    assert check_folder(run).broken == ()


def wait_for_a_random_moment(trial: trials.Trial, run: Path, draw: random.Random, seconds: float, last: int) -> None:
    """Any moment from the start to what follows ``last`` steps; counted in steps, for machines that are busy."""
    step = draw.randint(0, last)
    trials.wait_until(
        lambda: (
            not trial.process.is_alive()
            or (
                (run / "manifest.json").exists() if step == 0 else any(p.name >= f"step-{step:06d}" for p in steps(run))
            )
        )
    )
    time.sleep(draw.uniform(0, seconds / 8))


@pytest.fixture(scope="module")
def seconds(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long the job takes on a slow disk."""
    folder = tmp_path_factory.mktemp("timed")
    started = time.monotonic()
    trials.run(*trials.job(folder / "run"), log=folder / "log", slow_sync=SLOW)
    return time.monotonic() - started


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=MANY)])
def test_killed_at_random_moments_it_ends_bit_for_bit_the_same(whole, seconds, tmp_path, kills):
    draw, moments = random.Random(kills), Counter[str]()
    for number in range(kills):
        run = tmp_path / f"run{number}"
        trial = trials.Trial(*trials.job(run), log=tmp_path / "log", slow_sync=SLOW)
        wait_for_a_random_moment(trial, run, draw, seconds, last=8)
        newest = steps(run)[-1].name if steps(run) else "before the first checkpoint"
        moments.update([newest, "in a write" if trials.leftovers(run) else "between writes"])
        trial.send(signal.SIGKILL)
        assert trial.wait() in (0, -signal.SIGKILL)
        resume(run)
        assert trials.weights(run) == trials.weights(whole)
        assert trials.losses(run) == trials.losses(whole)
        shutil.rmtree(run)
    print(f"{kills} of {kills} resumed bit for bit; killed at {dict(sorted(moments.items()))}")


BEST = (
    "--load_best_model_at_end", "--early_stopping_patience", "2", "--eval_steps", "1", "--max_steps", "16",
    "--learning_rate", "0.03", "--save_steps", "2", "--per_device_train_batch_size", "1",
)  # fmt: skip


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=MANY)])
def test_killed_at_random_moments_it_stops_at_the_same_step_and_saves_the_same_best_model(tmp_path, kills):
    code, said = trials.run(*trials.job(tmp_path / "whole", *BEST), log=tmp_path / "whole.log")
    assert code == 0, said
    expected = trials.manifest(tmp_path / "whole")["best"]["model"]
    assert expected["step"] < expected["last_step"] < 16
    draw = random.Random(kills)
    for number in range(kills):
        run = tmp_path / f"run{number}"
        trial = trials.Trial(*trials.job(run, *BEST), log=tmp_path / "log", slow_sync=SLOW)
        moment, best = draw.randint(1, expected["last_step"]), run / "checkpoints" / "model" / "best"
        trials.wait_until(
            lambda best=best, moment=moment, trial=trial: (
                not trial.process.is_alive() or any(best.glob(f"*step-{min(moment, expected['step']):06d}*"))
            )
        )
        time.sleep(draw.uniform(0, 0.2))
        trial.send(signal.SIGKILL)
        assert trial.wait() in (0, -signal.SIGKILL)
        resume(run)
        assert trials.manifest(run)["best"]["model"] == expected
        assert trials.weights(run) == trials.weights(tmp_path / "whole")
        assert trials.losses(run) == trials.losses(tmp_path / "whole")
        shutil.rmtree(run)


@pytest.mark.parametrize("signals", [2, pytest.param(30, marks=MANY)])
def test_interrupted_at_random_moments_it_ends_bit_for_bit_the_same(whole, seconds, tmp_path, signals):
    draw, waits, stopped = random.Random(signals), [], 0
    for number in range(signals):
        run, asked = tmp_path / f"run{number}", (signal.SIGINT, signal.SIGTERM)[number % 2]
        trial = trials.Trial(*trials.job(run), log=tmp_path / f"log{number}", slow_sync=SLOW)
        wait_for_a_random_moment(trial, run, draw, seconds, last=6)
        before, sent = len(steps(run)), time.monotonic()
        trial.send(asked)
        code = trial.wait()
        waits.append(time.monotonic() - sent)
        assert code in (0, 128 + asked), trial.said
        assert "Traceback" not in trial.said
        if code:
            stopped += 1
            assert trials.manifest(run)["exit_code"] == code
            assert f"ftkit resume {run}" in trial.said
            assert trials.leftovers(run) == []
            assert len(steps(run)) >= min(before, 2)  # a third is there while the oldest is removed
        resume(run)
        assert trials.weights(run) == trials.weights(whole)
        assert trials.losses(run) == trials.losses(whole)
        shutil.rmtree(run)
    assert stopped >= signals / 2
    print(f"{signals} of {signals} resumed bit for bit; {stopped} were stopped early, within {max(waits):.2f} s")


def test_interrupted_as_soon_as_its_folder_exists_a_run_says_so_and_resumes(whole, tmp_path):
    run = tmp_path / "run"
    trial = trials.Trial(*trials.job(run), log=tmp_path / "log", slow_sync=SLOW)
    trials.wait_until((run / "manifest.json").exists)  # config.yaml comes next
    trial.send(signal.SIGTERM)
    assert trial.wait() == 143, trial.said
    assert trials.manifest(run)["exit_code"] == 143
    assert f"ftkit resume {run}" in trial.said
    resume(run)
    assert trials.weights(run) == trials.weights(whole)


@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=MANY)])
def test_with_a_single_checkpoint_kept_there_is_a_valid_one_at_every_instant(whole, tmp_path, kills):
    """Writing the new one, sealing it, removing the old one: looked at every millisecond, and killed there."""
    draw, looks = random.Random(kills), 0
    for number in range(kills):
        run = tmp_path / f"run{number}"
        flags = ("--save_total_limit", "1", "--seed", "42")
        trial = trials.Trial(*trials.job(run, *flags), log=tmp_path / "log", slow_sync=SLOW)
        trials.wait_until(lambda run=run: steps(run) and (steps(run)[-1] / "manifest.json").exists())
        until = draw.randint(3, 8)
        while trial.process.is_alive() and not any(f"step-{until:06d}" in path.name for path in _hidden(run)):
            # Reading a folder is no snapshot: a second look follows before anything is said to be missing.
            assert any((path / "manifest.json").exists() for _ in range(3) for path in steps(run))
            looks += 1
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.08))  # from the first write of that checkpoint to the removal of the one before
        trial.send(signal.SIGKILL)
        trial.wait()
        newest = CheckpointFolder(run / "checkpoints" / "model", 1).newest_valid()
        assert newest is not None
        assert newest.name >= f"step-{until - 1:06d}"
        resume(run)
        assert [path.name for path in steps(run)] == ["step-000008"]
        assert trials.weights(run) == trials.weights(whole)
        shutil.rmtree(run)
    assert looks > 20 * kills
    print(f"{kills} of {kills} kills in a rotation left a valid newest checkpoint; {looks} looks found one")


def _hidden(run: Path) -> list[Path]:
    return list((run / "checkpoints" / "model").glob(".step-*"))


def ranks(*arguments: str, log: Path, **options: object) -> list[trials.Trial]:
    """Two processes of one job, as a launcher starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        trials.Trial(
            *arguments,
            log=log.with_suffix(f".{rank}"),
            environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            **options,
        )
        for rank in range(2)
    ]


@pytest.mark.parametrize("victims", [(0,), pytest.param((0, 1) * 5, marks=MANY)])
def test_one_of_two_processes_killed_in_a_save_ends_both_and_the_job_resumes_bit_for_bit(tmp_path, victims):
    both = tmp_path / "both"
    assert [trial.wait() for trial in ranks(*trials.job(both), log=tmp_path / "whole")] == [0, 0]
    assert trials.manifest(both)["processes"] == 2
    for number, victim in enumerate(victims):
        run = tmp_path / f"run{number}"
        pair = ranks(*trials.job(run), log=tmp_path / f"log{number}", slow_sync=0.05)
        trials.wait_until(lambda run=run: any("step-000004" in path.name for path in _hidden(run)))
        pair[victim].send(signal.SIGKILL)
        killed = time.monotonic()
        codes = [trial.wait(60) for trial in pair]
        assert all(code != 0 for code in codes), codes
        assert time.monotonic() - killed < 60
        code, said = trials.run("resume", str(run), log=tmp_path / "alone")
        assert code == 2, said
        assert "processes: was 2, is 1" in said
        again = ranks("resume", str(run), log=tmp_path / f"again{number}")
        assert [trial.wait() for trial in again] == [0, 0], again[0].said
        assert trials.weights(run) == trials.weights(both)
        assert trials.losses(run) == trials.losses(both)
    print(f"{len(victims)} of {len(victims)} jobs of two processes resumed bit for bit after one was killed in a save")
