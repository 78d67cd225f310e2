"""A measure added in one file is in every output; without a measure's file it is in none, and all else runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ftkit.evidence import all_measures

ROOT = Path(__file__).parents[2]
ANCHORS = {"general": {"forgetting"}, "training_text": {"training-text"}, "word_order": {"word-order"}}
"""Anchors on the page, where they are not the measure's name."""
NOT_IN_PRETRAIN = {
    "answers",
    "content",
    "few_shot",
    "form",
    "general",
    "memorization",
    "own_prompts",
    "style",
    "training_text",
    "word_order",
}
"""A run of pretrain has no general text, no judge, no second look at its text, and a base that knows no word order."""
CARD = "from ftkit.hub.card import model_card; print(model_card('run/models/model'))"


def outputs(folder: Path, package: Path) -> dict[str, str]:
    """Everything that a run of pretrain shows, by file, with some folder first on the path."""
    variables = os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-m", "ftkit", "run", "pretrain", "--fast", "--max_steps", "3", "--output_dir", "run"]
    done = subprocess.run(run, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    card = subprocess.run([sys.executable, "-c", CARD], cwd=folder, env=variables, capture_output=True, text=True)
    assert card.returncode == 0, card.stderr[-2000:]
    files = {name: (folder / "run" / name).read_text() for name in ("evidence.json", "verdict.json", "report.html")}
    return files | {"printed": done.stdout + done.stderr, "card": card.stdout}


def test_the_measure_of_the_docs_is_in_every_output(tmp_path: Path) -> None:
    page = (ROOT / "docs/own_measure.md").read_text(encoding="utf-8")
    source, entry = re.findall(r"```(?:python|toml)\n(.*?)```", page, re.DOTALL)
    plugin = tmp_path / "plugin"
    (plugin / "sentence_length-1.dist-info").mkdir(parents=True)
    (plugin / "sentence_length.py").write_text(source)
    name, place = re.search(r"^(\w+) = \"(.*)\"$", entry, re.MULTILINE).groups()
    (plugin / "sentence_length-1.dist-info/entry_points.txt").write_text(f"[ftkit.measures]\n{name} = {place}\n")
    (plugin / "sentence_length-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: x\nVersion: 1\n")
    assert len([line for line in source.splitlines() if line.strip()]) < 50
    found = outputs(tmp_path, plugin)
    evidence = json.loads(found["evidence.json"])["models"]["model"]["measures"]["sentence_length"]
    assert evidence["tuned"]["value"] > 0
    verdict = json.loads(found["verdict.json"])["model"]
    assert any(reason.startswith("its sentences have") for reason in verdict["reasons"])
    assert verdict["thresholds"]["longest_sentence"] == 4.0
    assert "its sentences have" in found["printed"]
    for shown in ('id="sentence_length"', "Are its sentences as long as real ones?", "longest_sentence"):
        assert shown in found["report.html"]
    assert "| words in a sentence |" in found["card"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The outputs with all measures."""
    return outputs(tmp_path_factory.mktemp("whole"), ROOT)


GROUPS = [all_measures()[first::4] for first in range(4)]
"""Measures whose files are deleted together: one run then tells of several."""


@pytest.mark.parametrize("gone", GROUPS, ids=lambda gone: "+".join(each.name for each in gone))
def test_without_the_files_of_measures_all_else_runs(gone, whole: dict[str, str], tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(ROOT / "ftkit", package / "ftkit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "recipes", package / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    for measure in gone:
        (package / "ftkit" / "evidence" / "measures" / f"{measure.name}.py").unlink()
    found = outputs(tmp_path, package)
    evidence = json.loads(found["evidence.json"])["models"]["model"]
    kept = [each.name for each in all_measures() if each not in gone]
    assert list(evidence["measures"]) == kept
    result = json.loads(found["verdict.json"])["model"]
    assert result["verdict"]
    for measure in gone:
        own = {each.name for each in thresholds_of(measure.name)}
        assert not own & set(result["thresholds"])
        anchors = ANCHORS.get(measure.name, {measure.name})
        assert anchors <= set(re.findall(r'id="([\w-]+)"', whole["report.html"])) or measure.name in NOT_IN_PRETRAIN
        assert not anchors & set(re.findall(r'id="([\w-]+)"', found["report.html"]))


def thresholds_of(measure: str) -> list:
    """The thresholds that one measure asks for."""
    from dataclasses import fields

    from ftkit.evidence import Thresholds

    return [each for each in fields(Thresholds) if each.metadata.get("of") == measure]
