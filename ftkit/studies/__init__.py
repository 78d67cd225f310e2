"""What recipes share: their texts, bases that another recipe makes once, what a model learns, and how it is judged."""

from ftkit.studies.bases import Base, base_of_adapters, foresee_base, prepare_base
from ftkit.studies.classes import Classes, load_classes, prepare_classes
from ftkit.studies.coding import CodeStudy, prepare_code
from ftkit.studies.language import FillingTask, WritingTask, language_task
from ftkit.studies.lengths import fit_language, fit_window
from ftkit.studies.loading import load_saved, load_start, load_start_tokenizer
from ftkit.studies.stages import MeasuredModels, finish, measure_models, prepare_tuning, save_trained, train_model
from ftkit.studies.subjects import Start, Subject, judge_texts, prepare_subject, prepare_subjects
from ftkit.studies.texts import Text, load_texts, read_special_tokens

__all__ = [
    "Base",
    "Classes",
    "CodeStudy",
    "FillingTask",
    "MeasuredModels",
    "Start",
    "Subject",
    "Text",
    "WritingTask",
    "base_of_adapters",
    "finish",
    "fit_language",
    "fit_window",
    "foresee_base",
    "judge_texts",
    "language_task",
    "load_classes",
    "load_saved",
    "load_start",
    "load_start_tokenizer",
    "load_texts",
    "measure_models",
    "prepare_base",
    "prepare_classes",
    "prepare_code",
    "prepare_subject",
    "prepare_subjects",
    "prepare_tuning",
    "read_special_tokens",
    "save_trained",
    "train_model",
]
