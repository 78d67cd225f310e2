"""How the folder of a run is made, gone on with or refused, and how it is written down how the run ends."""

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
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ftkit import __version__
from ftkit.config import Settings
from ftkit.errors import CheckpointError, ConfigError, FtkitError, OutOfMemory, PeerError, Terminated
from ftkit.memory import memory_phase
from ftkit.runs.environment import check_environment
from ftkit.runs.files import disk_full, disk_is_full, remove_leftovers, write_config
from ftkit.runs.folder import RunFolder
from ftkit.runs.integrity import (
    BATCH_SHARES,
    LOGS,
    SAFE_SETTINGS,
    setting_difference,
)
from ftkit.runs.planner import planner
from ftkit.runs.processes import (
    broadcast_from_main,
    check_processes,
    is_main_process,
    join_processes,
    losing_a_peer,
    num_processes,
    sync_errors,
    wait_for_everyone,
)
from ftkit.runs.trackers import check_trackers, tracking

__all__ = ["open_run", "read_run", "restore_config"]

_logger = logging.getLogger("ftkit.runs")
_OPEN: list[Path] = []
"""Runs at work in this process: one, and while it makes its base, two."""
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


def _default_folder(recipe: str) -> Path:
    """``runs/RECIPE-TIME``, the same for every process of the job and not there yet."""
    first = path = Path(f"runs/{recipe}-{time.strftime('%Y%m%d-%H%M%S')}")
    count = 1
    while path.exists():
        count += 1
        path = first.with_name(f"{first.name}-{count}")
    return broadcast_from_main(path)


def _differences(
    settings: Settings, stored: dict[str, Any], num_before: int, unset: frozenset[str] = frozenset()
) -> list[str]:
    """Settings that are others than the run was started with; one that is newer than the run had its default then.

    The rows of an update may be shared by more or fewer processes and micro-batches, if they are as many as before.
    """
    now = settings.model_dump(mode="json")
    defaults = type(settings).model_construct().model_dump(mode="json", warnings=False)
    before = {key: stored.get(key, defaults.get(key)) for key in {**stored, **now}}
    safe = SAFE_SETTINGS
    if _rows(before, num_before) == _rows(now, num_processes()):
        safe |= BATCH_SHARES
    elif num_before != num_processes():
        before, now = before | {"processes": num_before}, now | {"processes": num_processes()}
    safe |= settings.unset_lengths | unset  # they follow, or are taken from what the run has written
    keys = [key for key in before if key not in safe and before[key] != now.get(key)]
    return [setting_difference(key, before[key], now.get(key)) for key in keys]


def _rows(values: dict[str, Any], processes: int) -> int:
    """Rows of an update of all processes together."""
    return processes * math.prod(int(values.get(name, 1)) for name in BATCH_SHARES)


def _check_same_run(path: Path, settings: Settings, recipe: str, manifest: dict[str, Any]) -> None:
    """Refuse to go on with another recipe, with other settings or with another batch."""
    if (version := str(manifest.get("versions", {}).get("ftkit", "0.1"))).startswith("0.1"):
        raise ConfigError(f"{path}: run folders of ftkit {version} cannot be resumed; start a new run")
    stored = manifest["settings"]
    before_now = manifest.get("processes", num_processes())
    differences = _differences(settings, stored, before_now, frozenset(manifest.get("unset", ())))
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
        "unset": sorted(settings.unset_lengths),
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


def _newest_in(path: Path) -> str:
    """The run that was begun last in a folder of runs, as the tail of a message."""
    runs = sorted(path.glob("*/manifest.json"), key=lambda file: file.stat().st_mtime)
    return f"; the newest run in it is {runs[-1].parent}" if runs else ": there is no manifest.json in it"


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: is not the folder of a run{_newest_in(path)}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: its manifest.json cannot be read ({error}); this is not the folder of a run"
        ) from None
    return manifest


def read_run(path: str | Path) -> RunFolder:
    """A run that is there, to look at or to draw again; nothing is started and nothing is locked.

    Args:
        path: The run's folder.

    Raises:
        CheckpointError: The folder holds no run.
    """
    path = Path(path).expanduser()
    manifest = _read_manifest(path)
    return RunFolder(path, manifest.get("recipe", "run"), {"phases": {}, "status": "running"} | manifest, is_main=True)


def _empty_handed(path: Path) -> bool:
    """Whether a run has made nothing yet."""
    return not any((path / made).exists() for made in ("metrics.jsonl", "checkpoints", "models", "points"))


def _prepare(path: Path, settings: Settings, recipe: str, program: Path) -> dict[str, Any]:
    """Check a folder that may exist already, and return its manifest, or that of a new run."""
    if (path / "manifest.json").exists() and (
        settings.resume or not _empty_handed(path) or _read_manifest(path)["status"] == "done"
    ):
        if not settings.resume:
            status = _read_manifest(path)["status"]
            if status == "done":
                raise ConfigError(
                    f"{path}: holds a finished run; 'ftkit report {path}' shows its result. Choose another output_dir "
                    "for a new run"
                )
            raise ConfigError(
                f"{path}: holds a run already (status: {status}); continue it with 'ftkit resume {path}' "
                "or choose another output_dir"
            )
        manifest = _read_manifest(path)
        _check_same_run(path, settings, recipe, manifest)
        return manifest
    if settings.resume and not ((path / "config.yaml").exists() and _empty_handed(path)):
        raise CheckpointError(f"{path}: there is no run to resume: no manifest.json in it")
    if path.is_dir() and any(not child.name.startswith(".") and child.name not in _OURS for child in path.iterdir()):
        raise ConfigError(f"{path}: is not empty and holds no run; choose another output_dir")
    (path / "config.yaml").unlink(missing_ok=True)  # it is written after the manifest, see ``restore_config``
    return _new_manifest(recipe, settings) | {"program": _program_name(recipe, program)}


def _program_name(recipe: str, program: Path) -> str:
    """How ``config.yaml`` names the recipe: a recipe of the package by its name, another one by its path."""
    from ftkit.config.catalogue import entry_paths

    known = entry_paths().get(recipe)
    return recipe if known and known.resolve() == program.resolve() else str(program.resolve())


def restore_config(path: Path, output_dir: str | None = None) -> None:
    """Write ``config.yaml`` from the manifest where it is missing: a kill came between the two, or it was removed."""
    if (path / "config.yaml").exists() or not (path / "manifest.json").exists():
        return
    manifest = _read_manifest(path)
    if "program" in manifest:
        write_config(path, {"recipe": manifest["program"], "output_dir": output_dir, **manifest["settings"]})


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
    check_environment(settings)
    join_processes(getattr(settings, "use_cpu", False))
    path = Path(settings.output_dir).expanduser() if settings.output_dir else _default_folder(recipe)
    if planner():
        yield RunFolder(path, recipe, _new_manifest(recipe, settings), is_main=False)  # it writes nothing
        return
    lock, new = FileLock(path / ".lock"), not path.exists()
    try:
        with sync_errors():
            if is_main_process():
                check_processes(settings.require_processes)
                check_trackers(settings.trackers)
                run = _enter(path, settings, recipe, Path(program), lock)
        with sync_errors():
            if not is_main_process():
                run = RunFolder(path, recipe, _follow(path), is_main=False)
        if run.is_main and run.finished:
            _logger.info("%s: done already; this is its result", path)
        try:
            with _recorded(run, settings) if run.is_main and not run.finished else nullcontext(), losing_a_peer():
                yield run
        except PeerError as error:
            raise _as_recorded(run, error) from None
        wait_for_everyone()  # what the others do next may need what this run has made
    finally:
        lock.release()
        if new and is_main_process():
            _remove_unused(path)


def _remove_unused(path: Path) -> None:
    """Remove a new folder in which nothing was written, and ``runs`` where no other run is in it."""
    if path.is_dir() and {child.name for child in path.iterdir()} <= {".lock"}:
        shutil.rmtree(path, ignore_errors=True)
    if not path.exists() and path.parent == Path("runs"):
        with suppress(OSError):  # it is not empty
            path.parent.rmdir()


def _make_folder(path: Path) -> None:
    """Make a run's folder, or refuse one in which nothing can be written.

    Raises:
        CheckpointError: The system's reason; a full disk keeps its own message.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / ".lock").touch()
    except OSError as error:
        if disk_is_full(error):
            raise
        raise CheckpointError(
            f"{path}: a run's folder cannot be written there ({error.strerror}); choose another output_dir"
        ) from None


def _enter(path: Path, settings: Settings, recipe: str, program: Path, lock: FileLock) -> RunFolder:
    """Lock the folder and look at what is in it."""
    _make_folder(path)
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
    run = RunFolder(path, recipe, _prepare(path, settings, recipe, program), is_main=True, is_part=bool(_OPEN))
    if settings.resume and not run.finished:
        remove_leftovers(path)
        run.check_models()
        follow = run.manifest.get("settings", {}).items()
        run.manifest["settings"] = settings.model_dump(mode="json", exclude={"output_dir", "resume"}) | {
            name: value for name, value in follow if name in settings.unset_lengths
        }
    _OPEN.append(path)
    try:
        run._write_manifest()
        restore_config(path, settings.output_dir)
    except (KeyboardInterrupt, Terminated) as error:  # the folder exists already, so it says how the run ended
        _record_failure(run, error)
        raise
    finally:
        _OPEN.pop()
    return run


@contextmanager
def _recorded(run: RunFolder, settings: Settings) -> Iterator[None]:
    """Write into the manifest that the run goes on, and how it ends, also when a signal comes while it starts."""
    shown = settings.model_dump(mode="json", exclude={"output_dir", "resume"})
    _OPEN.append(run.path)
    try:
        run.manifest["resumed"] = [*run.manifest.get("resumed", []), _now()] if settings.resume else []
        run.update_manifest(
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
            with memory_phase():
                yield
        run._record(*LOGS)
        run.update_manifest(status="done", exit_code=0, ended=_now())
    except BaseException as error:
        known = _known(run, settings, error)
        _record_failure(run, known)
        if settings.output_dir is None and isinstance(known, FtkitError) and _empty_handed(run.path):
            # Nobody has named it and nothing is in it, so nobody will look for it.
            shutil.rmtree(run.path, ignore_errors=True)
        if known is error:
            raise
        raise known from error
    finally:
        _OPEN.pop()


def _known(run: RunFolder, settings: Settings, error: BaseException) -> BaseException:
    """The error with what the folder adds to it: the disk that is full, or how to go on after memory ran out."""
    if isinstance(error, OutOfMemory) and len(_OPEN) == 1 and (settings.output_dir or not _empty_handed(run.path)):
        resume = (
            f"Continue with 'ftkit resume {run.path}'; before that, per_device_train_batch_size with "
            "gradient_accumulation_steps, and activation_checkpointing, may be changed in its config.yaml"
        )
        return OutOfMemory(error.phase, error.asked, error.free, error.remedies, resume)
    return error if isinstance(error, FtkitError) or not disk_is_full(error) else disk_full(run.path, error)


def _record_failure(run: RunFolder, error: BaseException) -> None:
    """Write how a run ended; the disk may be the reason, so failing to write is not a second error."""
    if isinstance(error, FtkitError | Terminated):
        code = error.exit_code
    else:
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    status = "interrupted" if code in (130, 143) else "failed"
    try:
        run.update_manifest(status=status, exit_code=code, ended=_now(), error=_TOKEN.sub("[redacted]", str(error)))
    except (OSError, CheckpointError) as problem:
        _logger.warning("%s: could not record the end of the run: %s", run.path, problem)
    if status == "interrupted" and len(_OPEN) == 1:  # a base goes on with the run that it is made for
        _logger.info("continue with: ftkit resume %s", run.path)


def _as_recorded(run: RunFolder, error: PeerError) -> PeerError:
    """The end of process 0 as it is written down, said by a process that was left alone."""
    if run.is_main:
        return error
    manifest = _read_manifest(run.path)
    if manifest.get("exit_code") and "error" in manifest:
        _logger.warning("process 0: %s", manifest["error"])
        return PeerError(int(manifest["exit_code"]))
    return error


def _follow(path: Path) -> dict[str, Any]:
    """The manifest as process 0 left it: the other processes only read which phases are sealed."""
    try:
        return _read_manifest(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; a run folder must lie where all machines of the job can read it") from None
