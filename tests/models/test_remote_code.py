"""Saved folders of the own GPT-2 and its ladder carry their code, and load where ftkit is not installed."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from ftkit.models import load_model, reload_difference, save_model

AUTO_CLASSES = {"AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForSequenceClassification"}
CODE = {"cache_ftkit_gpt2.py", "configuration_ftkit_gpt2.py", "modeling_ftkit_gpt2.py"}

# Runs where importing ftkit fails. Arguments: language model, classifier, rung, ids and logits, where to save again.
PROGRAM = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ftkit":
            raise ModuleNotFoundError("ftkit is hidden")

sys.meta_path.insert(0, Hidden())
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

lm, classifier, rung, facts, again = sys.argv[1:]
facts = torch.load(facts)

def check(auto, folder, expected):
    model = auto.from_pretrained(folder, trust_remote_code=True).eval()
    assert type(model).__module__.startswith("transformers_modules"), type(model).__module__
    with torch.no_grad():
        output = model(facts["ids"])
    if expected is not None:
        torch.testing.assert_close(output.logits, facts[expected])
    return model

try:
    AutoModelForCausalLM.from_pretrained(lm, trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code" in str(error)
else:
    raise AssertionError("remote code ran without consent")
assert AutoConfig.from_pretrained(lm, trust_remote_code=True).model_type == "ftkit_gpt2"
check(AutoModel, lm, None)
check(AutoModelForSequenceClassification, classifier, "scores")
check(AutoModelForCausalLM, rung, "rung")
model = check(AutoModelForCausalLM, lm, "logits")
assert model.lm_head.weight is model.model.embed_tokens.weight
model.save_pretrained(again)
for auto, expected in ((AutoModelForCausalLM, "logits"), (AutoModel, None)):
    check(auto, again, expected)
print("all loaded")
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    ids = torch.arange(20)[None]
    lm = load_model("new:ftkit_gpt2,hidden_size=32,initializer_range=0.2,vocab_size=64,eos_token_id=1")
    classifier = load_model("new:ftkit_gpt2,hidden_size=32,vocab_size=64", task="sequence-classification")
    rung = load_model("new:ftkit_ladder,rung=3,hidden_size=32,initializer_range=0.2,vocab_size=64")
    save_model(lm, None, folder / "lm")
    save_model(classifier, None, folder / "classifier")
    save_model(rung, None, folder / "rung")
    with torch.no_grad():
        logits = {"logits": lm(ids).logits, "scores": classifier(ids).logits, "rung": rung(ids).logits}
    torch.save({"ids": ids, **logits}, folder / "facts.pt")
    return folder


@pytest.mark.parametrize("name", ["lm", "classifier"])
def test_a_saved_folder_holds_its_code_and_names_all_auto_classes(saved, name):
    assert {path.name for path in (saved / name).iterdir()} >= CODE | {"config.json", "model.safetensors"}
    assert set(json.loads((saved / name / "config.json").read_text())["auto_map"]) == AUTO_CLASSES


def test_weights_are_written_in_the_native_layout(saved):
    header = (saved / "lm" / "model.safetensors").read_bytes()[:20000]
    assert b"model.layers.0.self_attn.q_proj.weight" in header
    assert b"c_attn" not in header


def test_saved_folders_load_and_save_again_where_ftkit_is_not_installed(saved, tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    environment.pop("PYTHONPATH", None)
    arguments = [str(saved / name) for name in ("lm", "classifier", "rung", "facts.pt")]
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments, str(tmp_path / "again")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=180,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "all loaded" in run.stdout
    assert {path.name for path in (tmp_path / "again").iterdir()} >= CODE
    assert set(json.loads((tmp_path / "again" / "config.json").read_text())["auto_map"]) == AUTO_CLASSES


def test_a_folder_of_ftkit_0_1_which_has_two_files_of_code_loads(saved, tmp_path):
    ids, folder = torch.arange(20)[None], shutil.copytree(saved / "lm", tmp_path / "lm")
    (folder / "cache_ftkit_gpt2.py").unlink()
    for name in CODE - {"cache_ftkit_gpt2.py"}:
        (folder / name).write_text("raise ImportError('the code beside the weights is not needed here')\n")
    assert reload_difference(load_model(str(saved / "lm")), folder, ids) == 0.0


def test_where_ftkit_is_imported_its_own_class_wins_over_the_folders_code(saved):
    model = load_model(str(saved / "lm"), trust_remote_code=True)
    assert type(model).__module__ == "ftkit.models.modeling_ftkit_gpt2"
    assert type(load_model(str(saved / "lm"))) is type(model)


ORDERS = {
    "ftkit first": "import ftkit\nfrom transformers import AutoModelForCausalLM",
    "ftkit last": "from transformers import AutoModelForCausalLM\nimport ftkit",
    "ftkit.models first": "import ftkit.models\nfrom transformers import AutoModelForCausalLM",
    "lazily": "import ftkit, transformers\nAutoModelForCausalLM = transformers.AutoModelForCausalLM",
}


@pytest.mark.parametrize("order", ORDERS)
def test_the_auto_classes_know_the_own_models_where_ftkit_is_imported(saved, order):
    program = f"""
{ORDERS[order]}
model = AutoModelForCausalLM.from_pretrained({str(saved / "lm")!r})
print(type(model).__module__)
import inspect, transformers.models.auto.modeling_auto as auto
assert "class AutoModelForCausalLM" in inspect.getsource(auto)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.stdout == "ftkit.models.modeling_ftkit_gpt2\n", done.stdout + done.stderr


def test_importing_ftkit_imports_neither_torch_nor_transformers_nor_its_models():
    program = "import sys, ftkit; print({'torch', 'transformers', 'ftkit.models'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"


def test_an_import_that_fails_afterwards_leaves_the_first_one_whole(tmp_path):
    (tmp_path / "first_one.py").write_text("VALUE = 3")
    (tmp_path / "second_one.py").write_text("import no_such_module")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom ftkit.lazy import import_after\nbefore = [*sys.meta_path]\n"
        "sys.meta_path[:] = [f for f in before if type(f).__name__ != '_ImportAfter']\n"
        "import_after('first_one', 'second_one')\nimport first_one\nprint(first_one.VALUE, first_one.__loader__.path)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == f"3 {tmp_path}/first_one.py\n", done.stderr
