"""The training loop: objectives, batches, the engine of step records, checkpoints, and held-out evaluation."""

from ftkit.training.batches import BatchSource, ClassifiedTexts, MaskedWindows, RandomTokens, TokenWindows
from ftkit.training.checkpoints import CheckpointFolder
from ftkit.training.classifying import (
    BestStep,
    Predictions,
    classifier_plan,
    follow_classifier,
    predict_classes,
    predict_outputs,
)
from ftkit.training.engine import Engine, StepRecord
from ftkit.training.evaluation import MOST_UNKNOWN, HeldOutLoss, held_out_loss
from ftkit.training.following import follow, training_plan
from ftkit.training.lockstep import lockstep
from ftkit.training.losses import NLL, kl_to_base, last_tokens, smoothed, token_set_kl
from ftkit.training.naming import Ingredients, build_objective, read_objective
from ftkit.training.objectives import (
    CLASSIFICATION,
    MASKED_TOKENS,
    NEXT_TOKEN,
    LossModule,
    Objective,
    WeightedSum,
    loss_sums,
)
from ftkit.training.pairing import with_output_of
from ftkit.training.passes import with_steps_of_passes
from ftkit.training.probes import Called, Probe, build_probes
from ftkit.training.trying import check_objective

__all__ = [
    "CLASSIFICATION",
    "MASKED_TOKENS",
    "MOST_UNKNOWN",
    "NEXT_TOKEN",
    "NLL",
    "BatchSource",
    "BestStep",
    "Called",
    "CheckpointFolder",
    "ClassifiedTexts",
    "Engine",
    "HeldOutLoss",
    "Ingredients",
    "LossModule",
    "MaskedWindows",
    "Objective",
    "Predictions",
    "Probe",
    "RandomTokens",
    "StepRecord",
    "TokenWindows",
    "WeightedSum",
    "build_objective",
    "build_probes",
    "check_objective",
    "classifier_plan",
    "follow",
    "follow_classifier",
    "held_out_loss",
    "kl_to_base",
    "last_tokens",
    "lockstep",
    "loss_sums",
    "predict_classes",
    "predict_outputs",
    "read_objective",
    "smoothed",
    "token_set_kl",
    "training_plan",
    "with_output_of",
    "with_steps_of_passes",
]
