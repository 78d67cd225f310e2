"""The models of a run's folder, the bases that ship with ftkit, and the base that an adapter's folder names."""

import json
from pathlib import Path
from typing import Any

from ftkit.config.yaml_files import read_yaml
from ftkit.errors import ConfigError, ModelError

__all__ = [
    "SERVING_MODELS",
    "SHIPPED_BASES",
    "base_of_adapter",
    "base_of_run",
    "model_kind",
    "model_of_run",
    "named_base",
    "place_of_base",
    "shipped_base",
    "trained_on_text",
]

SHIPPED_BASES = Path(__file__).resolve().parents[1] / "bases"
"""Folder of the models that ``base:NAME`` names without making them; ``scripts/make-base`` writes it."""

SERVING_MODELS = ("base", "judge", "judge_twin")
"""Models that a run keeps for its own use; they are chosen only where they are named."""


def shipped_base(spec: str) -> Path | None:
    """Return the folder of a base that ships with ftkit, such as ``base:tales``; ``None`` for any other spec."""
    scheme, _, name = spec.partition(":")
    folder = SHIPPED_BASES / name
    return folder if scheme == "base" and name.isidentifier() and (folder / "config.json").is_file() else None


def model_of_run(spec: str, *, classifier: bool | None) -> str:
    """Return the folder of the one model that fits in a run's folder, or of a shipped base; any other spec as it is.

    Args:
        spec: A model or a run, as the user names it.
        classifier: Whether a classifier is wanted, or a language model; ``None`` for either.

    Raises:
        ModelError: A run's folder in which no model fits, or several do; it names them.
    """
    if shipped := shipped_base(spec):
        return str(shipped)
    folder = Path(spec).expanduser()
    if (folder / "config.json").exists() or not (folder / "manifest.json").is_file():
        return spec
    models = {
        path.name: model_kind(path) == "classifier" for path in sorted((folder / "models").glob("*")) if path.is_dir()
    }
    fitting = [name for name, classifies in models.items() if classifier in (None, classifies)]
    fitting = [name for name in fitting if name not in SERVING_MODELS] or fitting
    if len(fitting) == 1:
        return str(folder / "models" / fitting[0])
    wanted = {None: "model", True: "classifier", False: "language model"}[classifier]
    if fitting:
        listed = ", ".join(str(folder / "models" / name) for name in fitting)
        raise ModelError(f"{spec}: is the folder of a run with {len(fitting)} {wanted}s; name one of them: {listed}")
    held = f"; it holds {', '.join(f'models/{name}' for name in models)}" if models else ", and no other model either"
    raise ModelError(f"{spec}: is the folder of a run without a {wanted}{held}; give the folder of a {wanted}")


def _settings_of_run(model: str) -> dict[str, Any]:
    """The settings of the run that made a model; none where it lies in no run's folder."""
    folder = Path(model).expanduser().resolve()
    config = folder.parent.parent / "config.yaml"
    if folder.parent.name != "models" or not config.is_file():
        return {}
    try:
        return read_yaml(config).values
    except ConfigError:
        return {}


def trained_on_text(model: str) -> bool:
    """Whether a run made a model of plain text, which it continues, and not of examples, which it answers.

    Args:
        model: A model's folder; only one in a run's folder tells.
    """
    settings = _settings_of_run(model)
    return bool(settings.get("corpus") or settings.get("corpora")) and not settings.get("examples")


def base_of_run(model: str) -> str | None:
    """Return what a run's model began as: the base that the run kept, else its ``model`` setting.

    Args:
        model: A model's folder.

    Returns:
        A folder, a Hub id, ``new:...`` or ``base:CONFIG``; ``None`` where no run made the model.
    """
    kept = Path(model).expanduser().resolve().parent / "base"
    started = _settings_of_run(model).get("model")
    return str(kept) if started and kept.is_dir() else started


def model_kind(folder: Path) -> str:
    """What a model's files say that it is: ``classifier``, ``encoder`` or ``language model``.

    Args:
        folder: The folder of a model or of an adapter.
    """
    config, adapter = (_mapping(folder / name) for name in ("config.json", "adapter_config.json"))
    named = " ".join(map(str, config.get("architectures") or []))
    if "SequenceClassification" in named or (not config and adapter.get("task_type") == "SEQ_CLS"):
        return "classifier"
    return "encoder" if "MaskedLM" in named else "language model"


def _mapping(path: Path) -> dict[str, Any]:
    """A JSON file that is there and whole; what is wrong with another is said by whoever loads the model."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


_CONFIG, _RECORD = "adapter_config.json", "base.json"


def base_of_adapter(folder: Path) -> tuple[str, str | None]:
    """The base that an adapter names: a folder or a Hub id, and its revision.

    Args:
        folder: The adapter's folder.

    Raises:
        ModelError: Files that cannot be read, no name in them, or a relative path to a folder that is not there.
    """
    revision = _values(folder).get("revision")
    return place_of_base(folder, named_base(folder)), str(revision) if revision else None


def named_base(folder: Path) -> str:
    """The base that an adapter names, in its words.

    Args:
        folder: The adapter's folder.

    Raises:
        ModelError: Files that cannot be read, or no name in them.
    """
    values = _values(folder)
    named = values.get("base", values.get("base_model_name_or_path"))
    if not named or not isinstance(named, str):
        raise ModelError(
            f"The adapter {folder} names no base model; write base_model_name_or_path into its adapter_config.json, or"
            " name the base with --base or adapter_base"
        )
    return named


def _values(folder: Path) -> dict[str, Any]:
    """What both files say; ftkit's own counts first."""
    return _read(folder / _CONFIG) | (_read(folder / _RECORD) if (folder / _RECORD).is_file() else {})


def place_of_base(folder: Path, named: str) -> str:
    """A base beside the adapter as a folder; anything else as it is named.

    A relative path never counts from the working directory, where another folder may have that name.

    Args:
        folder: The adapter's folder.
        named: What it says.

    Raises:
        ModelError: A relative path to a folder that is not there.
    """
    place = folder / named
    if place.exists():
        return str(place.resolve())
    if named.startswith("."):
        raise ModelError(
            f"The adapter {folder} names its base {named!r}, which is not there (it counts from the adapter). Keep the"
            " two folders together, write the base's place or Hub id into base.json, or name it with --base or"
            " adapter_base."
        )
    return named


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return dict(values)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"The adapter {path.parent} cannot be read: {path.name}: {error!r}") from error
