"""Runs that were made one by one, side by side: the table and figures of a study, from their folders."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftkit.config import Settings
from ftkit.config.sweeps import Point, Study, StudySettings, label
from ftkit.errors import ConfigError
from ftkit.report.run_files import read_results
from ftkit.report.study import announce_study, write_study
from ftkit.runs import RunFolder

__all__ = ["compare_runs", "short_name"]

_logger = logging.getLogger("ftkit.report")

_NOT_COMPARED = {"output_dir", "resume", "recipe"}
_TEXTS = {"corpus", "corpora", "labelled", "classes"}
_MOST_DIFFERENCES = 3
"""Settings that stand beside a run's name at most."""


def compare_runs(runs: Sequence[RunFolder], folder: Path) -> Path:
    """Write ``report.html``, ``study.csv``, ``study.json`` and figures that compare runs.

    Args:
        runs: Two or more; those that are not done stand in the table without numbers.
        folder: Where the comparison goes; a folder that holds a run is refused.

    Returns:
        The page.

    Raises:
        ConfigError: Fewer than two runs, one named twice, or a folder that is taken.
    """
    paths = [run.path.resolve() for run in runs]
    if len(set(paths)) < max(len(paths), 2):
        raise ConfigError(f"a comparison takes two different runs or more, found {', '.join(map(str, paths))}")
    if (folder / "config.yaml").exists():
        raise ConfigError(f"{folder} holds a run; name another folder with --out")
    settings = [{k: v for k, v in read_results(run).settings.items() if k not in _NOT_COMPARED} for run in runs]
    common = {key: value for key, value in settings[0].items() if all(value == own.get(key) for own in settings)}
    asked = set.intersection(*map(set, settings))  # of runs of two recipes, what both can be told
    if texts := sorted(_TEXTS & asked - common.keys()):
        _logger.warning("the runs differ in %s: loss on different texts does not compare", " and ".join(texts))
    points = tuple(
        _point(run, short_name(path, paths), {key: own[key] for key in own if key in asked and key not in common})
        for run, path, own in zip(runs, paths, settings, strict=True)
    )
    recipes = " and ".join(dict.fromkeys(run.recipe for run in runs))
    phases = {point.name: {"status": _status(run)} for point, run in zip(points, runs, strict=True)}
    target = RunFolder(folder, recipes, {"recipe": recipes, "status": "done", "phases": phases}, is_main=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_study(target, Study(StudySettings.model_validate(common), points))
    announce_study(target)
    return folder / "report.html"


def short_name(path: Path, paths: Sequence[Path]) -> str:
    """A folder by as many of its last parts as tell it from the others."""
    for count in range(1, len(path.parts) + 1):
        name = "/".join(path.parts[-count:])
        if sum("/".join(other.parts[-count:]) == name for other in paths) == 1:
            return name
    return str(path)


def _point(run: RunFolder, name: str, own: dict[str, Any]) -> Point:
    shown = {key: value for key, value in own.items() if not isinstance(value, dict | list)}
    described = label(dict(list(shown.items())[:_MOST_DIFFERENCES])) if shown else ""
    more = ", ..." if len(shown) > _MOST_DIFFERENCES else ""
    seed = read_results(run).settings.get("seed", 0)
    return Point(name, f"{name} ({described}{more})" if described else name, {}, Settings(seed=seed), run.path)


def _status(run: RunFolder) -> str:
    return "done" if run.finished else str(run.manifest["status"])
