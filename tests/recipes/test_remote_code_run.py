"""A model that brings code along is trained, saved, loaded again and judged by every recipe that starts from it."""

import ast
import json
from pathlib import Path

import pytest
from recipe_runs import read, run_recipe
from transformers import GPT2Config, GPT2LMHeadModel

from ftkit.config.catalogue import recipes_folder
from ftkit.data import load_tokenizer
from ftkit.models import save_model

CODE = """from transformers import GPT2Config, GPT2LMHeadModel


class CountingConfig(GPT2Config):
    model_type = "counting_gpt2"


class CountingForCausalLM(GPT2LMHeadModel):
    config_class = CountingConfig
"""


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose model type transformers does not know, with its code."""
    folder = tmp_path_factory.mktemp("foreign") / "model"
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 257, "n_positions": 160}
    ends = {"bos_token_id": 256, "eos_token_id": 256}
    save_model(GPT2LMHeadModel(GPT2Config(**sizes, **ends)), load_tokenizer("byte"), folder)
    (folder / "modeling_counting.py").write_text(CODE)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "counting_gpt2"}
    named = {"AutoConfig": "CountingConfig", "AutoModelForCausalLM": "CountingForCausalLM"}
    config["auto_map"] = {auto: f"modeling_counting.{name}" for auto, name in named.items()}
    config["architectures"] = ["CountingForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.nightly  # three arms, passages of each by generate: a minute
def test_every_arm_of_a_comparison_is_loaded_again_with_its_code(foreign, tmp_path):
    values = {"trust_remote_code": True, "max_steps": 2, "eval_steps": 2, "save_steps": 0, "num_passages": 30}
    run = run_recipe("compare_tuning", tmp_path / "run", model=foreign, passage_chars=60, train="name:mlp", **values)
    assert set(read(run, "verdict.json")) == {"full", "frozen", "adapter"}


def test_recipes_load_models_through_the_one_module_that_knows_what_is_trusted():
    recipes = [path for path in recipes_folder().rglob("*.py") if "@recipe" in path.read_text()]
    assert len(recipes) > 8
    for path in recipes:
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert "load_model" not in names, path.name
