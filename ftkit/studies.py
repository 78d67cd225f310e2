"""Studies: the points of a sweep, or repeats of a recipe, run one after the other, each in a run folder of its own.

A run is a function of its settings (every step seeds its own draws), so a point is bit for bit the run that it would be
alone. What a kill leaves behind is a study folder that ``ftkit resume`` goes on with: finished points are skipped, the
open one continues from its checkpoint.
"""

import gc
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftkit.config.sweeps import Point, Study
from ftkit.errors import CheckpointError, DivergedError, FtkitError, InterruptedRun, NetworkError
from ftkit.report.study import announce_study, write_study
from ftkit.runs import RunFolder, open_run

__all__ = ["run_study"]

_logger = logging.getLogger("ftkit.studies")
_STOPS = (InterruptedRun, CheckpointError, NetworkError)
"""What would stop the next point too."""


def run_study(study: Study, program: Path, main: Callable[[Any], None]) -> None:
    """Run what is left of a study, then compare its points.

    A point that diverges is a result like any other: it is sealed with its reason and the study goes on. A point that
    cannot run for another reason is noted and tried again when the study is resumed.

    Args:
        study: The points.
        program: The recipe's file.
        main: The recipe's ``main(settings)``.

    Raises:
        FtkitError: The study was interrupted, the disk or the network failed; or, when all points have been tried and
            the table is written, a point could not run, or every point diverged.
    """
    with open_run(study.settings, str(program)) as run:
        failed: list[tuple[Point, FtkitError]] = []
        if not run.finished:
            _logger.info("study: %d points in %s", len(study.points), run.path / "points")
            for number, point in enumerate(study.points, 1):
                if run.done_results(point.name) is None:
                    _logger.info("\npoint %d of %d: %s", number, len(study.points), point.name)
                    if error := _run_point(run, point, main):
                        failed.append((point, error))
            if run.is_main:
                write_study(run, study, {point.name: str(error) for point, error in failed})
        if run.is_main:
            announce_study(run)
        if failed:
            point, error = failed[0]
            text = f"{len(failed)} of {len(study.points)} points could not run; 'ftkit resume {run.path}' tries again"
            raise _with_code(f"{text}; the first, {point.name}: {error}", error.exit_code)
        if all(run.result(point.name)["status"] == "diverged" for point in study.points):
            raise DivergedError(f"{run.path}: all {len(study.points)} points diverged, so there is nothing to compare")


def _run_point(run: RunFolder, point: Point, main: Callable[[Any], None]) -> FtkitError | None:
    """Run a point, or go on with it; the error for which it could not run."""
    folder = run.path / "points" / point.name
    started = (folder / "manifest.json").exists()
    settings = point.settings.model_copy(update={"output_dir": str(folder), "resume": started})
    try:
        main(settings)
    except _STOPS:
        raise
    except DivergedError as error:
        _logger.warning("%s: %s", point.name, error)
        run.mark_done(point.name, status="diverged", error=str(error))
    except FtkitError as error:
        _logger.warning("%s: %s", point.name, error)
        return error
    else:
        run.mark_done(point.name, status="done")
    finally:
        gc.collect()  # engines hold cycles: without this the next point would start with the memory of the last
    return None


def _with_code(message: str, exit_code: int) -> FtkitError:
    error = FtkitError(message)
    error.exit_code = exit_code
    return error
