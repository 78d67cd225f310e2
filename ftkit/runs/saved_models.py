"""The models that lie in a run's folder, for commands that take a model or a run."""

import json
from pathlib import Path
from typing import Any

from ftkit.errors import ModelError

__all__ = ["model_of_run"]

_SERVING = ("base", "judge", "judge_twin")
"""Models that a run keeps for its own use; they are chosen only where they are named."""


def model_of_run(spec: str, *, classifier: bool) -> str:
    """Return the folder of the one model that fits in a run's folder; any other spec as it is.

    Args:
        spec: A model or a run, as the user names it.
        classifier: Whether a classifier is wanted, or a language model.

    Raises:
        ModelError: A run's folder in which no model fits, or several do; it names them.
    """
    folder = Path(spec).expanduser()
    if (folder / "config.json").exists() or not (folder / "manifest.json").is_file():
        return spec
    models = {path.name: _is_classifier(path) for path in sorted((folder / "models").glob("*")) if path.is_dir()}
    fitting = [name for name, classifies in models.items() if classifies == classifier]
    fitting = [name for name in fitting if name not in _SERVING] or fitting
    if len(fitting) == 1:
        return str(folder / "models" / fitting[0])
    wanted = "classifier" if classifier else "language model"
    if fitting:
        listed = ", ".join(str(folder / "models" / name) for name in fitting)
        raise ModelError(f"{spec}: is the folder of a run with {len(fitting)} {wanted}s; name one of them: {listed}")
    held = f"; it holds {', '.join(f'models/{name}' for name in models)}" if models else ", and no other model either"
    raise ModelError(f"{spec}: is the folder of a run without a {wanted}{held}; give the folder of a {wanted}")


def _is_classifier(folder: Path) -> bool:
    """Whether the files of a model name a head for classes of texts."""
    config, adapter = (_mapping(folder / name) for name in ("config.json", "adapter_config.json"))
    named = any("SequenceClassification" in str(name) for name in config.get("architectures") or [])
    return named or (not config and adapter.get("task_type") == "SEQ_CLS")


def _mapping(path: Path) -> dict[str, Any]:
    """A JSON file that is there and whole; what is wrong with another is said by whoever loads the model."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
