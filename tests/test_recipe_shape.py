"""Recipes stay short and differ from each other."""

import ast
import difflib
import itertools
import re
from pathlib import Path

import pytest

from ftkit.config import Settings
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
