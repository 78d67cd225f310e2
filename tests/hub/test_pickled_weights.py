"""A model that the Hub has only as pytorch_model.bin, such as Salesforce/codegen-350M-mono."""

import os
import re
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
from ftkit.data import load_tokenizer
from ftkit.models import load_model, save_model

NAME = "me/pickled"
WAYS_OUT = r"Hub model 'me/pickled' has no safetensors.*--allow_pickle true.*--revision"


@pytest.fixture
def pickled(hub: Hub, model: Path, tmp_path: Path) -> Hub:
    """A repository with pickled weights on main and safetensors in a pull request."""
    hub.repositories[NAME] = repository_of(model, "causal-lm", tmp_path)
    return hub


def repository_of(model: Path, task: str, scratch: Path) -> Repository:
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    weights = files.pop("model.safetensors")
    torch.save(load_model(str(model), task=task).state_dict(), scratch / "weights")
    repository = Repository()
    repository.commit({**files, "pytorch_model.bin": (scratch / "weights").read_bytes()})
    repository.branches["refs/pr/7"] = repository.branches["main"]
    repository.commit({"model.safetensors": weights}, "refs/pr/7")
    return repository


def in_a_process(hub: Hub, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own: the Hub's client keeps the address that it was imported with."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("HF_")}
    own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "home"), "FTKIT_CACHE": str(folder / "cache")}
    command = [sys.executable, *words]
    return subprocess.run(command, env=kept | own, cwd=folder, capture_output=True, text=True, check=False)


LOADING = """
import sys
from pathlib import Path
import huggingface_hub
import torch
from ftkit.errors import FtkitError
from ftkit.models import load_model

def load(**options):
    try:
        found = load_model("me/pickled", **options).state_dict()
        print("equal", all(torch.equal(found[name], tensor) for name, tensor in expected.items()))
    except FtkitError as error:
        print(error.exit_code, error)

expected = load_model(sys.argv[1]).state_dict()
load()
load(allow_pickle=True)
load(revision="refs/pr/7")
huggingface_hub.constants.HF_HUB_OFFLINE = True
load()
for file in Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("pytorch_model.bin"):
    file.unlink()
load()
"""


def test_it_is_no_network_error_and_both_ways_out_work(pickled: Hub, model: Path, tmp_path: Path):
    ended = in_a_process(pickled, tmp_path, "-c", LOADING, str(model))
    assert ended.returncode == 0, ended.stderr
    refused, pickle, revision, cached, nothing = ended.stdout.splitlines()
    assert re.match(f"4 {WAYS_OUT}", refused)
    assert (pickle, revision) == ("equal True", "equal True")
    assert cached == refused
    assert re.match("7 .*neither a folder here nor in the local cache", nothing)


def test_a_run_on_pickled_weights_ends_with_4_and_says_both_ways_out(pickled: Hub, tmp_path: Path):
    run = ["run", "finetune", "--fast", "--use_cpu", "--model", NAME, "--corpus", "voices:keeper:6000"]
    run += ["--window_tokens", "32", "--passage_chars", "40", "--num_passages", "30"]
    refused = in_a_process(pickled, tmp_path, "-m", "ftkit", *run, "--output_dir", "refused")
    assert (refused.returncode, "Traceback" in refused.stderr) == (4, False)
    assert "--allow_pickle true" in refused.stderr
    assert "--revision" in refused.stderr


COMMANDS = """
import sys
from typer.testing import CliRunner
from ftkit.cli import app

commands = {
    "chat": ["chat", "me/pickled", "--new-tokens", "2", "--opening", "Hello"],
    "convert": ["convert", "me/pickled", "{out}", "--to", "gpt2"],
    "inspect": ["inspect", "me/pickled", "--weights", "{out}", "--groups", "norm"],
    "perturb": ["perturb", "me/pickled", "--text", "text.txt", "--window-tokens", "16", "--max-windows", "1"],
    "predict": ["predict", "me/classifier", "a warm day"],
}
for name, words in commands.items():
    codes = []
    for number, flags in enumerate(([], ["--allow-pickle"], ["--revision", "refs/pr/7"])):
        given = [word.format(out=f"{name}{number}") for word in words]
        codes.append(CliRunner().invoke(app, [*given, *flags], input="hello\\n\\n").exit_code)
    print(name, codes)
"""


def test_every_command_that_loads_a_model_has_both_ways_out(pickled: Hub, tmp_path: Path):
    tokenizer = load_tokenizer("byte")
    classifier = load_model("new:bert", task="sequence-classification", vocab_size=len(tokenizer))
    save_model(classifier, tokenizer, tmp_path / "classifier")
    pickled.repositories["me/classifier"] = repository_of(tmp_path / "classifier", "sequence-classification", tmp_path)
    (tmp_path / "text.txt").write_text("The lamp was lit at dusk and the sea was calm. " * 40)
    ended = in_a_process(pickled, tmp_path, "-c", COMMANDS)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        f"{name} [4, 0, 0]" for name in ("chat", "convert", "inspect", "perturb", "predict")
    ], ended.stderr


def test_codegen_calculus_asks_for_what_its_model_needs_and_the_fast_one_for_nothing():
    settings = main_settings(load_recipe(find_recipe("code_completion")).main)
    flags = ["--config", str(find_config("codegen_calculus"))]
    assert resolve(settings, "code_completion", read_flags(settings, flags)).settings.allow_pickle
    fast = resolve(settings, "code_completion", read_flags(settings, [*flags, "--fast"])).settings
    assert (fast.model, fast.allow_pickle) == ("new:codegen", False)
