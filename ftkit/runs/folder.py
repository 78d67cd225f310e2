"""One job, one folder: what it was told, what it did, how it ended, and how to go on.

A recipe is resumed by entering it again from the top: each phase asks ``sealed(name)`` and is skipped when its result
is there; the open phase continues from its newest valid checkpoint, and ``rewind`` cuts what was logged after it.
Only process 0 writes.
"""

import json
import logging
import math
import os
import platform
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from ftkit import __version__
from ftkit.config import Settings
from ftkit.config.reading import read_yaml
from ftkit.errors import CheckpointError, ConfigError, FtkitError
from ftkit.runs.checking import (
    BATCH_SHARES,
    LOGS,
    SAFE_SETTINGS,
    file_record,
    folder_record,
    record_problem,
    setting_difference,
)
from ftkit.runs.files import disk_full, disk_is_full, json_value, remove_leftovers, write_atomically, write_json
from ftkit.runs.planning import planner
from ftkit.runs.processes import (
    check_processes,
    failing_together,
    is_main_process,
    join_processes,
    losing_a_peer,
    num_processes,
    of_process_0,
    wait_for_everyone,
)
from ftkit.runs.tracking import check_trackers, tracking

__all__ = ["RunFolder", "open_run"]

_logger = logging.getLogger("ftkit.runs")
_OURS = {"config.yaml", "manifest.json"}  # what a run that ended before it made anything leaves behind
_NAMED_PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "datasets",
    "tokenizers",
    "safetensors",
    "scikit-learn",
    "numpy",
)
_TOKEN = re.compile(r"\b(?:hf|api_org|ghp|sk)_[A-Za-z0-9]{8,}\b")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunFolder:
    """The folder of one run; made by ``open_run``.

    Args:
        path: The folder.
        recipe: Name of the recipe that runs.
        manifest: What ``manifest.json`` holds.
        is_main: Whether this process writes.
    """

    def __init__(self, path: Path, recipe: str, manifest: dict[str, Any], is_main: bool) -> None:
        self.path, self.recipe, self.manifest, self.is_main = path, recipe, manifest, is_main
        self.listeners: list[Callable[[dict[str, Any]], None]] = []

    @property
    def finished(self) -> bool:
        """Whether the run was complete before it was opened."""
        return bool(self.manifest["status"] == "done")

    def note(self, **values: Any) -> None:
        """Set values in the manifest."""
        self.manifest.update(values)
        self._write_manifest()

    def _write_manifest(self) -> None:
        if self.is_main:
            write_json(self.path / "manifest.json", json_value(self.manifest))

    def keep(self, **values: str) -> None:
        """Set values that must be the same when the run is resumed.

        Raises:
            CheckpointError: One of them is another than the run was started with.
        """
        for name, value in values.items():
            if (before := self.manifest.get(name, value)) != value:
                raise CheckpointError(f"{self.path}: {name} was {before} when the run was started and is {value} now")
        self.note(**values)

    def sealed(self, phase: str) -> dict[str, Any] | None:
        """What a finished phase left in the manifest; ``None`` while it is not finished."""
        found: dict[str, Any] | None = self.manifest["phases"].get(phase)
        return found

    def result(self, phase: str) -> dict[str, Any]:
        """What a finished phase left in the manifest.

        Raises:
            KeyError: The phase is not finished; recipes ask ``sealed`` first.
        """
        found: dict[str, Any] = self.manifest["phases"][phase]
        return found

    def seal(self, phase: str, **results: Any) -> dict[str, Any]:
        """Mark a phase as finished, with results that JSON can hold; its models get their hashes written down."""
        self.manifest["phases"][phase] = results
        record = self.manifest.setdefault("models", {})
        for folder in sorted((self.path / "models").glob("[!.]*")):
            if folder.name == phase or folder.name not in record:
                record[folder.name] = folder_record(folder)
        self._write_manifest()
        return results

    def check_models(self) -> None:
        """Compare the models of finished phases with what was written down of them.

        Raises:
            CheckpointError: One has changed, so what would be built on it is not what the run says.
        """
        for name, record in self.manifest.get("models", {}).items():
            if problem := record_problem(self.model(name), record):
                raise CheckpointError(
                    f"{self.model(name)}: {problem}; what follows would rest on it. Bring the file back, "
                    "or start a new run; 'ftkit check' names everything that has changed"
                )

    def checkpoints(self, phase: str) -> Path:
        """Folder of a phase's checkpoints."""
        return self.path / "checkpoints" / phase

    def model(self, name: str) -> Path:
        """Folder of a finished model."""
        return self.path / "models" / name

    def log(self, file: str, *records: dict[str, Any]) -> None:
        """Append JSON lines to ``metrics.jsonl`` or ``samples.jsonl``."""
        if self.is_main and records:
            lines = "".join(json.dumps(json_value(record), ensure_ascii=False) + "\n" for record in records)
            try:
                with (self.path / file).open("a", encoding="utf-8") as stream:
                    stream.write(lines)
            except OSError as error:
                if disk_is_full(error):
                    raise disk_full(self.path / file, error, len(lines.encode())) from None
                raise
            for listener in self.listeners if file == "metrics.jsonl" else ():
                for record in records:
                    listener(record)

    def records(self, file: str) -> list[dict[str, Any]]:
        """Read a file of JSON lines; a last line that a kill has cut is left out."""
        path = self.path / file
        if not path.exists():
            return []
        found = []
        for line in path.read_text(encoding="utf-8").split("\n"):  # text may hold U+2028, where splitlines cuts
            if not line:
                continue
            try:
                found.append(json.loads(line))
            except ValueError:
                _logger.warning("%s: left out a line that was cut: %r", path, line[:60])
        return found

    def rewind(self, model: str, step: int) -> None:
        """Cut what was logged for a model after a step, so that a resumed run logs it once.

        Args:
            model: The records' ``model``.
            step: The newest step to keep; -1 keeps none.
        """
        if not self.is_main:
            return
        for file in ("metrics.jsonl", "samples.jsonl"):
            if (self.path / file).exists():
                kept = [r for r in self.records(file) if r.get("model") != model or r["step"] <= step]
                write_atomically(self.path / file, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept))

    def write_json(self, file: str, value: Any) -> None:
        """Write ``evidence.json``, ``verdict.json`` and the like; a number that is not finite becomes ``null``."""
        if self.is_main:
            write_json(self.path / file, json_value(value))
            self._record(file)
            self._write_manifest()

    def _record(self, *files: str) -> None:
        """Take size and hash of files into the manifest, by which ``ftkit check`` knows them."""
        for file in files:
            if (self.path / file).exists():
                self.manifest.setdefault("files", {})[file] = file_record(self.path / file)

    def write_text(self, file: str, text: str) -> Path:
        """Write a text file, e.g. ``report.html``."""
        if self.is_main:
            write_atomically(self.path / file, text)
        return self.path / file


def _default_folder(recipe: str) -> Path:
    """``runs/RECIPE-TIME``, the same for every process of the job and not there yet."""
    first = path = Path(f"runs/{recipe}-{time.strftime('%Y%m%d-%H%M%S')}")
    count = 1
    while path.exists():
        count += 1
        path = first.with_name(f"{first.name}-{count}")
    return of_process_0(path)


def _differences(settings: Settings, stored: dict[str, Any], num_before: int) -> list[str]:
    """Settings that are others than the run was started with; one that is newer than the run had its default then.

    More or fewer processes may share the rows of an update, if these are as many as before.
    """
    now = settings.model_dump(mode="json")
    defaults = type(settings).model_construct().model_dump(mode="json", warnings=False)
    before = {key: stored.get(key, defaults.get(key)) for key in {**stored, **now}}
    safe = SAFE_SETTINGS
    if num_before != num_processes():
        if _rows(before, num_before) == _rows(now, num_processes()):
            safe |= BATCH_SHARES
        else:
            before, now = before | {"processes": num_before}, now | {"processes": num_processes()}
    keys = [key for key in before if key not in safe and before[key] != now.get(key)]
    return [setting_difference(key, before[key], now.get(key)) for key in keys]


def _rows(values: dict[str, Any], processes: int) -> int:
    """Rows of an update of all processes together."""
    return processes * math.prod(int(values.get(name, 1)) for name in BATCH_SHARES)


def _check_same_run(path: Path, settings: Settings, recipe: str, manifest: dict[str, Any]) -> None:
    """Refuse to go on with another recipe, with other settings or with another batch."""
    stored = manifest.get("settings")
    if stored is None:  # a run of ftkit 0.1 before it wrote them down
        stored = read_yaml(path / "config.yaml").values
        stored.pop("recipe", None)
    differences = _differences(settings, stored, manifest.get("processes", num_processes()))
    if (before := manifest.get("recipe", recipe)) != recipe:
        differences.append(setting_difference("recipe", before, recipe))
    if differences:
        raise ConfigError(
            f"{path}: a resumed run keeps its settings; put these back, or start a new run in another output_dir:\n  "
            + "\n  ".join(differences)
        )


def _new_manifest(recipe: str, settings: Settings) -> dict[str, Any]:
    versions = {"ftkit": __version__, "python": platform.python_version()}
    versions.update({name: metadata.version(name) for name in _NAMED_PACKAGES})
    return {
        "recipe": recipe,
        "status": "running",
        "exit_code": None,
        "started": _now(),
        "ended": None,
        "versions": versions,
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cpus": os.cpu_count(),
            "host": socket.gethostname(),
        },
        "argv": [],
        "settings": settings.model_dump(mode="json", exclude={"output_dir", "resume"}),
        "processes": num_processes(),
        "data": {},
        "phases": {},
        "models": {},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: its manifest.json cannot be read ({error}); this is not a run that can be resumed"
        ) from None
    return manifest


def _empty_handed(path: Path) -> bool:
    """Whether a run has made nothing yet."""
    return not any((path / made).exists() for made in ("metrics.jsonl", "checkpoints", "models", "points"))


def _prepare(path: Path, settings: Settings, recipe: str, program: Path) -> dict[str, Any]:
    """Check a folder that may exist already, write ``config.yaml`` into a new one, and return its manifest."""
    if (path / "manifest.json").exists() and (
        settings.resume or not _empty_handed(path) or _read_manifest(path)["status"] == "done"
    ):
        if not settings.resume:
            status = _read_manifest(path)["status"]
            raise ConfigError(
                f"{path}: holds a run already (status: {status}); continue it with 'ftkit resume {path}' "
                "or choose another output_dir"
            )
        manifest = _read_manifest(path)
        _check_same_run(path, settings, recipe, manifest)
        return manifest
    if settings.resume:
        raise CheckpointError(f"{path}: there is no run to resume: no manifest.json in it")
    if path.is_dir() and any(not child.name.startswith(".") and child.name not in _OURS for child in path.iterdir()):
        raise ConfigError(f"{path}: is not empty and holds no run; choose another output_dir")
    from ftkit.config.catalogue import recipes_folder

    name = recipe if program.resolve().parent == recipes_folder().resolve() else str(program.resolve())
    values = {"recipe": name, **settings.model_dump(mode="json", exclude={"resume"})}
    write_atomically(path / "config.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return _new_manifest(recipe, settings)


@contextmanager
def open_run(settings: Settings, program: str) -> Iterator[RunFolder]:
    """Make or continue the folder of a run, and record how the run ends.

    Args:
        settings: The recipe's settings; ``output_dir`` and ``resume`` say which folder.
        program: The recipe's ``__file__``.

    Yields:
        The folder, locked against other processes. A finished run is yielded as it is: the recipe looks at
        ``finished`` and leaves it alone.

    Raises:
        ConfigError: The folder is in use for something else, or the settings differ from those of the run.
        CheckpointError: Another process works in the folder, or there is nothing to resume.
    """
    recipe = Path(program).stem
    join_processes(getattr(settings, "use_cpu", False))
    path = Path(settings.output_dir).expanduser() if settings.output_dir else _default_folder(recipe)
    if planner():
        yield RunFolder(path, recipe, _new_manifest(recipe, settings), is_main=False)  # it writes nothing
        return
    lock = FileLock(path / ".lock")
    try:
        with failing_together():
            if is_main_process():
                check_processes(settings.require_processes)
                check_trackers(settings.trackers)
                run = _enter(path, settings, recipe, Path(program), lock)
        with failing_together():
            if not is_main_process():
                run = RunFolder(path, recipe, _follow(path), is_main=False)
        with _recorded(run, settings) if run.is_main and not run.finished else nullcontext(), losing_a_peer():
            yield run
        wait_for_everyone()  # what the others do next may need what this run has made
    finally:
        lock.release()


def _enter(path: Path, settings: Settings, recipe: str, program: Path, lock: FileLock) -> RunFolder:
    """Lock the folder and look at what is in it."""
    path.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        owner = (
            _read_manifest(path).get("process", "another process")
            if (path / "manifest.json").exists()
            else "another process"
        )
        raise CheckpointError(
            f"{path}: {owner} works in this folder; wait for it or choose another output_dir"
        ) from None
    run = RunFolder(path, recipe, _prepare(path, settings, recipe, program), is_main=True)
    if settings.resume and not run.finished:
        remove_leftovers(path)
        run.check_models()
        run.manifest["settings"] = settings.model_dump(mode="json", exclude={"output_dir", "resume"})
    run._write_manifest()
    return run


@contextmanager
def _recorded(run: RunFolder, settings: Settings) -> Iterator[None]:
    """Write into the manifest that the run goes on, and how it ends, also when a signal comes while it starts."""
    shown = settings.model_dump(mode="json", exclude={"output_dir", "resume"})
    try:
        run.manifest["resumed"] = [*run.manifest.get("resumed", []), _now()] if settings.resume else []
        run.note(
            status="running",
            exit_code=None,
            argv=[_TOKEN.sub("[redacted]", argument) for argument in sys.argv],
            seed=settings.seed,
            processes=num_processes(),
            process=f"process {os.getpid()} on {socket.gethostname()}",
        )
        also = f", process 0 of {num_processes()}" if num_processes() > 1 else ""
        _logger.info("run folder: %s%s", run.path, also)
        with tracking(settings.trackers, run.path, shown, getattr(settings, "use_cpu", False)) as listener:
            run.listeners.append(listener)
            yield
        run._record(*LOGS)
        run.note(status="done", exit_code=0, ended=_now())
    except BaseException as error:
        known = error if isinstance(error, FtkitError) or not disk_is_full(error) else disk_full(run.path, error)
        _record_failure(run, known)
        if settings.output_dir is None and isinstance(known, FtkitError) and _empty_handed(run.path):
            # Nobody has named it and nothing is in it, so nobody will look for it.
            shutil.rmtree(run.path, ignore_errors=True)
        if known is error:
            raise
        raise known from error


def _record_failure(run: RunFolder, error: BaseException) -> None:
    """Write how a run ended; the disk may be the reason, so failing to write is not a second error."""
    code = error.exit_code if isinstance(error, FtkitError) else 130 if isinstance(error, KeyboardInterrupt) else 1
    status = "interrupted" if code in (130, 143) else "failed"
    try:
        run.note(status=status, exit_code=code, ended=_now(), error=_TOKEN.sub("[redacted]", str(error)))
    except (OSError, CheckpointError) as problem:
        _logger.warning("%s: could not record the end of the run: %s", run.path, problem)
    if status == "interrupted":
        _logger.info("continue with: ftkit resume %s", run.path)


def _follow(path: Path) -> dict[str, Any]:
    """The manifest as process 0 left it: the other processes only read which phases are sealed."""
    try:
        return _read_manifest(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; a run folder must lie where all machines of the job can read it") from None
