"""A new recipe is one file: it is listed, launched, resumed and reported like the others."""

import json
import subprocess
import sys

from ftkit.config import find_recipe, list_entries

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
