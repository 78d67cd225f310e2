"""Variables of accelerate do what the settings say, or stop a run by name; they never change gradients in silence."""

import re
from pathlib import Path

import accelerate
import pytest
from accelerate import Accelerator

from ftkit.config import TrainingSettings
from ftkit.data import load_tokenizer, tokenize_texts
from ftkit.errors import ConfigError, DeviceError
from ftkit.models import load_model
from ftkit.runs import open_run
from ftkit.runs.environment import HARMLESS, REFUSED
from ftkit.training import NEXT_TOKEN, Engine, TokenWindows

OF_OTHERS = r"ACCELERATE_(DEEPSPEED_|CONFIG_DS_FIELDS|GRADIENT_CLIPPING|FP8_|SAGEMAKER_|DYNAMO_)"
"""They are read only where one of the refused is set."""


def settings(**values) -> TrainingSettings:
    given = {
        "tokenizer": "byte",
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "window_tokens": 16,
        "save_steps": 0,
    }
    return TrainingSettings(**given, use_cpu=True, **values)


def gradient_norm(**values) -> float:
    store = tokenize_texts(["The keeper of the light walks over the stones. " * 20], load_tokenizer("byte"))
    model = load_model("new:ftkit_gpt2,n_embd=16,n_layer=1,n_head=2", vocab_size=257, max_positions=16)
    with Engine(model, NEXT_TOKEN, TokenWindows(store, 16, seed=0), settings(**values)) as engine:
        return next(iter(engine)).grad_norm


def test_the_engine_computes_the_gradient_that_the_settings_say(monkeypatch):
    alone = gradient_norm()
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert Accelerator(cpu=True).gradient_accumulation_steps == 4  # what accelerate itself would divide by
    assert gradient_norm() == alone
    accumulated = gradient_norm(gradient_accumulation_steps=4)
    monkeypatch.delenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    assert gradient_norm(gradient_accumulation_steps=4) == accumulated


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_compute_otherwise_is_refused_before_a_folder_is_made(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "inductor" if "DYNAMO" in name else "cpu" if "DEVICE" in name else "true")
    with pytest.raises(DeviceError, match=f"{name} is "):
        with open_run(settings(output_dir=str(tmp_path / "run")), "job.py"):
            pass
    assert not (tmp_path / "run").exists()
    with pytest.raises(DeviceError, match=f"{name} is "):
        gradient_norm()


@pytest.mark.parametrize(
    ("name", "value", "given"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", {"gradient_accumulation_steps": 2}),
        ("ACCELERATE_MIXED_PRECISION", "bf16", {}),
        ("ACCELERATE_MIXED_PRECISION", "fp8", {"bf16": True}),
        ("ACCELERATE_MIXED_PRECISION", "fp16", {"bf16": True}),
    ],
)
def test_a_variable_and_a_setting_that_differ_are_named_with_both_values(tmp_path, monkeypatch, name, value, given):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name} is '{value}', but"):
        with open_run(settings(output_dir=str(tmp_path / "run"), **given), "job.py"):
            pass


@pytest.mark.parametrize(
    ("name", "value", "given"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1", {"gradient_accumulation_steps": 2}),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2", {"gradient_accumulation_steps": 2}),
        ("ACCELERATE_MIXED_PRECISION", "no", {}),
        ("ACCELERATE_MIXED_PRECISION", "bf16", {"bf16": True}),
        ("ACCELERATE_DYNAMO_BACKEND", "NO", {}),
        ("ACCELERATE_USE_DEEPSPEED", "false", {}),
    ],
)
def test_what_says_the_same_as_the_settings_is_no_matter(tmp_path, monkeypatch, name, value, given):
    monkeypatch.setenv(name, value)
    with open_run(settings(output_dir=str(tmp_path / "run"), **given), "job.py") as run:
        assert run.path.exists()


def test_every_variable_that_accelerate_names_is_known():
    sources = Path(accelerate.__file__).parent.rglob("*.py")
    text = "\n".join(path.read_text("utf-8") for path in sources)
    found = set(re.findall(r"\bACCELERATE_[A-Z0-9_]*[A-Z0-9]\b", text))
    assert len(found) > 30
    checked = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "ACCELERATE_MIXED_PRECISION", *REFUSED, *HARMLESS}
    assert {name for name in found - checked if not re.match(OF_OTHERS, f"{name}_")} == set()
