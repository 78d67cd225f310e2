"""Marks that transformers' own tests carry; see test_transformers_common.py."""

import importlib.util
import os
import re
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    folder = os.environ.get("FTKIT_TRANSFORMERS_TESTS")
    if not folder:
        return
    package = importlib.util.find_spec("transformers")
    assert package is not None
    assert package.origin is not None
    sources = (Path(folder) / "test_modeling_common.py", Path(package.origin).parent / "testing_utils.py")
    for name in sorted({name for source in sources for name in re.findall(r"\bmark\.(\w+)", source.read_text())}):
        config.addinivalue_line("markers", f"{name}: a mark of transformers' tests")
