"""The run folder: atomic files, one owner, seals, and what is written when a run ends badly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftkit.config import Settings, TrainingSettings, resolve
from ftkit.config.resolve import Flags
from ftkit.errors import CheckpointError, ConfigError, DivergedError
from ftkit.runs import open_run, read_run, write_atomically
from ftkit.runs.files import atomic_folder


def start(path: Path, **values) -> Settings:
    return Settings(output_dir=str(path), **values)


def test_a_run_leaves_its_settings_and_how_it_ended(tmp_path):
    with open_run(start(tmp_path / "r", seed=7), "some/job.py") as run:
        assert json.loads((run.path / "manifest.json").read_text())["status"] == "running"
        run.mark_done("base", loss=1.5)
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    assert (manifest["status"], manifest["exit_code"], manifest["seed"]) == ("done", 0, 7)
    assert manifest["phases"] == {"base": {"loss": 1.5}}
    assert manifest["versions"]["torch"]
    assert "seed: 7" in (tmp_path / "r" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DivergedError("nan"), "failed", 5),
        (KeyboardInterrupt(), "interrupted", 130),
        (RuntimeError("bug"), "failed", 1),
    ],
)
def test_a_bad_end_is_written_down(tmp_path, error, status, code):
    with pytest.raises(type(error)), open_run(start(tmp_path / "r"), "job.py"):
        raise error
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    assert (manifest["status"], manifest["exit_code"]) == (status, code)


def test_a_folder_in_use_is_refused_and_free_after_a_kill(tmp_path):
    code = (
        "import sys, time\nfrom ftkit.config import Settings\nfrom ftkit.runs import open_run\n"
        f"with open_run(Settings(output_dir={str(tmp_path / 'r')!r}), 'job.py'):\n"
        "    print('open', flush=True)\n    time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(CheckpointError, match=f"process {other.pid} on .* works in this folder"):
            with open_run(start(tmp_path / "r", resume=True), "job.py"):
                pass
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    with open_run(start(tmp_path / "r", resume=True), "job.py") as run:
        assert not run.finished


def test_a_used_folder_is_not_overwritten(tmp_path):
    with open_run(start(tmp_path / "r"), "job.py"):
        pass
    with (
        pytest.raises(ConfigError, match="holds a finished run; 'ftkit report"),
        open_run(start(tmp_path / "r"), "job.py"),
    ):
        pass
    with pytest.raises(KeyboardInterrupt), open_run(start(tmp_path / "stopped"), "job.py") as run:
        run.log("metrics.jsonl", {"model": "a", "step": 1})
        raise KeyboardInterrupt
    with pytest.raises(ConfigError, match="ftkit resume"), open_run(start(tmp_path / "stopped"), "job.py"):
        pass
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"), open_run(start(tmp_path / "other"), "job.py"):
        pass
    assert [p.name for p in (tmp_path / "other").iterdir() if p.name != ".lock"] == ["thesis.txt"]


def test_a_folder_of_runs_in_the_place_of_a_run_is_answered_with_the_newest(tmp_path):
    for number, name in enumerate(("newer", "older")):
        with open_run(start(tmp_path / name), "job.py"):
            pass
        os.utime(tmp_path / name / "manifest.json", (9e8 - number, 9e8 - number))
    with pytest.raises(
        CheckpointError, match=rf"is not the folder of a run; the newest run in it is {tmp_path}/newer$"
    ):
        read_run(tmp_path)


@pytest.mark.parametrize("place", ["/proc/x", "/proc/self", "file", "file/run"])
def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        CheckpointError, match=f"^{place}: a run's folder cannot be written there .*another output_dir$"
    ):
        with open_run(start(Path(place)), "job.py"):
            pass


def test_resuming_with_other_settings_names_the_difference(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_run(start(tmp_path / "r", seed=1), "job.py"):
        raise KeyboardInterrupt
    with (
        pytest.raises(ConfigError, match="seed: was 1, is 2"),
        open_run(start(tmp_path / "r", seed=2, resume=True), "job.py"),
    ):
        pass


@pytest.mark.parametrize("killed_at", ["before config.yaml", "after config.yaml"])
def test_a_run_that_is_killed_while_its_folder_is_made_is_resumed(tmp_path, killed_at):
    """Killed by itself at the first or the second file that it has put in place; then resumed by the command line."""
    recipe = tmp_path / "job.py"
    recipe.write_text(
        '"""What for? (a test)"""\nfrom ftkit.config import Settings, launch\n'
        "def main(settings: Settings) -> None:\n    from ftkit.runs import open_run\n"
        "    with open_run(settings, __file__):\n        pass\n"
        'if __name__ == "__main__":\n    launch(main)\n'
    )
    number = 1 if killed_at == "before config.yaml" else 2
    code = (
        "import os, pathlib, runpy, signal, sys\nreplace, count = pathlib.Path.replace, []\n"
        "def kill(self, target):\n    replace(self, target)\n    count.append(target)\n"
        f"    len(count) == {number} and os.kill(os.getpid(), signal.SIGKILL)\n"
        f"pathlib.Path.replace = kill\nsys.argv = ['job', '--seed', '7', '--output_dir', {str(tmp_path / 'r')!r}]\n"
        f"runpy.run_path({str(recipe)!r}, run_name='__main__')\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    made = {path.name for path in (tmp_path / "r").iterdir()} - {".lock"}
    assert made == ({"manifest.json"} if number == 1 else {"manifest.json", "config.yaml"})
    resumed = subprocess.run([sys.executable, "-m", "ftkit", "resume", str(tmp_path / "r")], check=False)
    assert resumed.returncode == 0
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    assert (manifest["status"], manifest["seed"]) == ("done", 7)
    assert "seed: 7" in (tmp_path / "r" / "config.yaml").read_text()


def test_an_edited_configuration_is_not_resumed_with_the_old_state(tmp_path):
    """Through the file, as ``ftkit resume`` reads it: the setting is named with both values."""
    values = {"tokenizer": "byte", "output_dir": str(tmp_path / "r")}
    with pytest.raises(KeyboardInterrupt), open_run(TrainingSettings(**values, learning_rate=1e-3), "job.py"):
        raise KeyboardInterrupt
    config = tmp_path / "r" / "config.yaml"
    assert "learning_rate: 0.001\n" in config.read_text()
    config.write_text(config.read_text().replace("learning_rate: 0.001\n", "learning_rate: 0.5\n"))
    flags = Flags(config=str(config), values={"resume": True})
    edited = resolve(TrainingSettings, "job", flags).settings
    with pytest.raises(ConfigError, match=r"learning_rate: was 0.001, is 0.5"), open_run(edited, "job.py"):
        pass


def test_a_finished_run_is_left_exactly_as_it_is(tmp_path):
    with open_run(start(tmp_path / "r"), "job.py"):
        pass
    before = {p.name: p.read_bytes() for p in (tmp_path / "r").iterdir()}
    with open_run(start(tmp_path / "r", resume=True), "job.py") as run:
        assert run.finished
    assert {p.name: p.read_bytes() for p in (tmp_path / "r").iterdir()} == before


def test_rewind_cuts_later_lines_of_one_model_and_survives_a_cut_line(tmp_path):
    with open_run(start(tmp_path / "r"), "job.py") as run:
        run.log("metrics.jsonl", *({"model": m, "step": s} for s in range(4) for m in ("a", "b")))
        with (run.path / "metrics.jsonl").open("a") as stream:
            stream.write('{"model": "a", "st')
        run.truncate_logs("a", 1)
        left = run.records("metrics.jsonl")
    assert [r["step"] for r in left if r["model"] == "a"] == [0, 1]
    assert [r["step"] for r in left if r["model"] == "b"] == [0, 1, 2, 3]


def test_tokens_never_reach_the_manifest(tmp_path, monkeypatch):
    canary = "hf_" + "A1b2C3d4" * 4
    monkeypatch.setattr(sys, "argv", ["ftkit", "--token", canary])
    with open_run(start(tmp_path / "r"), "job.py"):
        pass
    written = b"".join(p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file())
    assert canary.encode() not in written
    assert b"[redacted]" in written


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f.json"
    write_atomically(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"the disk is full: 3e-06 MB needed, .* MB free"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "d"
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as folder:
        (folder / "a").write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    for text in ("one", "two"):
        with atomic_folder(target) as folder:
            (folder / "a").write_text(text)
    assert (target / "a").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_line_separators_in_generated_text_are_text(tmp_path):
    strange = "one\u2028two\u0085three\u2029four\r\nfive"
    with open_run(start(tmp_path / "r"), "job.py") as run:
        run.log("samples.jsonl", {"model": "a", "step": 0, "text": strange}, {"model": "a", "step": 9, "text": ""})
        run.truncate_logs("a", 5)
        assert [r["text"] for r in run.records("samples.jsonl")] == [strange]


def test_numbers_that_json_lacks_become_null(tmp_path):
    with open_run(start(tmp_path / "r"), "job.py") as run:
        run.write_json("evidence.json", {"a": [float("nan"), 1.0], "b": (float("inf"),)})
    assert json.loads((tmp_path / "r" / "evidence.json").read_text()) == {"a": [None, 1.0], "b": [None]}


def test_a_run_that_made_nothing_can_be_started_again_in_its_folder(tmp_path):
    with pytest.raises(DivergedError), open_run(start(tmp_path / "r", seed=1), "job.py"):
        raise DivergedError("a typo, say")
    with open_run(start(tmp_path / "r", seed=2), "job.py") as run:
        run.log("metrics.jsonl", {"model": "a", "step": 1})
    assert "seed: 2" in (tmp_path / "r" / "config.yaml").read_text()
    with pytest.raises(ConfigError, match="holds a finished run"), open_run(start(tmp_path / "r", seed=3), "job.py"):
        pass


def test_a_run_that_is_older_than_a_setting_is_resumed_while_the_setting_is_at_its_default(tmp_path):
    class Newer(Settings):
        added: int = 3

    with pytest.raises(KeyboardInterrupt), open_run(start(tmp_path / "r", seed=7), "job.py"):
        raise KeyboardInterrupt
    with (
        pytest.raises(ConfigError, match="added: was 3, is 4"),
        open_run(Newer(output_dir=str(tmp_path / "r"), resume=True, seed=7, added=4), "job.py"),
    ):
        pass
    with open_run(Newer(output_dir=str(tmp_path / "r"), resume=True, seed=7), "job.py") as run:
        assert not run.finished


def test_who_is_interrupted_while_a_base_is_made_is_told_of_the_run_alone(tmp_path, caplog):
    caplog.set_level("INFO", "ftkit")
    with (
        pytest.raises(KeyboardInterrupt),
        open_run(Settings(output_dir=str(tmp_path / "run")), __file__),
        open_run(Settings(output_dir=str(tmp_path / "base")), __file__),
    ):
        raise KeyboardInterrupt
    said = [record.getMessage() for record in caplog.records if "continue with" in record.getMessage()]
    assert said == [f"continue with: ftkit resume {tmp_path / 'run'}"]


def test_a_run_that_is_done_says_so_when_it_is_resumed(tmp_path, caplog):
    with open_run(Settings(output_dir=str(tmp_path / "run")), __file__):
        pass
    caplog.set_level("INFO", "ftkit")
    with open_run(Settings(output_dir=str(tmp_path / "run"), resume=True), __file__) as run:
        assert run.finished
    assert "done already" in caplog.text


def test_a_run_folder_of_an_older_version_is_refused_in_one_sentence(tmp_path):
    with open_run(start(tmp_path / "r"), "job.py"):
        pass
    file = tmp_path / "r" / "manifest.json"
    manifest = json.loads(file.read_text()) | {"status": "interrupted"}
    manifest["versions"]["ftkit"] = "0.1.0"
    file.write_text(json.dumps(manifest))
    refused = pytest.raises(ConfigError, match=r"run folders of ftkit 0\.1\.0 cannot be resumed; start a new run$")
    with refused, open_run(start(tmp_path / "r", resume=True), "job.py"):
        pass
