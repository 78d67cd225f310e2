"""What ftkit does not do is refused with the tool to use instead, wherever it is asked for."""

import pytest
from typer.testing import CliRunner

from ftkit.cli import app
from ftkit.config.catalogue import find_recipe
from ftkit.errors import ConfigError, ModelError, done_elsewhere, nearest_name
from ftkit.models import load_model
from ftkit.training import read_objective


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("dpo", "trl.DPOTrainer"), ("ORPO", "TRL"), ("kto:0.1", "TRL"), ("dpo_loss", "TRL"),
        ("reward-model", "RewardTrainer"),
        ("seq2seq", "Seq2SeqTrainer"), ("vision", "transformers.Trainer"),
    ],
)  # fmt: skip
def test_a_wrong_name_that_is_another_tools_work_names_the_tool(name, tool):
    assert tool in nearest_name(name, ["finetune", "classify"])


def test_other_names_are_as_before():
    assert nearest_name("finetun", ["finetune", "classify"]) == "; did you mean 'finetune'?"
    assert nearest_name("zzz", ["b", "a"]) == "; there is: a, b"
    assert {done_elsewhere(name) for name in ("finetune", "model", "nll", "", "prompt_model")} == {""}


def test_recipes_objectives_and_tasks_are_asked_alike():
    with pytest.raises(ConfigError, match=r"unknown recipe 'dpo'; ftkit does not do preference tuning: use TRL"):
        find_recipe("dpo")
    with pytest.raises(ConfigError, match=r"objective 'orpo:0\.1'.*use TRL"):
        read_objective("orpo:0.1")
    with pytest.raises(ModelError, match=r"task is 'seq2seq-lm'; ftkit does not train encoder-decoder models"):
        load_model("new:gpt2", task="seq2seq-lm")
    for command in ("run", "plan"):
        ended = CliRunner().invoke(app, [command, "kto"])
        assert ended.exit_code == 2 or isinstance(ended.exception, ConfigError)
        assert "use TRL" in ended.output + str(ended.exception)
