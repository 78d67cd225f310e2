"""Every recipe and every configuration, tiny and offline, as a user would start it."""

from pathlib import Path

import pytest
from processes import python

from ftkit.config import list_entries

REFERENCE_RUNS = (
    "pretrain_model1", "pretrain_model5", "dropout_lasttoken", "like_x_scratch", "gulliver_ft", "gulliver_lr",
    "x_factor", "alice_edgar", "quantify", "chat", "freeze_gulliver", "targeted_freeze", "codegen_calculus",
    "imdb_freeze", "imdb_clip_sched", "author_judge", "style_evolution",
)  # fmt: skip
"""Rows of the course's table of runs; each has a configuration with its numbers, and one for two cores."""


@pytest.mark.parametrize("name", [entry.name for entry in list_entries()])
def test_fast_runs_to_its_report(name: str, tmp_path: Path):
    done = python("-m", "ftkit", "run", name, "--fast", "--output_dir", tmp_path / "run", timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_every_reference_run_has_its_numbers_and_a_size_for_two_cores():
    configs = {entry.name: entry for entry in list_entries() if entry.kind == "config"}
    assert len(REFERENCE_RUNS) == 17
    for name in REFERENCE_RUNS:
        assert {name, f"{name}_small"} <= configs.keys(), name
        assert configs[name].recipe == configs[f"{name}_small"].recipe
        for size in (name, f"{name}_small"):
            text = configs[size].path.read_text(encoding="utf-8")
            assert text.startswith("# "), size
            assert any(lesson in text for lesson in ("04/", "06/", "07/")), f"{size} names no lesson"
        told = configs[name].path.read_text(encoding="utf-8")
        assert "xpected" in told, f"{name} says nothing of the figure to expect"
