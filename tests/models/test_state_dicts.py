"""Weights in one file: the same tensors again, each once, and a precise complaint when they do not fit."""

import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ftkit.errors import ModelError
from ftkit.models import load_model, load_state_dict, save_state_dict

ENDINGS = [".safetensors", ".pt"]


def read(path):
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("family", ["gpt2", "ftkit_gpt2", "gpt_neo", "codegen"])
def test_weights_come_back_and_every_tensor_is_written_once(family, ending, tmp_path):
    model, other = load_model(f"new:{family}", seed=0), load_model(f"new:{family}", seed=1)
    path = tmp_path / f"weights{ending}"
    save_state_dict(model, path)
    load_state_dict(other, path, allow_pickle=True)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in other.state_dict().items())
    parameters = sum(parameter.numel() for parameter in model.parameters())  # PyTorch counts tied ones once
    buffers = {name for name, _ in model.named_buffers()} & set(model.state_dict())
    assert sum(tensor.numel() for name, tensor in read(path).items() if name not in buffers) == parameters
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_has_four_bytes_for_a_parameter(ending, tmp_path):
    model = load_model("new:gpt2,n_embd=128")
    save_state_dict(model, tmp_path / f"weights{ending}")
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert size < (tmp_path / f"weights{ending}").stat().st_size < size + 15_000


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_embedding_of_ones_comes_back_as_ones_and_only_in_the_marked_copy(ending, tmp_path):
    """Lesson 07/020: mark the token embedding, save, delete, load both copies, compare."""
    model = load_model("new:gpt2", seed=3)
    save_state_dict(model, tmp_path / f"plain{ending}")
    with torch.no_grad():
        model.transformer.wte.weight.fill_(1.0)
    save_state_dict(model, tmp_path / f"marked{ending}")
    del model
    plain, marked = load_model("new:gpt2", seed=8), load_model("new:gpt2", seed=9)
    load_state_dict(plain, tmp_path / f"plain{ending}", allow_pickle=True)
    load_state_dict(marked, tmp_path / f"marked{ending}", allow_pickle=True)
    assert marked.transformer.wte.weight.mean() == 1
    assert abs(plain.transformer.wte.weight.mean()) < 0.01
    assert torch.linalg.norm(marked.transformer.wte.weight - plain.transformer.wte.weight) > 0
    assert (marked.lm_head.weight == 1).all()  # the head is the embedding
    assert marked.lm_head.weight is marked.transformer.wte.weight
    rest = {name for name in plain.state_dict() if name not in ("transformer.wte.weight", "lm_head.weight")}
    assert len(rest) > 20
    assert all(torch.equal(plain.state_dict()[name], marked.state_dict()[name]) for name in rest)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_model_keeps_its_dtype(ending, tmp_path):
    model = load_model("new:gpt2", seed=0)
    save_state_dict(model, tmp_path / f"w{ending}")
    half = load_model("new:gpt2", seed=1).to(torch.bfloat16)
    load_state_dict(half, tmp_path / f"w{ending}", allow_pickle=True)
    assert half.lm_head.weight.dtype == torch.bfloat16
    assert torch.equal(half.lm_head.weight, model.lm_head.weight.bfloat16())


def test_all_that_does_not_fit_is_named_and_nothing_is_changed(tmp_path):
    model = load_model("new:gpt2", seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in before.items() if name != "lm_head.weight"}
    state["transformer.wpe.weight"] = torch.zeros(3, 64)
    state["transformer.extra"] = torch.zeros(1)
    del state["transformer.h.0.ln_1.bias"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError) as caught:
        load_state_dict(model, tmp_path / "w.safetensors")
    text = str(caught.value)
    assert "missing: transformer.h.0.ln_1.bias;" in text
    assert "left over: transformer.extra;" in text
    assert "wrong shape: transformer.wpe.weight (file (3, 64), model (128, 64))" in text
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_two_matrices_for_a_tied_one_are_refused(tmp_path):
    model = load_model("new:gpt2")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "same.safetensors")
    load_state_dict(model, tmp_path / "same.safetensors")
    state["lm_head.weight"] += 1
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"tied in the model but different.*wte\.weight and lm_head\.weight"):
        load_state_dict(model, tmp_path / "other.safetensors")


def test_ties_that_only_share_memory_are_written_once(tmp_path):
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight.data = model["a"].weight.data
    save_state_dict(model, tmp_path / "w.safetensors")
    assert set(load_file(tmp_path / "w.safetensors")) == {"a.weight", "a.bias", "b.bias"}


class Canary:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return __import__("os").mkdir, (self.path,)


def test_a_pickle_needs_consent_and_even_then_runs_no_code(tmp_path):
    model, path = load_model("new:gpt2"), tmp_path / "w.pt"
    save_state_dict(model, path)
    with pytest.raises(ModelError, match=r"is a pickle.*allow_pickle"):
        load_state_dict(model, path)
    for write in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        write({"lm_head.weight": Canary(tmp_path / "canary")}, path)
        with pytest.raises(ModelError, match="cannot be read"):
            load_state_dict(model, path, allow_pickle=True)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.bin", b"", "ends in .safetensors or .pt"),
        ("w.safetensors", b"", "cannot be read"),
        ("w.safetensors", b"\xff" * 100, "cannot be read"),
        ("w.pt", b"PK\x03\x04", "cannot be read"),
    ],
)
def test_a_file_that_is_no_state_dict_is_one_error(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_state_dict(nn.Linear(2, 2), tmp_path / name, allow_pickle=True)
    with pytest.raises(ModelError, match="there is no such file"):
        load_state_dict(nn.Linear(2, 2), tmp_path / "absent.pt", allow_pickle=True)


def test_other_objects_in_a_pickle_are_no_state_dict(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "w.pt")
    with pytest.raises(ModelError, match="something else than a state dict"):
        load_state_dict(nn.Linear(2, 2), tmp_path / "w.pt", allow_pickle=True)


def test_a_model_without_values_is_not_saved(tmp_path):
    with pytest.raises(ModelError, match="no values"):
        save_state_dict(nn.Linear(2, 2, device="meta"), tmp_path / "w.pt")
    assert not list(tmp_path.iterdir())
