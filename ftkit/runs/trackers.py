"""Metrics of a run, sent to a tracker as well: TensorBoard, Weights & Biases, trackio, MLflow.

Trackers are accelerate's. They listen to ``metrics.jsonl``, so they show what is there and no more; without one nothing
is imported and nothing leaves the machine.
"""

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftkit.errors import DeviceError
from ftkit.runs.processes import stays_on_cpu

__all__ = ["check_trackers", "tracking"]

Listener = Callable[[dict[str, Any]], None]

_logger = logging.getLogger("ftkit.runs")
_PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "trackio": ("trackio",), "mlflow": ("mlflow",)
}  # fmt: skip
_ONE_CLOCK = ("wandb", "trackio")  # their steps must never go back, and a run may train one model after another


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are not installed.

    Args:
        names: The setting ``report_to``, as a list; other names must be registered with accelerate.

    Raises:
        DeviceError: With the package to install.
    """
    for name in names:
        packages = _PACKAGES.get(name, ())
        if packages and not any(find_spec(package) for package in packages):
            raise DeviceError(f"report_to: {name} is not installed: pip install {packages[0]}, or leave it out")


@contextmanager
def tracking(names: Sequence[str], folder: Path, settings: dict[str, Any], use_cpu: bool = False) -> Iterator[Listener]:
    """Start trackers and end them with the block.

    Args:
        names: Of trackers that accelerate knows; none starts nothing.
        folder: Of the run; its name is the tracker's run.
        settings: What to show as the run's configuration; it holds no passwords and tokens, see ``Settings.problems``.
        use_cpu: As the run's setting.

    Yields:
        What takes the records of ``metrics.jsonl``.
    """
    if not names:
        yield lambda record: None
        return
    from accelerate import Accelerator
    from accelerate.utils import ProjectConfiguration

    place = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "trackers"))
    accelerator = Accelerator(log_with=list(names), project_config=place, cpu=stays_on_cpu(use_cpu))
    options = {"wandb": {"name": folder.name, "dir": str(folder)}, "trackio": {"name": folder.name}}
    accelerator.init_trackers("ftkit", _scalars(settings), {**options, "mlflow": {"run_name": folder.name}})
    _logger.info("trackers: %s", ", ".join(names))

    def listen(record: dict[str, Any]) -> None:
        step, values = record.get("step"), _numbers(record)
        for tracker in accelerator.trackers if values else []:
            tracker.log(values, step=None if tracker.name in _ONE_CLOCK else step)

    try:
        yield listen
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def _scalars(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as trackers take them: no lists, no dictionaries."""
    return {
        name: value if isinstance(value, str | int | float) else json.dumps(value) for name, value in settings.items()
    }


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    """The numbers of a record, each under model, split and name: ``alice/train/loss``."""
    prefix = "/".join(str(record[key]) for key in ("model", "split") if key in record)
    found: dict[str, float] = {}
    for key, value in record.items():
        entries = value.items() if isinstance(value, dict) else [("", value)]
        for inner, number in entries:
            if isinstance(number, int | float) and math.isfinite(number):
                found["/".join(part for part in (prefix, key, inner) if part)] = number
    return found
