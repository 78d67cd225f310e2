"""A foreign folder decides about its weights and its shape, never about what runs here."""

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from ftkit.errors import ModelError
from ftkit.models import load_model, save_model

SHAPE = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24}
SHAPE |= {"bos_token_id": 0, "eos_token_id": 0}
PICKLES = ("pytorch_model.bin", "adapter_model.bin", "training_args.bin")


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def plain_pickle(value, path):
    path.write_bytes(pickle.dumps(value))


def set_in_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


@pytest.fixture
def folder(tmp_path):
    GPT2LMHeadModel(GPT2Config(**SHAPE)).save_pretrained(tmp_path / "foreign")
    return tmp_path / "foreign"


@pytest.fixture
def pickled(folder):
    """The same weights, as older versions saved them."""
    state = load_model(str(folder)).state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder, state


def test_pickled_weights_load_only_when_asked_and_are_the_same_tensors(pickled):
    folder, state = pickled
    with pytest.raises(ModelError, match=r"only pickled ones.*allow_pickle"):
        load_model(str(folder))
    model = load_model(str(folder), allow_pickle=True)
    assert set(model.state_dict()) == set(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_other_pickles_are_no_weights_even_when_pickles_are_allowed(pickled):
    folder, _ = pickled
    (folder / "pytorch_model.bin").rename(folder / "weights.pt")
    with pytest.raises(ModelError, match="only pickled ones"):
        load_model(str(folder), allow_pickle=True)


@pytest.mark.parametrize("write", [torch.save, plain_pickle])
@pytest.mark.parametrize("has_adapter", [False, True])
def test_code_in_a_pickle_never_runs(folder, tmp_path, write, has_adapter):
    canary = tmp_path / "canary"
    for name in PICKLES:
        write({"lm_head.weight": Canary(canary)}, folder / name)
    if has_adapter:
        adapter = {"peft_type": "LORA", "base_model_name_or_path": str(folder), "r": 2, "target_modules": ["c_attn"]}
        (folder / "adapter_config.json").write_text(json.dumps(adapter))
    for allow_pickle in (False, True):
        try:
            load_model(str(folder), allow_pickle=allow_pickle)
        except ModelError:
            assert has_adapter  # the adapter's weights are refused; without one they are never looked at
    (folder / "model.safetensors").unlink()
    for allow_pickle in (False, True):
        with pytest.raises(ModelError):
            load_model(str(folder), allow_pickle=allow_pickle)
    assert not canary.exists()
    with pytest.raises(OSError, match="canary"):  # the fault is real: opened carelessly, the file runs
        torch.load(write_twice(canary, tmp_path / "proof.bin"), weights_only=False)


def write_twice(canary, path):
    canary.mkdir()  # so that running the pickle fails, loudly
    torch.save(Canary(canary), path)
    return path


FOREIGN = [
    {"attn_implementation": "evil/kernel"},
    {"_attn_implementation": "evil/kernel"},
    {"_attn_implementation_internal": "evil/kernel"},
    {"_attn_implementation_autoset": "evil/kernel"},
    {"attn_implementation": {"": "evil/kernel"}},
    {"experts_implementation": "evil/kernel"},
    {"use_kernels": True, "kernel_config": {"RMSNorm": "evil/kernel"}},
    {"transformers_weights": "adapter_model.bin"},
]


@pytest.mark.parametrize("family", ["gpt2", "gpt_neo", "ftkit_gpt2"])
def test_kernels_in_a_foreign_configuration_have_no_effect(tmp_path, family):
    model = load_model(f"new:{family}")
    save_model(model, None, tmp_path / "plain")
    ids = torch.arange(20)[None]
    for place, values in enumerate(FOREIGN):
        save_model(model, None, tmp_path / "foreign")
        set_in_config(tmp_path / "foreign", **values)
        loaded = load_model(str(tmp_path / "foreign"))
        assert loaded.config._attn_implementation == model.config._attn_implementation
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
        save_model(loaded, None, tmp_path / f"again{place}")
        again = (tmp_path / f"again{place}" / "config.json").read_text()
        assert again == (tmp_path / "plain" / "config.json").read_text()


def test_a_foreign_kernel_asks_neither_the_network_nor_the_terminal(folder):
    """In a program of its own with stdin closed, where every connection raises."""
    set_in_config(folder, attn_implementation="evil/kernel")
    program = (
        "import socket, sys\n"
        "def refuse(*arguments): raise SystemExit('the network was asked')\n"
        "socket.getaddrinfo = socket.socket.connect = refuse\n"
        "from ftkit.models import load_model\n"
        "print(load_model(sys.argv[1]).config._attn_implementation)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "sdpa"), done.stderr


def test_code_beside_a_known_architecture_is_left_alone(folder, tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    set_in_config(folder, auto_map={"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"})
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
    assert type(load_model(str(folder))) is GPT2LMHeadModel
    set_in_config(folder, model_type="strange")
    with pytest.raises(ModelError, match=r"its own Python code.*trust_remote_code"):
        load_model(str(folder))
    assert not canary.exists()
    with pytest.raises(ModelError):  # trusted, it does run; it just holds no model
        load_model(str(folder), trust_remote_code=True)
    assert canary.exists()


def test_code_from_the_hub_needs_a_fixed_revision():
    with pytest.raises(ModelError, match="only at a fixed revision"):
        load_model("someone/model", trust_remote_code=True)
