"""What a run must not do: go on with a broken number, on other data, with other settings, or beside another run."""

import re
import shutil
import signal
from pathlib import Path

import pytest
import trials
import yaml
from safetensors.torch import load_file

from ftkit.errors import CheckpointError
from ftkit.jobs import prepare_base
from ftkit.training import CheckpointFolder


def interrupted(run: Path, *flags: str) -> Path:
    """A job that was killed after some steps."""
    trial = trials.Trial(*trials.job(run, *flags), log=run.with_suffix(".log"), slow_sync=0.01)
    trials.wait_until(lambda: list(run.glob("checkpoints/model/step-*/manifest.json")))
    trial.send(signal.SIGKILL)
    trial.wait()
    return run


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that was killed; tests take copies."""
    return interrupted(tmp_path_factory.mktemp("killed") / "run")


@pytest.fixture
def run(killed: Path, tmp_path: Path) -> Path:
    """A copy of the killed job."""
    return Path(shutil.copytree(killed, tmp_path / "run"))


def finite(checkpoint: Path) -> bool:
    """Whether all weights and moments of a checkpoint are finite, read with safetensors alone."""
    files = list(checkpoint.glob("*.safetensors"))
    assert len(files) == 2
    return all(bool(tensor.isfinite().all()) for file in files for tensor in load_file(file).values())


@pytest.mark.parametrize(
    ("flags", "latest"),
    [
        (["--poison_step", "7", "--max_steps", "12"], 7),
        (["--learning_rate", "1e6", "--lr_scheduler_type", "constant", "--max_steps", "40", "--eval_steps", "40"], 40),
    ],
)
def test_a_broken_number_stops_the_run_at_once_and_reaches_no_checkpoint(tmp_path, flags, latest):
    run = tmp_path / "run"
    code, said = trials.run(*trials.job(run, *flags), log=tmp_path / "log")
    assert code == 5, said
    logged = [line for line in trials.losses(run) if line[2] == "train"]
    assert all(line[4] == line[4] for line in logged)
    step = int(re.search(r"step (\d+): the loss is", said)[1])
    assert step <= latest + 1
    assert len(logged) in (step, step - 1)  # the step that the message names, or the one before it, was the last
    assert trials.manifest(run)["exit_code"] == 5
    newest = CheckpointFolder(run / "checkpoints" / "model").newest_valid()
    assert newest is not None
    assert int(newest.name[5:]) in (step - 1, step - 2)
    assert finite(newest)
    assert not (run / "models").exists()


def test_a_folder_at_work_is_refused_and_the_lock_of_the_dead_is_taken_over(whole, tmp_path):
    run = tmp_path / "run"
    first = trials.Trial(*trials.job(run), log=tmp_path / "log", slow_sync=0.05)
    trials.wait_until(lambda: (run / "metrics.jsonl").exists())
    for arguments in (trials.job(run), ["resume", str(run)]):
        code, said = trials.run(*arguments, log=tmp_path / "second")
        assert code == 6, said
        assert f"process {first.process.pid} on " in said
        assert "works in this folder" in said
    assert first.process.is_alive()
    first.send(signal.SIGKILL)
    first.wait()
    code, said = trials.run("resume", str(run), log=tmp_path / "third")
    assert code == 0, said
    assert trials.weights(run) == trials.weights(whole)


def test_changed_text_is_refused_with_the_difference(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The lamp is lit and the sea is calm tonight.\n" * 400)
    run = interrupted(tmp_path / "run", "--corpus", str(text))
    text.write_text(text.read_text() + "One more line of four.\n")
    code, said = trials.run("resume", str(run), log=tmp_path / "log")
    assert code == 6
    assert f"{text}: has changed since the run was started (4,000 words then, 4,005 now)" in said
    text.unlink()
    assert trials.run("resume", str(run), log=tmp_path / "log")[0] == 4


def edit(run: Path, **values: object) -> None:
    """Change ``config.yaml`` in a run folder, as people do."""
    config = run / "config.yaml"
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **values}, sort_keys=False))


def test_settings_that_were_changed_in_the_run_folder_are_all_named_with_both_values(run, tmp_path):
    edit(run, learning_rate=0.5, weight_decay=0.2, max_steps=99, corpus="voices:market:3000", save_steps=2)
    code, said = trials.run("resume", str(run), log=tmp_path / "log")
    assert code == 2
    for key, before, now in (
        ("learning_rate", "0.001", "0.5"), ("weight_decay", "0.01", "0.2"), ("max_steps", "8", "99"),
        ("corpus", "'voices:keeper:3000'", "'voices:market:3000'"),
    ):  # fmt: skip
        assert f"{key}: was {before}, is {now}" in said
    assert "save_steps" not in said  # where checkpoints are kept does not change what is learned


def test_settings_about_the_keeping_of_checkpoints_may_change(whole, run, tmp_path):
    edit(run, save_steps=3, save_total_limit=1)
    code, said = trials.run("resume", str(run), log=tmp_path / "log")
    assert code == 0, said
    assert trials.weights(run) == trials.weights(whole)
    assert [path.name for path in (run / "checkpoints" / "model").glob("step-*")] == ["step-000008"]
    assert trials.manifest(run)["settings"]["save_total_limit"] == 1


def test_another_recipe_in_the_run_folder_is_refused(run, tmp_path):
    program = tmp_path / "other.py"
    shutil.copy(trials.JOB, program)
    edit(run, recipe=str(program))
    code, said = trials.run("resume", str(run), log=tmp_path / "log")
    assert code == 2
    assert "recipe: was 'job', is 'other'" in said


def test_a_run_without_its_manifest_is_not_resumed(run, tmp_path):
    (run / "manifest.json").unlink()
    code, said = trials.run("resume", str(run), log=tmp_path / "log")
    assert code == 6
    assert "manifest.json" in said


def test_a_configuration_that_is_gone_is_written_again_from_the_manifest(run, whole, tmp_path):
    before = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").unlink()
    code, said = trials.run("resume", str(run), log=tmp_path / "log")
    assert code == 0, said
    restored = yaml.safe_load((run / "config.yaml").read_text())
    assert {name for name in before if restored[name] != before[name]} <= {"output_dir"}
    assert restored.keys() == before.keys()
    assert trials.weights(run) == trials.weights(whole)


def test_a_resume_does_not_build_on_a_model_that_has_changed(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    manifest = run / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"status": "done"', '"status": "interrupted"'))
    assert trials.run("resume", str(run), log=tmp_path / "log")[0] == 0
    manifest.write_text(manifest.read_text().replace('"status": "done"', '"status": "interrupted"'))
    trials.flip(run / "models" / "model" / "model.safetensors", 5000)
    code, said = trials.run("resume", str(run), log=tmp_path / "log")
    assert code == 6
    assert f"{run}/models/model: model.safetensors has changed since it was written" in said


def test_a_base_in_the_cache_that_has_changed_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    config = tmp_path / "tiny.yaml"
    flags = ["--corpus", "voices:keeper:3000", "--max_steps", "1"]
    code, said = trials.run(*trials.job(tmp_path / "run", *flags), log=tmp_path / "log")
    assert code == 0, said
    config.write_text((tmp_path / "run" / "config.yaml").read_text())
    values = yaml.safe_load(config.read_text())
    values.pop("output_dir")
    config.write_text(yaml.safe_dump({**values, "recipe": str(tmp_path / "job.py")}))
    program = trials.JOB.read_text().replace("def main", "    @property\n    def sources(self):\n        return "
                                             "{'corpus': self.corpus}\n\n\ndef main")  # fmt: skip
    (tmp_path / "job.py").write_text(program)
    base = Path(prepare_base(f"base:{config}").model)
    assert Path(prepare_base(f"base:{config}").model) == base
    trials.flip(base / "model.safetensors", 5000)
    with pytest.raises(CheckpointError, match="has changed since it was written; remove"):
        prepare_base(f"base:{config}")


def test_a_mistake_before_anything_is_made_leaves_no_folder_behind(tmp_path):
    log = tmp_path / "log"
    code, said = trials.run("run", str(trials.JOB), "--corpus", "nowhere.txt", log=log, folder=tmp_path)
    assert code == 4, said
    assert "in . there is: log" in said  # not the folder "runs" that this run has made
    assert [path.name for path in tmp_path.rglob("*")] in (["log"], ["log", "runs"], ["runs", "log"])
    code, said = trials.run(*trials.job(tmp_path / "named", "--corpus", "nowhere.txt"), log=log)
    assert code == 4
    assert trials.manifest(tmp_path / "named")["exit_code"] == 4  # who names a folder can read there how it ended
