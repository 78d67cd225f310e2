"""A model that the Hub has only as pytorch_model.bin, such as Salesforce/codegen-350M-mono."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_server import Hub, Repository

from ftkit.config import find_recipe, resolve
from ftkit.config.catalogue import find_config, load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.resolve import read_flags
from ftkit.errors import ModelError, NetworkError
from ftkit.models import load_model
from ftkit.models.outlines import outline

NAME = "me/pickled"
WAYS_OUT = r"Hub model 'me/pickled' has no safetensors.*--allow_pickle true.*--revision"


@pytest.fixture
def pickled(hub: Hub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A repository with pickled weights on main and safetensors in a pull request."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.endpoint)  # kept from when it was imported
    template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    weights = files.pop("model.safetensors")
    torch.save(load_model(str(model)).state_dict(), tmp_path / "weights")
    repository = hub.repositories[NAME] = Repository()
    repository.commit({**files, "pytorch_model.bin": (tmp_path / "weights").read_bytes()})
    repository.branches["refs/pr/7"] = repository.branches["main"]
    repository.commit({"model.safetensors": weights}, "refs/pr/7")
    return hub


def test_it_is_no_network_error_and_both_ways_out_work(pickled: Hub, model: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ModelError, match=WAYS_OUT):
        load_model(NAME)
    expected = load_model(str(model)).state_dict()
    for options in ({"allow_pickle": True}, {"revision": "refs/pr/7"}):
        found = load_model(NAME, **options).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert outline(NAME, revision="refs/pr/7").config.model_type == "ftkit_gpt2"
    asked = len(pickled.requests)
    with pytest.raises(ModelError, match=WAYS_OUT):  # what the cache holds says enough
        load_model(NAME)
    assert len(pickled.requests) == asked
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=WAYS_OUT):
        load_model(NAME)


def test_a_cached_configuration_alone_is_still_a_network_error_without_a_network(
    pickled: Hub, monkeypatch: pytest.MonkeyPatch
):
    outline(NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match="neither a folder here nor in the local cache"):
        load_model(NAME)


def ftkit(hub: Hub, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own: the Hub's client keeps the address that it was imported with."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("HF_")}
    own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "home"), "FTKIT_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "ftkit", *words]
    return subprocess.run(command, env=kept | own, cwd=folder, capture_output=True, text=True, check=False)


def test_a_run_on_pickled_weights_ends_with_4_and_says_both_ways_out(pickled: Hub, tmp_path: Path):
    run = ["run", "finetune", "--fast", "--use_cpu", "--model", NAME, "--corpus", "voices:keeper:6000"]
    run += ["--max_steps", "1", "--window_tokens", "32", "--passage_chars", "40", "--num_passages", "30"]
    refused = ftkit(pickled, tmp_path, *run, "--output_dir", "refused")
    assert (refused.returncode, "Traceback" in refused.stderr) == (4, False)
    assert "--allow_pickle true" in refused.stderr
    assert "--revision" in refused.stderr


def test_codegen_calculus_asks_for_what_its_model_needs_and_the_fast_one_for_nothing():
    settings = main_settings(load_recipe(find_recipe("code_completion")).main)
    flags = ["--config", str(find_config("codegen_calculus"))]
    assert resolve(settings, "code_completion", read_flags(settings, flags)).settings.allow_pickle
    fast = resolve(settings, "code_completion", read_flags(settings, [*flags, "--fast"])).settings
    assert (fast.model, fast.allow_pickle) == ("new:codegen", False)
