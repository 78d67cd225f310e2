"""Every configuration is one that --fast can make tiny: what it says of the large size does not stand in the way."""

import pytest

from ftkit.config import list_entries
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.resolve import read_flags, resolve
from ftkit.config.sweeps import find_study
from ftkit.errors import ConfigError

ENTRIES = {entry.name: entry for entry in list_entries()}
CONFIGS = [entry for entry in ENTRIES.values() if entry.kind == "config"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_a_configuration_resolves_with_fast(config):
    settings = main_settings(load_recipe(ENTRIES[config.recipe].path).main)
    arguments = ["--config", str(config.path), "--fast"]
    if find_study(settings, config.recipe, arguments) is None:
        assert resolve(settings, config.recipe, read_flags(settings, arguments)).fast


def settings_of(recipe: str, tmp_path, text: str, *flags: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    settings = main_settings(load_recipe(ENTRIES[recipe].path).main)
    return resolve(settings, recipe, read_flags(settings, ["--config", str(path), *flags])).settings


def test_what_a_file_says_of_blocks_and_steps_is_brought_into_the_tiny_run(tmp_path):
    text = """
recipe: finetune
train: attention.q@6..,mlp.out@-1
freeze_until: {attention@2+5: 300}
probes: [weight_change:attention.k@5]
"""
    fast = settings_of("finetune", tmp_path, text, "--fast")
    assert fast.train == "attention.q@1..,mlp.out@-1"
    assert fast.freeze_until == {"attention@1+1": 19}
    assert fast.probes == ["weight_change:attention.k@1"]
    given = settings_of("finetune", tmp_path, text, "--fast", "--train", "mlp@7")
    assert given.train == "mlp@7"


def test_beside_passes_the_steps_of_a_file_are_checked_when_they_are_known(tmp_path):
    text = "recipe: finetune\nnum_train_epochs: 30\nwarmup_steps: 600\nfreeze_until: {attention: 600}\n"
    assert settings_of("finetune", tmp_path, text).warmup_steps == 600
    with pytest.raises(ConfigError, match="longer than the run"):
        settings_of("finetune", tmp_path, text.replace("num_train_epochs: 30", "max_steps: 500"))


@pytest.mark.parametrize(
    ("recipe", "text", "said"),
    [
        ("finetune", "lr_scheduler_type: linear\nwarmup_steps: 10\nschedule_steps: 10", "the warm-up takes 10 of it"),
        ("bias", "rates: [1e-4, 1.0000001e-4]", "differ in six digits"),
        ("code_completion", "sampling: greedy\ntemperature: 1.4", "no effect with sampling: greedy"),
        ("numerics", "attention_tokens: [8, 8]", "each once"),
    ],
)
def test_settings_that_would_be_lost_silently_are_refused(recipe, text, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        settings_of(recipe, tmp_path, f"recipe: {recipe}\n{text}\n")
