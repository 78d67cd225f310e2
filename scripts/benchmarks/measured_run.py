"""Runs a recipe for real and prints, as the last line, what it took in bytes: the process by phase, and tensors in all.

    python -m benchmarks.measured_run RECIPE [FLAG ...]        (in the folder scripts)

Counted from the moment at which all modules are imported.
"""

import importlib
import json
import sys

from ftkit.cli.plan import find_program
from ftkit.config import resolve
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.resolve import read_flags
from ftkit.jobs.plan import IMPORTED
from ftkit.memory import MemoryMeter
from ftkit.training.memory import peak_memory


def main() -> None:
    """Import, run, print."""
    for name in IMPORTED:
        importlib.import_module(name)
    program, arguments = find_program(sys.argv[1], sys.argv[2:])
    recipe = load_recipe(program).main
    settings_class = main_settings(recipe)
    settings = resolve(settings_class, program.stem, read_flags(settings_class, arguments)).settings
    meter = MemoryMeter()
    with meter.inside(), peak_memory() as tensors:
        recipe(settings)
    print(json.dumps({"phases": meter.peaks, "rss": max(meter.peaks.values()), "tensors": tensors.num_bytes}))


if __name__ == "__main__":
    main()
