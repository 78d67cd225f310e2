"""Objectives by their names in settings: what is read, what is refused, and whose code runs."""

import re
import sys
from pathlib import Path

import pytest
import torch

from ftkit.data import load_tokenizer
from ftkit.errors import ConfigError
from ftkit.models import load_model
from ftkit.training import Objective, ObjectiveContext, WeightedSum, build_objective, read_objective
from ftkit.training.objective_names import OBJECTIVES

BYTES = load_tokenizer("byte")
OWN = """
from ftkit.training import NEXT_TOKEN, Objective

HALF = Objective("half", lambda z, b: 0.5 * NEXT_TOKEN.loss_sum(z, b), NEXT_TOKEN.num_targets)
MEAN = Objective("mean", lambda z, b: NEXT_TOKEN.loss_sum(z, b) / len(z), NEXT_TOKEN.num_targets)
NUMBER = 3

def made(ingredients):
    return Objective(f"of {ingredients.vocab_size}", NEXT_TOKEN.loss_sum, NEXT_TOKEN.num_targets)
"""


def base():
    return load_model("new:gpt2", vocab_size=257, max_positions=64)


INGREDIENTS = ObjectiveContext(BYTES, 257, base=base)


@pytest.mark.parametrize(
    "text",
    [
        "next_token", "nll", "last_token", "last_tokens:8", "smoothed:0.1", "token_set:x", "token_set:x:0.9",
        "token_set:x:0.9:last", "token_set:[xX]:last", "kl_to_base",
    ],
)  # fmt: skip
def test_a_name_makes_an_objective_of_that_name(text):
    made = build_objective(text, INGREDIENTS)
    assert isinstance(made, Objective)
    assert made.name == text


def test_a_pattern_may_have_colons_numbers_and_signs():
    read = {text: read_objective(text)[0].arguments for text in (
        "token_set:a:b:0.5", "token_set:3", "token_set:3:0.25", "token_set:x+|y", "token_set::", "token_set:x:all",
    )}  # fmt: skip
    assert read == {
        "token_set:a:b:0.5": ("a:b", 0.5, "all"),
        "token_set:3": ("3", 1.0, "all"),
        "token_set:3:0.25": ("3", 0.25, "all"),
        "token_set:x+|y": ("x+|y", 1.0, "all"),
        "token_set::": (":", 1.0, "all"),
        "token_set:x:all": ("x", 1.0, "all"),
    }


def test_a_sum_has_its_weights():
    made = build_objective("next_token + 0.1*kl_to_base + 2e-1 * last_tokens:3", INGREDIENTS)
    assert isinstance(made, WeightedSum)
    assert [(weight, part.name) for weight, part in made.parts] == [
        (1.0, "next_token"), (0.1, "kl_to_base"), (0.2, "last_tokens:3"),
    ]  # fmt: skip
    assert made.baseline(100) == pytest.approx(1.2 * 4.605170186)
    alone = build_objective("0.5*next_token", INGREDIENTS)
    assert [weight for weight, _ in alone.parts] == [0.5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("next_tokn", "did you mean 'next_token'"),
        ("lastt_tokens:8", "did you mean 'last_tokens'"),
        ("last_tokens", "is no last_tokens:COUNT"),
        ("last_tokens:0", "give 1 or more"),
        ("last_tokens:2.5", "is no last_tokens:COUNT"),
        ("smoothed:1", "above 0 and below 1"),
        ("smoothed:lots", "is no smoothed:SHARE"),
        ("next_token:3", "nothing stands after its name"),
        ("token_set:", "needs a pattern"),
        ("token_set:(", r"is no token_set:PATTERN"),
        ("token_set:x:1.5", "from 0 to 1"),
        ("next_token+kl_to_base", r"blanks stand around a \+"),
        ("0*next_token", "has no effect"),
        ("e*next_token", "is no number"),
        ("next_token + next_token", "twice"),
        ("", "unknown objective ''"),
    ],
)
def test_what_cannot_be_read_is_told_before_anything_is_built(text, said):
    with pytest.raises(ConfigError, match=said):
        read_objective(text)


def test_the_one_on_the_page_is_one(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "focal.py").write_text(code, encoding="utf-8")
    made = build_objective(f"{tmp_path / 'focal.py'}:FOCAL", INGREDIENTS)
    logits, ids = torch.zeros(2, 5, 257), torch.zeros(2, 5, dtype=torch.long)
    even = made.loss_sum(logits, {"input_ids": ids, "labels": ids}).item() / 8
    assert even == pytest.approx(made.baseline(257), rel=1e-5)


def test_every_name_is_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text(encoding="utf-8")
    for name, kind in OBJECTIVES.items():
        assert f"| `{kind.form}` |" in page, name


def test_an_objective_for_another_task_is_refused():
    with pytest.raises(
        ConfigError, match="next_token: is for causal-lm, and this model is for masked-lm; choose one of m"
    ):
        build_objective("next_token", ObjectiveContext(BYTES, 257, "masked-lm"))
    assert not build_objective("token_set:x", ObjectiveContext(BYTES, 257, "masked-lm")).causal
    with pytest.raises(ConfigError, match="there is no base"):
        build_objective("kl_to_base", ObjectiveContext(BYTES, 257))


def test_reading_runs_no_code_and_building_runs_the_users_own(tmp_path, monkeypatch):
    (tmp_path / "my_losses.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    assert read_objective("next_token + my_losses:HALF")[1].kind == ""
    assert "my_losses" not in sys.modules
    made = build_objective("next_token + my_losses:HALF", INGREDIENTS)
    assert "my_losses" in sys.modules
    assert made.parts[1][1].name == "my_losses:HALF"
    assert build_objective("my_losses:made", INGREDIENTS).name == "my_losses:made"
    by_file = build_objective(f"{tmp_path / 'my_losses.py'}:HALF", INGREDIENTS)
    assert isinstance(by_file, Objective)
    for path, said in (
        ("my_losses:NUMBER", "is int; it must be an Objective"),
        ("my_losses:HALFF", "has no HALFF; did you mean 'HALF'"),
        ("my_losses:MEAN", "not their mean"),
        ("my_lossses:HALF", "cannot be imported"),
        (f"{tmp_path / 'nowhere.py'}:HALF", "cannot be imported"),
    ):
        with pytest.raises(ConfigError, match=said):
            build_objective(path, INGREDIENTS)
