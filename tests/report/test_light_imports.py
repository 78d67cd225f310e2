"""Packages load their names when they are used, and the report needs no torch, scikit-learn and transformers."""

import subprocess
import sys
from importlib import import_module
from inspect import ismodule
from pathlib import Path

import pytest
from report_runs import write_run

from ftkit.lazy import load_names_lazily

LAZY = ["ftkit.data", "ftkit.evidence", "ftkit.training", "ftkit.tuning"]
BLOCKED = """
import importlib, json, pkgutil, sys
from pathlib import Path

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "sklearn", "transformers"):
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Blocked())
"""
IMPORT_ALL = """
import ftkit.report
modules = [module.name for module in pkgutil.iter_modules(ftkit.report.__path__)]
for name in modules:
    importlib.import_module(f"ftkit.report.{name}")
print(len(modules))
"""
WRITE = """
from ftkit.report import announce, write_report
from ftkit.runs import RunFolder
folder = Path(sys.argv[1])
run = RunFolder(folder, "imitate", json.loads((folder / "manifest.json").read_text(encoding="utf-8")), is_main=True)
announce(run)
print(write_report(run))
"""


def run_blocked(code: str, *arguments: str) -> str:
    """What a program prints that cannot import torch, scikit-learn and transformers."""
    command = [sys.executable, "-c", BLOCKED + code, *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_no_module_of_the_report_loads_torch_or_scikit_learn() -> None:
    assert int(run_blocked(IMPORT_ALL)) > 15


def test_a_report_is_written_without_torch_and_scikit_learn(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert run_blocked(WRITE, str(run.path)) == str(run.path / "report.html")
    assert (run.path / "figures" / "heldout_bits.png").is_file()


def test_a_planted_import_of_torch_is_caught() -> None:
    with pytest.raises(AssertionError, match="torch is imported"):
        run_blocked("from ftkit.training import Engine")


@pytest.mark.parametrize("package", LAZY)
def test_every_name_of_a_lazy_package_is_there_and_no_module(package: str) -> None:
    module = import_module(package)
    assert len(module.__all__) > 10
    assert [name for name in module.__all__ if ismodule(getattr(module, name))] == []
    assert set(module.__all__) <= set(dir(module))


def test_a_function_is_found_after_the_module_of_its_name() -> None:
    module = import_module("ftkit.evidence.copying")
    assert module.copying is import_module("ftkit.evidence").copying


def test_an_unknown_name_is_an_error_and_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_package").mkdir()
    (tmp_path / "toy_package" / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fractions import Fraction\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    toy = import_module("toy_package")
    load_names_lazily("toy_package")
    assert toy.Fraction(1, 2) == 0.5
    with pytest.raises(AttributeError, match="module 'toy_package' has no attribute 'Decimal'"):
        _ = toy.Decimal
