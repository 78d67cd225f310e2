"""Start a script of this folder again with the Python of ``.venv`` where the present one lacks its libraries."""

import importlib.util
import os
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parents[1] / ".venv"
LIBRARIES = ("ftkit", "torch", "yaml")


def lacks_libraries() -> bool:
    """Return whether this Python cannot import what the scripts need."""
    return any(importlib.util.find_spec(name) is None for name in LIBRARIES)


def start_again() -> None:
    """Replace this process by the same script under ``.venv``; without ``.venv``, end with what to do."""
    python = VENV / "bin" / "python"
    if not python.exists() or Path(sys.prefix).resolve() == VENV:
        sys.exit(f"{sys.argv[0]} needs {', '.join(LIBRARIES)}, which {sys.executable} lacks; run scripts/setup first")
    os.execv(python, [str(python), *sys.argv])
