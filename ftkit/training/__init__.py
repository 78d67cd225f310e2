"""The training loop: objectives, batches, the engine of step records, checkpoints, and held-out evaluation."""

from ftkit.training.batches import BatchSource, ClassifiedTexts, MaskedWindows, TokenWindows
from ftkit.training.checkpoints import CheckpointFolder
from ftkit.training.classifying import Predictions, classifier_plan, follow_classifier, predict_classes
from ftkit.training.engine import Engine, StepRecord
from ftkit.training.evaluation import HeldOutLoss, held_out_loss
from ftkit.training.following import follow, training_plan
from ftkit.training.lockstep import lockstep
from ftkit.training.objectives import (
    CLASSIFICATION,
    MASKED_TOKENS,
    NEXT_TOKEN,
    LossModule,
    Objective,
    WeightedSum,
    loss_sums,
)

__all__ = [
    "CLASSIFICATION",
    "MASKED_TOKENS",
    "NEXT_TOKEN",
    "BatchSource",
    "CheckpointFolder",
    "ClassifiedTexts",
    "Engine",
    "HeldOutLoss",
    "LossModule",
    "MaskedWindows",
    "Objective",
    "Predictions",
    "StepRecord",
    "TokenWindows",
    "WeightedSum",
    "classifier_plan",
    "follow",
    "follow_classifier",
    "held_out_loss",
    "lockstep",
    "loss_sums",
    "predict_classes",
    "training_plan",
]
