"""Is a folder still what it was when it was sealed? Needs no torch: files are compared with recorded sizes and hashes.

A checkpoint and a model from the Hub carry their record. The manifest of a run records its models, its evidence and
verdict, and its logs once it is done.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftkit.config.yaml_files import read_yaml
from ftkit.errors import CheckpointError, ConfigError
from ftkit.runs.files import file_sha256

__all__ = ["Check", "Item", "check_folder", "folder_record", "record_problem"]

SAFE_SETTINGS = frozenset(
    {
        "output_dir",
        "resume",
        "require_processes",
        "report_to",
        "save_steps",
        "save_total_limit",
        "activation_checkpointing",
        "special_tokens",
    }
)
"""Settings that a resumed run may have otherwise: where it lies, who looks on, which checkpoints are kept, whether
activations are kept or computed again, and by which word special tokens are read, if they are read as before."""
BATCH_SHARES = frozenset({"per_device_train_batch_size", "gradient_accumulation_steps"})
"""Settings by which processes and micro-batches share a batch; a resumed run may have others with the same product."""
LOGS = ("metrics.jsonl", "samples.jsonl")
"""What grows while a run is at work; recorded when it is done."""


@dataclass(frozen=True)
class Item:
    """One thing that was checked."""

    name: str
    """Its path in the folder."""
    problem: str | None
    """``None`` where it is what it should be."""


@dataclass(frozen=True)
class Check:
    """What a check found."""

    folder: Path
    kind: str
    """``run``, ``checkpoint`` or ``model``."""
    items: tuple[Item, ...]

    @property
    def broken(self) -> tuple[Item, ...]:
        """What is not as it should be."""
        return tuple(item for item in self.items if item.problem)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        items = [asdict(item) for item in self.items]
        return {"folder": str(self.folder), "kind": self.kind, "ok": not self.broken, "items": items}


def file_record(file: Path) -> list[Any]:
    """Size and SHA-256 of a file."""
    return [file.stat().st_size, file_sha256(file)]


def folder_record(folder: Path) -> dict[str, list[Any]]:
    """Size and SHA-256 of every file in a folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_record(path) for path in files}


def file_problem(file: Path, size: int | None, sha256: str) -> str | None:
    """How a file differs from what was recorded of it."""
    if not file.is_file():
        return f"{file.name} is missing"
    if size is not None and file.stat().st_size != size:
        return f"{file.name} has {file.stat().st_size:,} bytes instead of {size:,}"
    return None if file_sha256(file) == sha256 else f"{file.name} has changed since it was written"


def record_problem(folder: Path, record: Mapping[str, Any]) -> str | None:
    """The first difference between a folder and its record; files that are not in the record do not count."""
    problems = (file_problem(folder / name, size, sha256) for name, (size, sha256) in record.items())
    return next((problem for problem in problems if problem), None)


def check_folder(folder: Path) -> Check:
    """Check the folder of a run, of a checkpoint or of a model.

    Args:
        folder: A run; ``RUN/checkpoints/PHASE/step-N``; ``RUN/models/NAME``, or what ``ftkit pull`` has made.

    Raises:
        CheckpointError: There is no such folder, or nothing says what should be in it.
    """
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder")
    run = folder.parents[1]
    if (folder / "pulled.json").is_file():
        return Check(folder, "model", tuple(_pulled(folder)))
    if folder.parent.name == "models" and (run / "manifest.json").is_file():
        record = _manifest(run).get("models", {}).get(folder.name)
        if record is None:
            raise CheckpointError(
                f"{folder}: {run / 'manifest.json'} has no hashes of it; its phase was never finished"
            )
        return Check(folder, "model", tuple(_files(folder, record)))
    if folder.name.startswith("step-"):
        return Check(folder, "checkpoint", tuple(_checkpoint(folder)))
    if (folder / "manifest.json").is_file():
        return Check(folder, "run", tuple(_run(folder)))
    raise CheckpointError(
        f"{folder}: nothing says what should be in it: no manifest.json of a run or checkpoint and no pulled.json"
    )


def _manifest(run: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{run / 'manifest.json'}: cannot be read: {error}") from None
    if not isinstance(manifest, dict) or not {"recipe", "phases"} <= manifest.keys():
        raise CheckpointError(f"{run / 'manifest.json'}: is not the manifest of a run")
    return manifest


def _files(folder: Path, record: Mapping[str, Any], prefix: str = "") -> Iterator[Item]:
    for name, (size, sha256) in record.items():
        yield Item(f"{prefix}{name}", file_problem(folder / name, size, sha256))


def _pulled(folder: Path) -> Iterator[Item]:
    try:
        hashes = dict(json.loads((folder / "pulled.json").read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Item("pulled.json", f"cannot be read: {error}")
        return
    yield from _files(folder, {name: (None, sha256) for name, sha256 in hashes.items()})


def checkpoint_record(folder: Path) -> dict[str, Any] | str:
    """Sizes and hashes of the files that a checkpoint was sealed with, or the reason why they are not known."""
    try:
        record = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if not all(isinstance(size, int) and isinstance(sha256, str) for size, sha256 in record.values()):
            return "its manifest cannot be read: sizes and hashes are expected"
    except FileNotFoundError:
        return "it has no manifest.json, so it was never sealed"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"its manifest cannot be read: {error}"
    # In one file, or in one of each process that had something to write.
    with_model = any(name == "model.safetensors" or name.startswith("model-00000-of-") for name in record)
    return record if with_model and "state.json" in record else "its manifest is incomplete"


def _checkpoint(folder: Path, prefix: str = "") -> Iterator[Item]:
    record = checkpoint_record(folder)
    if isinstance(record, str):
        yield Item(f"{prefix}manifest.json", record)
    else:
        yield from _files(folder, record, prefix)


def _run(folder: Path) -> Iterator[Item]:
    manifest = _manifest(folder)
    yield Item("manifest.json", None)
    yield Item("config.yaml", _settings_problem(folder, manifest))
    files = manifest.get("files", {})
    growing = [name for name in LOGS if name not in files and (folder / name).exists()]
    yield from (Item(name, _lines_problem(folder / name)) for name in growing)
    yield from _files(folder, files)
    checkpoints = folder / "checkpoints"
    for path in sorted([*checkpoints.glob("*/step-*"), *checkpoints.glob("*/best/step-*")]):
        yield from _checkpoint(path, f"{path.relative_to(folder).as_posix()}/")
    for name, record in manifest.get("models", {}).items():
        yield from _files(folder / "models" / name, record, f"models/{name}/")
    for point in sorted(path.parent for path in (folder / "points").glob("*/manifest.json")):
        yield from _point(point, f"points/{point.name}/")


def _point(folder: Path, prefix: str) -> Iterator[Item]:
    """One run of a study."""
    try:
        yield from (Item(prefix + item.name, item.problem) for item in _run(folder))
    except CheckpointError as error:
        yield Item(f"{prefix}manifest.json", str(error))


def _settings_problem(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """How ``config.yaml`` differs from the settings that the run was started with."""
    try:
        values = read_yaml(folder / "config.yaml").values
    except ConfigError as error:
        return str(error)
    started = manifest.get("settings", values)
    keys = [key for key in {**started, **values} if key not in SAFE_SETTINGS | BATCH_SHARES | {"recipe"}]
    wrong = [key for key in keys if started.get(key) != values.get(key)]
    if not wrong:
        return None
    differences = "; ".join(setting_difference(key, started.get(key), values.get(key)) for key in wrong)
    return f"is not what the run was started with: {differences}"


def setting_difference(key: str, before: Any, now: Any) -> str:
    """One changed setting in words."""
    return f"{key}: was {before!r}, is {now!r}"


def _lines_problem(path: Path) -> str | None:
    """The first line that is not JSON; the last one may have been cut by a kill, and is left out on a resume."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
    for number, line in enumerate(lines[:-1], 1):
        try:
            json.loads(line)
        except ValueError:
            return f"line {number} is not JSON: {line[:60]!r}"
    return None
