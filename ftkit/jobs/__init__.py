"""What recipes share: texts, bases that another recipe makes once, trainings, measurements, and the end of a run."""

from ftkit.jobs.bases import (
    Base,
    base_of_adapters,
    foresee_base,
    load_saved,
    load_start,
    load_start_tokenizer,
    prepare_base,
)
from ftkit.jobs.class_verdicts import ClassifierBench
from ftkit.jobs.classes import Classes, load_classes, prepare_classes, train_best_classifier, train_classifier
from ftkit.jobs.code import CodeStudy, prepare_code
from ftkit.jobs.examples import ExampleTarget, measure_examples, prepare_examples
from ftkit.jobs.language import FillingTask, Pretraining, WritingTask, language_task, log_samples, prepare_pretraining
from ftkit.jobs.lengths import fit_judge, fit_language, fit_window
from ftkit.jobs.stages import (
    MeasuredModels,
    check_objective,
    finish,
    measure_models,
    prepare_tuning,
    save_trained,
    train_in_lockstep,
    train_model,
)
from ftkit.jobs.targets import (
    BaseContext,
    TargetText,
    TrainingText,
    fit_training,
    judge_texts,
    prepare_target,
    prepare_targets,
)
from ftkit.jobs.texts import Text, load_texts, read_special_tokens

__all__ = [
    "Base",
    "BaseContext",
    "Classes",
    "ClassifierBench",
    "CodeStudy",
    "ExampleTarget",
    "FillingTask",
    "MeasuredModels",
    "Pretraining",
    "TargetText",
    "Text",
    "TrainingText",
    "WritingTask",
    "base_of_adapters",
    "check_objective",
    "finish",
    "fit_judge",
    "fit_language",
    "fit_training",
    "fit_window",
    "foresee_base",
    "judge_texts",
    "language_task",
    "load_classes",
    "load_saved",
    "load_start",
    "load_start_tokenizer",
    "load_texts",
    "log_samples",
    "measure_examples",
    "measure_models",
    "prepare_base",
    "prepare_classes",
    "prepare_code",
    "prepare_examples",
    "prepare_pretraining",
    "prepare_target",
    "prepare_targets",
    "prepare_tuning",
    "read_special_tokens",
    "save_trained",
    "train_best_classifier",
    "train_classifier",
    "train_in_lockstep",
    "train_model",
]
