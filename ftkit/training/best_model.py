"""The best step of a training by its held-out loss, its weights, and when to stop because no evaluation improves.

The weights of an evaluation that is the best so far are written beside the checkpoints, sealed as those are, so that
``save_steps`` and ``eval_steps`` need not match. Which step is the best is part of every checkpoint: a resumed training
knows it again. Best weights stay as long as a training could be resumed from a checkpoint that needs them.
"""

import logging
import math
from pathlib import Path
from typing import Any

from ftkit.config import TrainingSettings
from ftkit.errors import CheckpointError, DivergedError
from ftkit.runs.processes import sync_errors
from ftkit.training.checkpoints import CheckpointFolder, broken_because
from ftkit.training.engine import Engine

__all__ = ["BestModel", "BestWeights", "chooses_step"]

_logger = logging.getLogger("ftkit.training")


class BestWeights(CheckpointFolder):
    """Weights without optimizer states of the best evaluations, ``RUN/checkpoints/PHASE/best``.

    Args:
        checkpoints: The folder of the phase's checkpoints.
    """

    def __init__(self, checkpoints: Path) -> None:
        super().__init__(checkpoints / "best")
        self._checkpoints = CheckpointFolder(checkpoints)

    def _needed(self, steps: list[int]) -> set[int]:
        """The best of all, and for each checkpoint the best step before it: a resume from there needs it."""
        before = ([step for step in steps if step <= checkpoint] for checkpoint in self._checkpoints.steps())
        return {steps[0], *(found[0] for found in before if found)}


class BestModel:
    """Knows the best evaluation of a training so far, and whether to stop; every process calls it alike.

    Args:
        engine: What trains; its settings ``load_best_model_at_end``, ``early_stopping_patience`` and
            ``early_stopping_threshold`` are read.
        checkpoints: The folder of the phase's checkpoints.

    Raises:
        CheckpointError: The training is resumed, and the weights of its best step are missing or have changed.
    """

    def __init__(self, engine: Engine, checkpoints: Path) -> None:
        self._engine, self._settings = engine, engine.settings
        self._weights = BestWeights(checkpoints)
        before = engine.kept.get("best", {})
        self.step: int = before.get("step", 0)
        """Updates before the best evaluation; 0 before the first."""
        self.loss: float = before.get("loss", math.inf)
        """Its held-out loss."""
        self._last_loss: float = before.get("last_loss", math.nan)
        self._not_better: int = before.get("not_better", 0)
        if self.step and self._settings.load_best_model_at_end:
            with sync_errors():
                if engine.accelerator.is_main_process and (problem := broken_because(self._path)):
                    raise CheckpointError(
                        f"{self._path}: {problem}; step {self.step} was the best before the interruption, so the run "
                        f"cannot go on without it. Bring the folder back, or remove {checkpoints} and resume: this "
                        "phase then starts again"
                    )

    @property
    def _path(self) -> Path:
        return self._weights.folder_of(self.step)

    @property
    def stop(self) -> bool:
        """Whether ``early_stopping_patience`` evaluations in a row were not better than the best before them."""
        return bool(0 < self._settings.early_stopping_patience <= self._not_better)

    def see(self, step: int, loss: float) -> None:
        """Take an evaluation into account, and write the weights if it is the best so far.

        Args:
            step: Updates done.
            loss: Its held-out loss, the same on every process.

        Raises:
            DivergedError: The loss is not finite, so that nothing can be compared with it.
            CheckpointError: The weights cannot be written.
        """
        if not math.isfinite(loss):
            raise DivergedError(
                f"step {step}: the held-out loss is {loss}, so no best step can be found; hold out more text "
                "(heldout_share), lower learning_rate, or leave load_best_model_at_end and early_stopping_patience out"
            )
        enough = self.loss - loss > self._settings.early_stopping_threshold
        self._not_better = 0 if enough else self._not_better + 1
        self._last_loss = loss
        if loss < self.loss:
            self.step, self.loss = step, loss
            if self._settings.load_best_model_at_end:
                self._engine.save_weights(self._weights, {"loss": loss})
        self._engine.kept["best"] = {
            "step": self.step, "loss": self.loss, "last_loss": loss, "not_better": self._not_better
        }  # fmt: skip

    def finish(self) -> dict[str, Any]:
        """Give the model the weights of its best step, where asked for.

        Returns:
            For the manifest: the best step and its loss, the last step and its loss, and the step that is saved.
        """
        last, load = self._engine.step, self._settings.load_best_model_at_end
        if load and self.step != last:
            self._engine.load_weights(self._weights, self._path)
        return {
            "step": self.step,
            "loss": self.loss,
            "last_step": last,
            "last_loss": self._last_loss,
            "saved_step": self.step if load else last,
            "max_steps": self._settings.max_steps,
        }


def chooses_step(settings: TrainingSettings) -> bool:
    """Whether a training looks for its best step."""
    return settings.load_best_model_at_end or settings.early_stopping_patience > 0
