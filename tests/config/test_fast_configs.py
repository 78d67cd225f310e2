"""Every configuration is one that --fast can make tiny: what it says of the large size does not stand in the way."""

import pytest

from ftkit.config import list_entries
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.resolve import read_flags, resolve
from ftkit.config.sweeps import find_study

ENTRIES = {entry.name: entry for entry in list_entries()}
CONFIGS = [entry for entry in ENTRIES.values() if entry.kind == "config"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_a_configuration_resolves_with_fast(config):
    settings = main_settings(load_recipe(ENTRIES[config.recipe].path).main)
    arguments = ["--config", str(config.path), "--fast"]
    if find_study(settings, config.recipe, arguments) is None:
        assert resolve(settings, config.recipe, read_flags(settings, arguments)).fast
