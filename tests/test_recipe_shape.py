"""Recipes stay short, differ from each other, and a new one is one file."""

import ast
import difflib
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ftkit.config import Settings, find_recipe, list_entries
from ftkit.config.catalogue import entry_paths

RECIPES = {name: path for name, path in entry_paths().items() if path.suffix == ".py"}
LONGEST_BODY = 80
"""Lines of ``main``: more does not fit on a screen."""
ALIKE = 0.2
"""Share of lines that two recipes may have in common; above it a third copy would be a part of ftkit."""


def code_lines(path: Path) -> list[str]:
    """Lines with a word in them, without docstrings and comments."""
    source = path.read_text(encoding="utf-8")
    texts = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            texts |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    numbered = enumerate((line.strip() for line in source.splitlines()), 1)
    return [line for number, line in numbered if number not in texts and re.match(r".*\w", line.partition("#")[0])]


@pytest.mark.parametrize("name", RECIPES)
def test_the_body_of_a_recipe_fits_on_a_screen(name):
    [main] = [node for node in ast.parse(RECIPES[name].read_text()).body if getattr(node, "name", "") == "main"]
    assert isinstance(main, ast.FunctionDef)
    assert 10 < (main.end_lineno or 0) - main.lineno + 1 <= LONGEST_BODY


def test_no_two_recipes_have_more_than_a_fifth_of_their_lines_in_common():
    assert len(RECIPES) >= 11
    lines = {name: code_lines(path) for name, path in RECIPES.items()}
    pairs = {
        (a, b): difflib.SequenceMatcher(None, lines[a], lines[b], autojunk=False).ratio()
        for a, b in itertools.combinations(RECIPES, 2)
    }
    assert {pair: ratio for pair, ratio in pairs.items() if ratio > ALIKE} == {}


TOY = '''"""How many windows of its text does a toy see? (a test)"""

from ftkit.recipe import OneTextSettings, RunFolder, launch, recipe


class ToySettings(OneTextSettings):
    """The shared settings, and a number."""

    FAST = {**OneTextSettings.FAST, "max_steps": 2, "toy_factor": 3}

    toy_factor: int = 2
    """Factor of the toy."""


@recipe
def main(settings: ToySettings, run: RunFolder) -> None:
    """Text, training, evidence."""
    from ftkit.jobs import finish, measure_models, prepare_target, prepare_tuning, train_model

    target = prepare_target(settings, settings.corpus, run)
    trainable, new_model = prepare_tuning(target.start, run, target.settings)
    train_model(run, "toy", new_model, target.training_text, target.settings)
    measured = measure_models(target, run, {"toy": trainable})
    finish(run, measured.as_dict() | {"finding": f"the factor is {settings.toy_factor}"}, measured.verdicts)


if __name__ == "__main__":
    launch(main)
'''


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_recipe_is_one_file_and_appears_everywhere(tmp_path, monkeypatch):
    recipes = tmp_path / "recipes"
    (recipes / "configs").mkdir(parents=True)
    (recipes / "toy.py").write_text(TOY)
    monkeypatch.setattr("ftkit.config.catalogue.recipes_folder", lambda: recipes)
    assert find_recipe("toy") == recipes / "toy.py"
    [entry] = list_entries()
    assert (entry.name, entry.kind) == ("toy", "recipe")
    assert entry.question.startswith("How many windows")

    program = str(recipes / "toy.py")
    assert "Factor of the toy." in run(program, "--help")
    folder = tmp_path / "run"
    small = ["--fast", "--use_cpu", "--model", "new:ftkit_gpt2", "--output_dir", str(folder)]
    printed = run("-m", "ftkit", "run", program, *small)
    assert "the factor is 3" in printed
    assert {"evidence.json", "verdict.json", "report.html"} <= {path.name for path in folder.iterdir()}
    assert set(json.loads((folder / "verdict.json").read_text())) == {"toy"}
    assert "the factor is 3" in (folder / "report.html").read_text()
    assert "the factor is 3" in run("-m", "ftkit", "report", str(folder))
    assert "the factor is 3" in run("-m", "ftkit", "resume", str(folder))


def test_a_finished_recipe_is_announced_and_not_run_again(tmp_path, monkeypatch):
    from ftkit import recipe as frame

    calls = []

    @frame.recipe
    def main(settings: Settings, run: frame.RunFolder) -> None:
        calls.append(run.path)
        run.write_json("verdict.json", {})

    monkeypatch.setattr("ftkit.report.announce", lambda run, *sections: calls.append("announced"))
    settings = Settings(output_dir=str(tmp_path / "run"))
    main(settings)
    main(settings.model_copy(update={"resume": True}))
    assert calls == [tmp_path / "run", "announced"]
