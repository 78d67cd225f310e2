"""Runs that were made one by one, compared afterwards from their folders."""

import json
import re
from pathlib import Path

import pytest
from report_runs import around, evidence_of, write_run
from typer.testing import CliRunner

from ftkit.cli import app
from ftkit.errors import CheckpointError
from ftkit.runs import read_evidence, read_run, write_evidence


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two runs that differ in their rate and in what came out."""
    made = []
    for name, rate, bits in (("slow", 1e-5, 2.3), ("fast", 1e-4, 2.0)):
        evidence = evidence_of(heldout__tuned=around(bits, 0.02))
        run = write_run(tmp_path / name, {"alice": evidence}, settings={"learning_rate": rate, "output_dir": name})
        run.update_manifest(status="done")
        made.append(run.path)
    return made


def report(*arguments: object) -> tuple[int, str]:
    """The command's exit code and what it said."""
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    return result.exit_code, result.output


def test_runs_stand_side_by_side_with_what_differs_in_their_names(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said = report(*runs, "--out", out)
    assert code == 0
    found = json.loads((out / "study.json").read_text())
    best = {arm["arm"]: arm["values"]["bits_per_byte"]["mean"] for arm in found["arms"]}
    assert best == {"slow (learning_rate=1e-05)": 2.3, "fast (learning_rate=0.0001)": 2.0}
    (pair,) = found["pairs"]
    assert pair["difference"] == pytest.approx(0.3)
    assert "fast (learning_rate=0.0001) is best" in said
    page = (out / "report.html").read_text()
    assert 'href="../slow/report.html"' in page
    assert "same batches" not in page


def test_a_run_of_another_text_and_one_without_numbers_are_named(runs: list[Path], tmp_path: Path) -> None:
    other = write_run(
        tmp_path / "other", {"alice": evidence_of()}, settings={"corpora": {"alice": "b.txt"}, "learning_rate": 1e-4}
    )
    other.update_manifest(status="done")
    bare = write_run(tmp_path / "bare", {"alice": evidence_of()}, settings={"experiments": ["softmax"]})
    bare.update_manifest(status="done")
    (bare.path / "evidence.json").unlink()
    (bare.path / "metrics.jsonl").write_text("")
    code, said = report(*runs, other.path, bare.path, "--out", tmp_path / "out")
    assert code == 0
    assert "Without held-out bits per byte, and so not in the table: bare" in said
    assert "the runs differ in corpora: loss on different texts does not compare" in said
    assert "experiments" not in said


def test_one_run_is_drawn_again(runs: list[Path]) -> None:
    code, said = report(runs[0])
    assert code == 0
    assert "alice: " in said
    assert (runs[0] / "report.html").stat().st_size > 10_000


def test_a_run_shows_itself_in_a_notebook(runs: list[Path]) -> None:
    run = read_run(str(runs[0]))
    run.write_json("verdict.json", {"<b>alice</b>": {"verdict": "worked", "also": ["forgot"]}})
    shown = run._repr_html_()
    assert '<th style="text-align: left">&lt;b&gt;alice&lt;/b&gt;</th>' in shown
    assert "worked + forgot" in shown
    assert '<td style="text-align: left">done</td>' in shown


def test_a_run_in_a_notebook_links_its_report_and_shows_what_base_and_model_write(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs[0].parent)
    run = read_run(str(runs[0]))
    run.write_json("verdict.json", {"alice": {"verdict": "worked", "also": []}})
    run.write_text("report.html", "<!doctype html>")
    passages = {"base model, alice": ["<i>Noon</i> " * 50], "alice": ["One day"]}
    write_evidence(run, {**read_evidence(run.path), "passages": passages})
    shown = run._repr_html_()
    assert f'<a href="{runs[0].name}/report.html" target="_blank">{runs[0] / "report.html"}</a>' in shown
    assert "base writes" in shown
    assert 0 < shown.count("&lt;i&gt;Noon&lt;/i&gt;") < 30
    assert "<i>" not in shown
    assert re.search(r"alice writes</th><td[^>]*>One day</td>", shown)


def test_a_comparison_is_not_written_into_a_run_and_needs_two(runs: list[Path]) -> None:
    before = (runs[1] / "manifest.json").read_bytes()
    assert report(*runs, "--out", runs[1])[0] == 2
    assert report(runs[0], runs[0])[0] == 2
    assert (runs[1] / "manifest.json").read_bytes() == before


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not the folder of a run"):
        read_run(tmp_path)
    assert report(tmp_path)[0] == 6
