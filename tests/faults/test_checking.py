"""``ftkit check``: every file of a run is covered, every change is found, and nothing sound is called broken."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trials

from ftkit.errors import CheckpointError
from ftkit.runs.integrity import check_folder

# The lock is empty, the manifest is what the others are compared with, and of the configuration its values count.
UNCHECKED = {".lock", "manifest.json", "config.yaml"}


def damaged(file: Path, regions: int):
    """Every way in which a file goes wrong, one after the other."""
    raw = file.read_bytes()
    yield None
    yield b""
    yield raw[: len(raw) // 2]
    yield raw + b"\n"
    for region in range(regions):
        place = region * len(raw) // regions
        yield raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


@pytest.mark.parametrize("regions", [2, pytest.param(64, marks=pytest.mark.nightly)])
def test_every_damage_to_every_file_of_a_run_is_found_and_named(whole, tmp_path, regions):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    assert check_folder(run).broken == ()
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name not in UNCHECKED]
    assert len(files) > 13
    for file in files:
        name, raw = file.relative_to(run).as_posix(), file.read_bytes()
        for content in damaged(file, regions):
            file.unlink() if content is None else file.write_bytes(content)
            assert [item.name for item in check_folder(run).broken] == [name], content
        file.write_bytes(raw)
    assert check_folder(run).broken == ()


def test_a_changed_setting_is_named(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("learning_rate: 0.001", "learning_rate: 0.5"))
    (broken,) = check_folder(run).broken
    assert broken.name == "config.yaml"
    assert "learning_rate: was 0.001, is 0.5" in str(broken.problem)
    config.unlink()
    assert [item.name for item in check_folder(run).broken] == ["config.yaml"]


def test_checkpoints_and_models_are_checked_alone(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for kind, part in (("checkpoint", "checkpoints/model/step-000008"), ("model", "models/model")):
        found = check_folder(run / part)
        assert (found.kind, found.broken) == (kind, ())
        files = sorted(p for p in (run / part).iterdir() if p.name != "manifest.json")
        assert [item.name for item in found.items] == [p.name for p in files]
        trials.flip(run / part / "model.safetensors", 3000)
        assert [item.name for item in check_folder(run / part).broken] == ["model.safetensors"]
    for name, content in (("manifest.json", "[]"), ("manifest.json", '{"model.safetensors": 3}'), ("state.json", "")):
        step = run / "checkpoints" / "model" / "step-000007"
        (step / name).write_text(content)
        assert check_folder(step).broken


def test_what_a_pull_has_written_down_is_checked(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    sha256 = "9a129d82c22e85d8a1f8d1d2a1d1c1dc" * 2
    (tmp_path / "pulled.json").write_text(json.dumps({"sha256": {"a.safetensors": sha256}}))
    assert [item.problem for item in check_folder(tmp_path).items] == ["a.safetensors has changed since it was written"]
    done = subprocess.run(["sha256sum", str(tmp_path / "a.safetensors")], capture_output=True, text=True, check=True)
    (tmp_path / "pulled.json").write_text(json.dumps({"sha256": {"a.safetensors": done.stdout.split()[0]}}))
    assert check_folder(tmp_path).broken == ()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "nothing says what should be in it"),
        (lambda folder: (folder.mkdir(), (folder / "manifest.json").write_text("{")), "cannot be read"),
        (lambda folder: (folder.mkdir(), (folder / "manifest.json").write_text("{}")), "not the manifest of a run"),
    ],
)
def test_what_cannot_be_checked_says_why(tmp_path, make, said):
    make(tmp_path / "folder")
    with pytest.raises(CheckpointError, match=said):
        check_folder(tmp_path / "folder")


def command(*arguments: str) -> subprocess.CompletedProcess:
    """The real command, without torch."""
    code = (
        "import sys, atexit\natexit.register(lambda: sys.stderr.write(f\"torch {'torch' in sys.modules}\"))\n"
        f"sys.argv = ['ftkit', 'check', *{list(arguments)!r}]\nfrom ftkit.cli import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.stderr.endswith("torch False")
    return done


def test_the_command_leaves_with_0_or_6_and_speaks_json(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    done = command(str(run))
    assert done.returncode == 0
    assert "checkpoints/model/step-000008/optimizer-0.safetensors  ok" in done.stdout
    trials.flip(run / "models" / "model" / "model.safetensors", 4000)
    done = command(str(run), "--json")
    assert done.returncode == 6
    assert "1 of " in done.stderr
    found = json.loads(done.stdout)
    assert (found["kind"], found["ok"]) == ("run", False)
    assert [item for item in found["items"] if item["problem"]] == [
        {"name": "models/model/model.safetensors", "problem": "model.safetensors has changed since it was written"}
    ]
