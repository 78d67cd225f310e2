"""Recipes run in this process, with settings as a command line would give them."""

import json
from pathlib import Path
from typing import Any

from ftkit.config import find_recipe, resolve
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.resolve import read_flags


def settings_of(recipe: str, **values: object) -> Any:
    """The settings of ``ftkit run RECIPE --fast --use_cpu --name value ...``."""
    settings_class = main_settings(load_recipe(find_recipe(recipe)).main)
    flags = [part for key, value in values.items() for part in (f"--{key}", str(value))]
    return resolve(settings_class, recipe, read_flags(settings_class, ["--fast", "--use_cpu", *flags])).settings


def run_recipe(recipe: str, folder: Path, **values: object) -> Path:
    """Run it to its end; returns its folder."""
    settings = settings_of(recipe, **values).model_copy(update={"output_dir": str(folder)})
    load_recipe(find_recipe(recipe)).main(settings)
    return folder


def read(run: Path, name: str) -> dict[str, Any]:
    """A JSON file of a run."""
    found: dict[str, Any] = json.loads((run / name).read_text(encoding="utf-8"))
    return found


def lines(run: Path, name: str) -> list[dict[str, Any]]:
    """The objects of a run's JSONL file."""
    return [json.loads(line) for line in (run / name).read_text(encoding="utf-8").splitlines()]
