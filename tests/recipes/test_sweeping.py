"""Studies as users start them: points that equal the runs alone, failures, kills, and what may be said of the arms."""

import csv
import hashlib
import json
import signal
import time
from pathlib import Path

import pytest
from processes import Running
from scipy import stats
from typer.testing import CliRunner, Result

from ftkit.cli import app

SMALL = [
    "--fast", "--use_cpu", "--model", "new:gpt2", "--max_steps", "6", "--window_tokens", "64", "--num_passages", "8",
    "--passage_chars", "40", "--eval_steps", "3", "--sample_steps", "6", "--save_steps", "2", "--eval_windows", "4",
]  # fmt: skip
SWEEP = ["--sweep", "learning_rate=1e-2,1e-3", "--seeds", "1,2"]


def ftkit(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def weights(run: Path) -> str:
    return hashlib.sha256((run / "models" / "model" / "model.safetensors").read_bytes()).hexdigest()


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rates, two seeds."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    done = ftkit("run", "pretrain", *SMALL, *SWEEP, "--output_dir", folder)
    assert done.exit_code == 0, done.output
    return folder


def test_a_point_is_bit_for_bit_the_run_alone(study, tmp_path):
    alone = tmp_path / "alone"
    done = ftkit("run", "pretrain", *SMALL, "--learning_rate", 1e-3, "--seed", 2, "--output_dir", alone)
    assert done.exit_code == 0, done.output
    assert weights(study / "points" / "learning_rate=0.001-seed2") == weights(alone)
    assert len({weights(point) for point in (study / "points").iterdir()}) == 4


def test_the_table_is_the_mean_and_the_interval_of_the_points(study):
    found = json.loads((study / "study.json").read_text())
    table = {row["arm"]: row for row in rows(study / "study.csv")}
    bits: dict[str, list[float]] = {"learning_rate=0.01": [], "learning_rate=0.001": []}
    for arm, values in bits.items():
        for seed in (1, 2):
            evidence = json.loads((study / "points" / f"{arm}-seed{seed}" / "evidence.json").read_text())
            values.append(evidence["models"]["model"]["heldout"]["tuned"]["value"])
        low, high = stats.t.interval(0.95, 1, sum(values) / 2, stats.sem(values))
        got = [float(table[arm][f"bits_per_byte_{part}"]) for part in ("mean", "low", "high")]
        assert got == pytest.approx([sum(values) / 2, low, high])
        assert table[arm]["n"] == "2"
    pair = next(iter(found["pairs"]))
    oracle = stats.ttest_rel(bits[pair["first"]], bits[pair["second"]]).confidence_interval()
    assert [pair["low"], pair["high"]] == pytest.approx([oracle.low, oracle.high])
    assert pair["tie"] == (oracle.low <= 0 <= oracle.high)


def test_a_study_leaves_a_table_figures_with_their_data_and_a_page(study):
    drawn = {path.name for path in (study / "figures").iterdir()}
    for name in ("study_heldout", "study_train_loss", "study_metric"):
        assert {f"{name}.csv", f"{name}.svg", f"{name}.png"} <= drawn
    page = (study / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert 'href="points/learning_rate%3D0.01-seed1/report.html"' in page
    first = [row for row in rows(study / "figures" / "study_train_loss.csv") if row["model"] == "learning_rate=0.01"]
    assert [int(row["step"]) for row in first] == list(range(1, 7))


def test_resuming_a_finished_study_changes_nothing(study):
    before = files(study)
    done = ftkit("resume", study)
    assert done.exit_code == 0, done.output
    assert files(study) == before
    again = ftkit("run", "pretrain", *SMALL, *SWEEP, "--output_dir", study)
    assert again.exit_code == 2
    assert files(study) == before


def test_a_study_with_other_settings_is_not_resumed(study):
    done = ftkit("run", "pretrain", *SMALL, "--sweep", "learning_rate=1e-2,1e-4", "--resume", "--output_dir", study)
    assert done.exit_code == 2


def test_a_point_that_diverges_is_recorded_and_the_others_run(tmp_path):
    folder = tmp_path / "study"
    done = ftkit("run", "pretrain", *SMALL, "--sweep", "learning_rate=1e30,1e-3", "--output_dir", folder)
    assert done.exit_code == 0
    found = json.loads((folder / "study.json").read_text())
    assert {point["name"]: point["status"] for point in found["points"]} == {
        "learning_rate=1e+30": "diverged",
        "learning_rate=0.001": "done",
    }
    assert "the loss is" in found["points"][0]["error"]
    assert [arm["arm"] for arm in found["arms"]] == ["learning_rate=0.001"]
    before = files(folder)
    assert ftkit("resume", folder).exit_code == 0
    assert files(folder) == before


def test_when_all_points_diverge_the_study_has_diverged(tmp_path):
    folder = tmp_path / "study"
    argv = ["run", "pretrain", *SMALL, "--sweep", "learning_rate=1e30,1e31", "--output_dir", folder]
    assert ftkit(*argv).exit_code == 5
    assert ftkit("resume", folder).exit_code == 5
    assert "No point has a result" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_point_that_cannot_run_is_tried_again_on_resume(tmp_path):
    text = tmp_path / "text.txt"
    config = tmp_path / "study.yaml"
    config.write_text(f"recipe: pretrain\narms:\n  missing: {{corpus: {text}}}\n  there: {{}}\n")
    folder = tmp_path / "study"
    assert ftkit("run", config, *SMALL, "--output_dir", folder).exit_code == 4
    assert (folder / "points" / "there" / "report.html").exists()
    there = weights(folder / "points" / "there")
    text.write_text(("One more line of a text that can be read and learned, number {}.\n" * 400).format(*range(400)))
    assert ftkit("resume", folder).exit_code == 0
    assert weights(folder / "points" / "there") == there
    statuses = [point["status"] for point in json.loads((folder / "study.json").read_text())["points"]]
    assert statuses == ["done", "done"]


def test_a_study_that_was_killed_goes_on_and_ends_the_same(study, tmp_path):
    folder = tmp_path / "study"
    sweep = [*SWEEP[:2], "--seeds", "1"]
    process = Running(
        "-m", "ftkit", "run", "pretrain", *SMALL, *sweep, "--output_dir", folder, ACCELERATE_USE_CPU="true"
    )
    second = folder / "points" / "learning_rate=0.001" / "metrics.jsonl"
    limit = time.monotonic() + 120
    while not (second.exists() and '"step": 3,' in second.read_text()) and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "study.json").exists()
    first = files(folder / "points" / "learning_rate=0.01")
    assert ftkit("resume", folder).exit_code == 0
    assert files(folder / "points" / "learning_rate=0.01") == first
    for point in (folder / "points").iterdir():
        assert weights(point) == weights(study / "points" / f"{point.name}-seed1")
