"""Checkpoints: every damage is found, the newest good one wins, and a full disk loses nothing."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import tiny

from ftkit.errors import CheckpointError
from ftkit.training import CheckpointFolder
from ftkit.training.checkpoints import broken_because


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model whose optimizer has a state."""
    model = tiny()
    optimizer = torch.optim.AdamW(model.parameters())
    model(input_ids=torch.arange(8).unsqueeze(0)).logits.sum().backward()
    optimizer.step()
    return model, optimizer


def saved(folder: Path, steps: range, keep: int = 9) -> CheckpointFolder:
    model, optimizer = trained()
    checkpoints = CheckpointFolder(folder, keep)
    for step in steps:
        checkpoints.save(step, dict(model.named_parameters()), [optimizer], {"fingerprint": "f"})
    return checkpoints


def damages(file: Path):
    """Every way in which a file goes wrong, each as a function that does it."""
    size = file.stat().st_size

    def flip(place: int) -> None:
        with file.open("r+b") as stream:
            stream.seek(place)
            byte = stream.read(1)[0]
            stream.seek(place)
            stream.write(bytes([byte ^ 1]))

    yield file.unlink
    yield lambda: file.write_bytes(b"")
    yield lambda: file.write_bytes(file.read_bytes()[: size // 2])
    yield lambda: file.write_bytes(file.read_bytes() + b"x")
    for region in range(64):
        yield lambda region=region: flip(region * size // 64)


def test_every_damage_to_every_file_is_found_and_the_older_checkpoint_taken(tmp_path):
    checkpoints = saved(tmp_path, range(1, 3))
    newest, names = tmp_path / "step-000002", sorted(p.name for p in (tmp_path / "step-000002").iterdir())
    assert names == ["manifest.json", "model.safetensors", "optimizer-0.json", "optimizer-0.safetensors", "state.json"]
    copy, tried = tmp_path / "copy", 0
    shutil.copytree(newest, copy)
    for name in names:
        for damage in damages(newest / name):
            damage()
            tried += 1
            if name == "manifest.json" and broken_because(newest) is None:
                # A flipped space in JSON is no damage: what it says is still what it said.
                assert json.loads((newest / name).read_text()) == json.loads((copy / name).read_text())
            else:
                found = checkpoints.newest_valid()
                assert found is not None
                assert found.name == "step-000001", f"{name}: damage {tried} was not found"
            shutil.rmtree(newest)
            shutil.copytree(copy, newest)
    assert tried == 5 * 68
    assert checkpoints.newest_valid() == newest


def test_a_folder_that_was_never_sealed_does_not_count(tmp_path):
    checkpoints = saved(tmp_path, range(1, 2))
    (tmp_path / "step-000007").mkdir()
    (tmp_path / ".step-000009.123.tmp").mkdir()
    found = checkpoints.newest_valid()
    assert found is not None
    assert found.name == "step-000001"


@pytest.mark.parametrize("keep", [1, 2])
def test_broken_checkpoints_of_later_steps_take_no_room_from_the_newest_valid_one(tmp_path, keep):
    """A run that had to go back saves under lower numbers than the broken ones it has left behind."""
    checkpoints = saved(tmp_path, range(5, 10))
    for step in (7, 8, 9):
        (tmp_path / f"step-{step:06d}" / "state.json").write_text("{}")
    (tmp_path / "step-000005" / "manifest.json").unlink()
    model, optimizer = trained()
    CheckpointFolder(tmp_path, keep).save(7, dict(model.named_parameters()), [optimizer], {})
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"step-{step:06d}" for step in range(8 - keep, 8)]
    found = checkpoints.newest_valid()
    assert found is not None
    assert found.name == "step-000007"


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_old_checkpoints_go_only_when_the_new_one_is_sealed(tmp_path, keep, monkeypatch):
    checkpoints = saved(tmp_path, range(1, 6), keep)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"step-{step:06d}" for step in range(6 - keep, 6)]
    model, optimizer = trained()

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(6, dict(model.named_parameters()), [optimizer], {})
    found = checkpoints.newest_valid()
    assert found is not None
    assert found.name == "step-000005"
    assert len(list(tmp_path.iterdir())) == keep


def test_state_comes_back_exactly(tmp_path):
    model, optimizer = trained()
    checkpoints = CheckpointFolder(tmp_path)
    checkpoints.save(1, dict(model.named_parameters()), [optimizer], {"fingerprint": "f"})
    other = tiny(seed=5)
    fresh = torch.optim.AdamW(other.parameters())
    path = checkpoints.newest_valid()
    assert path is not None
    state = checkpoints.load(path, dict(other.named_parameters()), [fresh])
    assert state == {"step": 1, "fingerprint": "f"}
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(optimizer.state.values(), fresh.state.values(), strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_another_model_is_refused_by_name(tmp_path):
    checkpoints = saved(tmp_path, range(1, 2))
    path = checkpoints.newest_valid()
    assert path is not None
    with pytest.raises(CheckpointError, match="other tensors"):
        checkpoints.load(path, dict(tiny("gpt2").named_parameters()), [])


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path):
    saved(tmp_path, range(1, 2))
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} == {".json", ".safetensors"}
    assert not any(p.read_bytes()[:2] in (b"\x80\x04", b"PK") for p in files)


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for one checkpoint."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = 4_000_000
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_says_so_and_keeps_the_last_checkpoint(small_disk):
    checkpoints = saved(small_disk, range(1, 2))
    free = shutil.disk_usage(small_disk).free
    with (small_disk / "filler").open("wb") as stream:
        stream.write(os.urandom(free - 300_000))
    model, optimizer = trained()
    with pytest.raises(
        CheckpointError, match=r"the disk is full: .* MB needed, .* MB free; the newest checkpoint is step-000001"
    ):
        checkpoints.save(2, dict(model.named_parameters()), [optimizer], {})
    assert sorted(p.name for p in small_disk.iterdir()) == ["filler", "step-000001"]
    (small_disk / "filler").unlink()
    assert checkpoints.save(2, dict(model.named_parameters()), [optimizer], {}).name == "step-000002"


def test_a_disk_that_fills_while_writing_leaves_no_half_checkpoint(small_disk, monkeypatch):
    checkpoints = saved(small_disk, range(1, 2))
    with (small_disk / "filler").open("wb") as stream:
        stream.write(os.urandom(shutil.disk_usage(small_disk).free - 300_000))
    model, optimizer = trained()
    usage = shutil.disk_usage(small_disk)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage._replace(free=10**9)
    )  # the check before the save is wrong
    with pytest.raises(CheckpointError, match="the disk is full"):
        checkpoints.save(2, dict(model.named_parameters()), [optimizer], {})
    assert sorted(p.name for p in small_disk.iterdir()) == ["filler", "step-000001"]
    assert broken_because(small_disk / "step-000001") is None
