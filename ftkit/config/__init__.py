"""Typed, strict settings: one class is the help text, the YAML schema and the flags of a recipe.

Values come from defaults, then a YAML file, then ``--fast``, then flags. Everything that is wrong is said at once, with
file and line, before any heavy library is imported.
"""

from typing import TYPE_CHECKING

from ftkit.lazy import load_names_lazily

if TYPE_CHECKING:
    from ftkit.config.catalogue import Entry, find_config, find_recipe, list_entries
    from ftkit.config.classification import ClassifierSettings, EarlyStopSettings
    from ftkit.config.examples import ExampleSettings
    from ftkit.config.launch import launch
    from ftkit.config.passage_settings import (
        CodeSettings,
        FrequentTokenSettings,
        JudgeSettings,
        OneTextSettings,
        PassageSettings,
        SampleSettings,
        TextSettings,
    )
    from ftkit.config.resolve import Resolved, resolve
    from ftkit.config.settings import (
        TRAINING_LENGTHS,
        AdapterSettings,
        EpochSettings,
        Problem,
        Settings,
        TrainingSettings,
        tiny_of,
    )

__all__ = [
    "TRAINING_LENGTHS",
    "AdapterSettings",
    "ClassifierSettings",
    "CodeSettings",
    "EarlyStopSettings",
    "Entry",
    "EpochSettings",
    "ExampleSettings",
    "FrequentTokenSettings",
    "JudgeSettings",
    "OneTextSettings",
    "PassageSettings",
    "Problem",
    "Resolved",
    "SampleSettings",
    "Settings",
    "TextSettings",
    "TrainingSettings",
    "find_config",
    "find_recipe",
    "launch",
    "list_entries",
    "resolve",
    "tiny_of",
]

load_names_lazily(__name__)
