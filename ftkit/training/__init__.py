"""The training loop: objectives, batches, the engine of step records, checkpoints, and held-out evaluation."""

from typing import TYPE_CHECKING

from ftkit.lazy import load_names_lazily

if TYPE_CHECKING:
    from ftkit.training.checkpoints import CheckpointFolder
    from ftkit.training.classifiers import (
        BestStep,
        ClassSamples,
        Predictions,
        predict_classes,
        predict_outputs,
    )
    from ftkit.training.datasets import (
        ClassifiedTexts,
        CoveredBytes,
        Dataset,
        ExampleRows,
        HeldOutDataset,
        HeldOutExamples,
        HeldOutTexts,
        HeldOutWindows,
        MaskedWindows,
        RandomTokens,
        TokenWindows,
    )
    from ftkit.training.engine import Engine, StepRecord, lockstep
    from ftkit.training.evaluation import (
        JUDGED_WINDOWS,
        MOST_UNKNOWN,
        HeldOutLoss,
        evaluated_batches,
        held_out_loss,
        token_losses,
    )
    from ftkit.training.logs import train_and_log, training_plan, with_steps_of_epochs
    from ftkit.training.objective_names import ObjectiveContext, build_objective, check_objective, read_objective
    from ftkit.training.objectives import (
        CLASSIFICATION,
        MASKED_TOKENS,
        NEXT_TOKEN,
        NLL,
        LossModule,
        Objective,
        WeightedSum,
        kl_to_base,
        last_tokens,
        loss_sums,
        smoothed,
        token_set_kl,
        with_output_of,
    )
    from ftkit.training.probes import CallbackProbe, Probe, build_probes

__all__ = [
    "CLASSIFICATION",
    "JUDGED_WINDOWS",
    "MASKED_TOKENS",
    "MOST_UNKNOWN",
    "NEXT_TOKEN",
    "NLL",
    "BestStep",
    "CallbackProbe",
    "CheckpointFolder",
    "ClassSamples",
    "ClassifiedTexts",
    "CoveredBytes",
    "Dataset",
    "Engine",
    "ExampleRows",
    "HeldOutDataset",
    "HeldOutExamples",
    "HeldOutLoss",
    "HeldOutTexts",
    "HeldOutWindows",
    "LossModule",
    "MaskedWindows",
    "Objective",
    "ObjectiveContext",
    "Predictions",
    "Probe",
    "RandomTokens",
    "StepRecord",
    "TokenWindows",
    "WeightedSum",
    "build_objective",
    "build_probes",
    "check_objective",
    "evaluated_batches",
    "held_out_loss",
    "kl_to_base",
    "last_tokens",
    "lockstep",
    "loss_sums",
    "predict_classes",
    "predict_outputs",
    "read_objective",
    "smoothed",
    "token_losses",
    "token_set_kl",
    "train_and_log",
    "training_plan",
    "with_output_of",
    "with_steps_of_epochs",
]

load_names_lazily(__name__)
