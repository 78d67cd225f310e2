"""A talk as users start it: what two models said stands in every file alike."""

import csv
import json
from pathlib import Path

import pytest

from ftkit.config import find_recipe, resolve
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.resolve import read_flags
from ftkit.lab.sections import DIALOGUE
from ftkit.report.figures import draw_csv


def run_dialogue(folder: Path, *flags: str) -> Path:
    module = load_recipe(find_recipe("dialogue"))
    settings_class = main_settings(module.main)
    settings = resolve(settings_class, "dialogue", read_flags(settings_class, [*flags, "--use_cpu"])).settings
    module.main(settings.model_copy(update={"output_dir": str(folder)}))
    return folder


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_dialogue(tmp_path_factory.mktemp("runs") / "talk", "--fast", "--max_steps", "4")


def turns_of(run: Path) -> list[dict]:
    return json.loads((run / "evidence.json").read_text(encoding="utf-8"))["dialogue"]["turns"]


def test_the_transcript_is_the_opening_and_all_turns(talk: Path) -> None:
    found = json.loads((talk / "evidence.json").read_text(encoding="utf-8"))["dialogue"]
    said = "".join(turn["text"] for turn in found["turns"])
    assert (talk / "transcript.txt").read_text(encoding="utf-8") == f"{found['opening']}{said}\n"


def test_the_figure_has_a_point_for_every_turn_and_is_on_the_page(talk: Path) -> None:
    path = talk / "figures" / "talk_entropy.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["model"], int(row["step"]), float(row["value"])) for row in csv.DictReader(file)]
    assert rows == [(turn["speaker"], number, turn["entropy"]) for number, turn in enumerate(turns_of(talk), 1)]
    speakers = sorted({row[0] for row in rows})
    assert draw_csv(path, speakers[::-1], DIALOGUE) != draw_csv(path, speakers, DIALOGUE)
    page = (talk / "report.html").read_text(encoding="utf-8")
    assert 'id="talk_entropy-' in page
    assert "no verdict yet" not in page


def test_speakers_that_are_finished_models_are_told_apart_in_the_figure(talk: Path, tmp_path: Path) -> None:
    models = sorted(folder for folder in (talk / "models").iterdir() if folder.is_dir())
    flags = [part for name, folder in zip("ab", models, strict=True) for part in ("--speakers", f"{name}={folder}")]
    again = run_dialogue(tmp_path / "again", *flags, "--rounds", "2", "--new_tokens", "6", "--opening", "The")
    svg = (again / "figures" / "talk_entropy.svg").read_text(encoding="utf-8")
    assert [turn["speaker"] for turn in turns_of(again)] == ["a", "b", "a", "b"]
    assert "#0072b2" in svg.lower()
    assert "#d55e00" in svg.lower()
