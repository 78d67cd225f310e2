"""Before a long run: a recipe's own program with a planner in the place of training."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ftkit.config import Settings
from ftkit.errors import DeviceError, FtkitError
from ftkit.models.outlines import outline
from ftkit.runs.planning import planning_with
from ftkit.training.planning import PlannedTraining, Planner, WillNotFit

__all__ = ["Plan", "plan_run"]


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
    with tempfile.TemporaryDirectory(prefix="ftkit-plan-") as folder:
        planner = Planner(Path(folder), memory, getattr(settings, "use_cpu", False))
        _check_weights(settings, planner.available)
        with planning_with(planner), suppress(WillNotFit):
            main(settings.model_copy(update={"output_dir": str(Path(folder) / "run"), "resume": False}))
    return Plan(
        tuple(planner.trainings),
        tuple(planner.bases),
        planner.num_passages,
        planner.passage_seconds,
        planner.available,
    )


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
