"""Before a long run: a recipe's own program with a planner in the place of training."""

import importlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ftkit.config import Settings
from ftkit.errors import DeviceError, FtkitError
from ftkit.models.meta_models import outline
from ftkit.runs.planner import planning_with
from ftkit.training.resource_plan import PhaseMemory, PlannedTraining, Planner, WillNotFit

__all__ = ["IMPORTED", "Plan", "plan_run"]

IMPORTED = (
    "ftkit.report", "ftkit.jobs", "ftkit.tuning", "datasets", "jinja2", "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg", "peft", "rich.table", "sklearn.feature_extraction.text", "sklearn.linear_model",
)  # fmt: skip
"""What runs import when they need it; the growth of a process is counted from here."""
_PREFIX = "ftkit-plan-"


@dataclass(frozen=True)
class Plan:
    """What one run will do."""

    trainings: tuple[PlannedTraining, ...]
    """Those that were reached: after one that does not fit there is nothing to plan."""
    bases: tuple[str, ...]
    """Bases that are not made yet; their making is among the trainings."""
    num_passages: int
    """Passages that are written before training."""
    passage_seconds: float
    available_bytes: int
    phases: dict[str, PhaseMemory]
    """Memory of each phase at its worst moment; see ``Planner.phases``."""

    @property
    def peak_rss_growth_bytes(self) -> int:
        """Growth of the process's resident memory at the worst moment of the run; 0 where the system does not tell."""
        return max((phase.rss_growth_bytes for phase in self.phases.values()), default=0)

    @property
    def peak_tensor_bytes(self) -> int:
        """In tensors at the worst moment of the run."""
        return max((phase.tensor_bytes for phase in self.phases.values()), default=0)

    @property
    def fits(self) -> bool:
        """Whether every training fits into the available memory."""
        return all(training.fits for training in self.trainings)

    @property
    def seconds(self) -> float | None:
        """Predicted time of all trainings, evaluations and passages before them; ``None`` where one does not fit."""
        each = [training.seconds for training in self.trainings]
        return self.passage_seconds + sum(s for s in each if s is not None) if None not in each else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; a schedule by its first, highest and last rate."""
        trainings = []
        for training in self.trainings:
            rates = training.schedule
            schedule = {"first": rates[0], "peak": max(rates), "last": rates[-1], "updates": len(rates)}
            trainings.append(asdict(training) | {"schedule": schedule, "seconds": training.seconds})
        return {
            "fits": self.fits,
            "seconds": self.seconds,
            "available_bytes": self.available_bytes,
            "bases_not_made_yet": list(self.bases),
            "passages": {"number": self.num_passages, "seconds": self.passage_seconds},
            "trainings": trainings,
            "memory": {
                "phases": {name: asdict(phase) for name, phase in self.phases.items()},
                "peak_rss_growth_bytes": self.peak_rss_growth_bytes,
                "peak_tensor_bytes": self.peak_tensor_bytes,
            },
        }


def plan_run(main: Callable[[Any], None], settings: Settings, memory: int | None = None) -> Plan:
    """Plan a run: everything before training really happens, training is measured, and nothing stays on disk.

    Args:
        main: The recipe's ``main(settings)``.
        settings: Its settings.
        memory: Bytes that may be used; ``None`` takes what the device has available.

    Raises:
        DeviceError: Not even the weights fit; nothing was loaded.
        FtkitError: What the recipe refuses.
    """
    for name in IMPORTED:
        importlib.import_module(name)
    _remove_left()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        planner = Planner(Path(folder), memory, getattr(settings, "use_cpu", False))
        _check_weights(settings, planner.available)
        with planner.meter.inside(), planning_with(planner), suppress(WillNotFit):
            main(settings.model_copy(update={"output_dir": str(Path(folder) / "run"), "resume": False}))
    return Plan(
        tuple(planner.trainings),
        tuple(planner.bases),
        planner.num_passages,
        planner.passage_seconds,
        planner.available,
        planner.phases,
    )


def _remove_left() -> None:
    """Remove the folders of plans that were killed: signals end a plan at once, in the middle of a step."""
    import psutil  # type: ignore[import-untyped]  # accelerate depends on it

    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _check_weights(settings: Settings, available: int) -> None:
    """Refuse a model whose loading alone would take all memory; its configuration says so without its weights."""
    spec = getattr(settings, "model", "base:")
    if spec.startswith("base:"):
        return
    try:
        model = outline(spec, revision=getattr(settings, "revision", None)).model
    except FtkitError:  # loading it will say why, or knows more
        return
    weights = sum(parameter.numel() for parameter in model.parameters()) * torch.float32.itemsize
    if weights > available:
        raise DeviceError(
            f"{spec}: its weights alone take {weights / 1e9:.2f} GB and {available / 1e9:.2f} GB are available; take a "
            "smaller model or a machine with more memory"
        )
