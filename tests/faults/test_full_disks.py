"""A disk that fills up anywhere in a run: one message with path, need and have, nothing partial, and on it goes."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trials

from ftkit.runs.integrity import check_folder

CHECKPOINT, DISK = 1_440_000, 9_000_000  # bytes of the job's checkpoint, and of a disk on which the job has room


def survives(whole: Path, disk: Path, free: int, *flags: str) -> str:
    """Fill a disk but for some bytes, run into that, free the space, go on; what was said at first."""
    run, filler = disk / "run", disk / "filler"
    with filler.open("wb") as stream:
        stream.truncate(0)
        stream.write(bytes(DISK - free))
    log = disk.with_suffix(".log")
    code, said = trials.run(*trials.job(run, *flags), log=log)
    assert code == 6, said
    assert said.count("ftkit: ") == 1
    assert trials.leftovers(run) == []
    filler.unlink()
    started = (run / "manifest.json").exists()
    if started:
        # config.yaml is written after the manifest, from which a resume restores it
        restored = set() if (run / "config.yaml").exists() else {"config.yaml"}
        assert {item.name for item in check_folder(run).broken} == restored
    code, again = trials.run(*(["resume", str(run)] if started else trials.job(run, *flags)), log=log)
    assert code == 0, again
    assert trials.weights(run) == trials.weights(whole)
    assert trials.losses(run) == trials.losses(whole)
    return said


def complaint(said: str) -> str:
    """The one line that says what went wrong."""
    return next(line for line in said.splitlines() if line.startswith("ftkit: "))


@pytest.mark.parametrize(
    ("free", "flags", "path", "tail"),
    [
        (CHECKPOINT // 2, (), "checkpoints/model", "there is no earlier checkpoint"),
        (CHECKPOINT * 5 // 2, (), "checkpoints/model/step-000003", "the newest checkpoint is step-000002"),
        (CHECKPOINT // 5, ("--save_steps", "0"), "models/model", "free space and resume"),
        (4096, (), "config.yaml", "free space and resume"),
    ],
)
def test_a_full_disk_is_named_with_need_and_have_and_costs_nothing(
    whole: Path, disk_of: Callable[[int], Path], free: int, flags: tuple[str, ...], path: str, tail: str
) -> None:
    disk = disk_of(DISK)
    line = complaint(survives(whole, disk, free, *flags))
    assert line.startswith(f"ftkit: {disk}/run/{path}: the disk is full: ")
    assert "MB needed, " in line
    assert "MB free; " in line
    assert tail in line


def test_a_disk_without_room_for_one_checkpoint_is_refused_before_the_first_step(
    disk_of: Callable[[int], Path], tmp_path: Path
) -> None:
    run = disk_of(CHECKPOINT // 2) / "run"
    assert trials.run(*trials.job(run), log=tmp_path / "log")[0] == 6
    assert not (run / "metrics.jsonl").exists()


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_wherever_the_disk_is_full_nothing_is_lost(whole: Path, disk_of: Callable[[int], Path]) -> None:
    draw, places = random.Random(0), []
    for number in range(40):
        steps = () if number % 2 else ("--save_steps", "0")
        free = draw.randrange(0, CHECKPOINT * 3 if number % 2 else CHECKPOINT // 3)
        places.append(complaint(survives(whole, disk_of(DISK), free, *steps)).split("run/")[-1].split(":")[0])
    print(
        f"40 of 40 full disks: exit 6, one message, nothing partial, resumed bit for bit; full at {sorted(set(places))}"
    )


def test_a_limit_on_file_sizes_ends_the_same_way(whole: Path, tmp_path: Path) -> None:
    """Where nothing may be mounted, a limit makes the same errors come from every write."""
    run = tmp_path / "run"
    code, said = trials.run(*trials.job(run), log=tmp_path / "log", largest_file=700_000)
    assert code == 6, said
    assert "step-000001: is larger than a file may be here (1.42 MB needed)" in complaint(said)
    assert trials.leftovers(run) == []
    assert trials.run("resume", str(run), log=tmp_path / "log")[0] == 0
    assert trials.weights(run) == trials.weights(whole)
