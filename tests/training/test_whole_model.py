"""A model that is put together for a moment; with FSDP itself it is tried in test_many_processes.py."""

import pytest
import torch
from conftest import tiny

from ftkit.training.accelerator import WholeModel

IDS = torch.arange(12)[None]


def devices(model: torch.nn.Module) -> set[str]:
    return {str(parameter.device) for parameter in model.parameters()}


def test_a_block_inside_another_leaves_the_model_whole_and_the_end_gives_back_its_own_tensors():
    model = tiny("gpt2").eval()
    own, expected = {name: id(tensor) for name, tensor in model.named_parameters()}, model(IDS).logits
    whole = WholeModel(model)
    with whole.inside(model, here=True):
        assert devices(model) == {"cpu"}
        with whole.inside(model, here=True):
            assert torch.equal(model(IDS).logits, expected)
        assert devices(model) == {"cpu"}
        assert torch.equal(model(IDS).logits, expected)
    assert {name: id(tensor) for name, tensor in model.named_parameters()} == own
    with whole.inside(model, here=True), pytest.raises(KeyError), whole.inside(model, here=True):
        raise KeyError("an evaluation that fails inside")
    whole.for_good(model)
    assert torch.equal(model(IDS).logits, expected)


def test_elsewhere_nothing_happens_however_deep():
    model = tiny("gpt2").eval()
    kept = model.__dict__
    whole = WholeModel(model)
    with whole.inside(model, here=False), whole.inside(model, here=False):
        assert model.__dict__ is kept
