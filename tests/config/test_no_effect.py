"""Every line of the table of settings without effect refuses what it names, and nothing else."""

from typing import Any

import pytest

from ftkit.config import (
    AdapterSettings,
    ClassifierSettings,
    CodeSettings,
    ExampleSettings,
    TrainingSettings,
    find_recipe,
)
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.no_effect import NO_EFFECT

PRETRAIN, BIAS = (main_settings(load_recipe(find_recipe(name)).main) for name in ("pretrain", "bias"))

CASES: list[tuple[type[Any], dict[str, Any], list[str]]] = [
    (TrainingSettings, {"muon_learning_rate": 0.1}, ["muon_learning_rate"]),
    (TrainingSettings, {"optimizer": "muon", "optimizer_args": {"momentum": 0.9}}, ["optimizer_args"]),
    (
        TrainingSettings,
        {"lr_scheduler_type": "constant", "min_lr_rate": 0.1, "schedule_steps": 900, "lr_cycles": 2.0},
        ["lr_cycles", "min_lr_rate", "schedule_steps"],
    ),
    (TrainingSettings, {"lr_scheduler_type": "linear", "min_lr_rate": 0.1, "schedule_steps": 900}, []),
    (TrainingSettings, {"clip_after": 3}, ["clip_after"]),
    (TrainingSettings, {"clip_after": 3, "max_group_norms": {"mlp": 1.0}}, []),
    (TrainingSettings, {"probe_steps": 7}, ["probe_steps"]),
    (
        TrainingSettings,
        {"model": "new:gpt2", "revision": "a", "trust_remote_code": True, "allow_pickle": True},
        ["allow_pickle", "revision", "trust_remote_code"],
    ),
    (ClassifierSettings, {"model": "new:bert", "metrics": ["f1"], "trust_remote_code": True}, []),
    (TrainingSettings, {"train": "mlp", "freeze": "norm", "unfreeze_every": 2}, []),
    (AdapterSettings, {"num_train_epochs": 1.0, "max_steps": 3}, ["max_steps"]),
    (
        AdapterSettings,
        {
            "lora_r": 4, "lora_alpha": 1.0, "lora_dropout": 0.1, "lora_target_modules": "mlp", "virtual_tokens": 4,
            "trainable_tokens": [4],
        },
        ["lora_alpha", "lora_dropout", "lora_r", "lora_target_modules", "trainable_tokens", "virtual_tokens"],
    ),
    (
        AdapterSettings,
        {
            "peft": "prefix", "virtual_tokens": 4, "train": "mlp", "freeze": "norm", "freeze_until": {"mlp": 3},
            "freeze_from": {"mlp": 9}, "unfreeze_every": 2,
        },
        ["freeze", "freeze_from", "freeze_until", "train", "unfreeze_every"],
    ),
    (
        ClassifierSettings,
        {
            "labelled": "x.csv", "passage_chars": 300, "labelled_test": "y.csv", "heldout_share": 0.3, "split": "head",
            "eval_windows": 3, "special_tokens": "text",
        },
        ["eval_windows", "heldout_share", "labelled_test", "passage_chars", "special_tokens", "split"],
    ),
    (
        ExampleSettings,
        {"heldout_examples": "x.jsonl", "heldout_share": 0.3, "split": "head", "special_tokens": "text",
         "encoding": "latin-1", "eval_windows": 3},
        ["encoding", "heldout_share", "special_tokens", "split"],
    ),
    (CodeSettings, {"sampling": "greedy", "temperature": 1.4}, ["temperature"]),
    (PRETRAIN, {"model": "new:gpt2", "donor": "base:tales", "tokenizer": "byte"}, ["tokenizer"]),
    (PRETRAIN, {"model": "new:gpt2", "transplant": "norm"}, ["transplant"]),
    (PRETRAIN, {"model": "new:gpt2", "transplant": None}, []),
    (BIAS, {"load_best_model_at_end": True}, ["load_best_model_at_end"]),
    (BIAS, {"early_stopping_patience": 3}, ["early_stopping_patience"]),
    (TrainingSettings, {"early_stopping_threshold": 0.1}, ["early_stopping_threshold"]),
    (TrainingSettings, {"load_best_model_at_end": True, "early_stopping_patience": 3}, []),
    (BIAS, {"rates": [1e-4], "learning_rate": 1e-3}, ["learning_rate"]),
    (ClassifierSettings, {"classes": {"a": "a.txt", "b": "b.txt"}, "passage_chars": 300}, []),
]  # fmt: skip


@pytest.mark.parametrize(("settings_class", "values", "names"), CASES)
def test_the_table_refuses_what_has_no_effect_and_nothing_else(settings_class, values, names):
    found = settings_class(**{"model": "m", **values}).without_effect()
    assert sorted(name for name, _ in found) == names
    assert all(text.startswith("has no effect ") and "leave" in text and "{" not in text for _, text in found)


def test_every_setting_of_the_table_has_a_case():
    in_table = [name for line in NO_EFFECT for name in line.settings]
    assert len(in_table) == len(set(in_table)) > 20
    assert set(in_table) == {name for _, _, names in CASES for name in names}
