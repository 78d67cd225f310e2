"""The fused activation, against transformers' own."""

import copy

import pytest
import torch
from transformers.activations import NewGELUActivation

from ftkit.models import load_model
from ftkit.training.engine import fuse_activations


@pytest.mark.parametrize("family", ["gpt2", "gpt_neo", "codegen"])
def test_fused_outputs_are_those_of_transformers_to_the_bit_outside_training_and_but_for_rounding_in_it(family):
    theirs = load_model(f"new:{family},initializer_range=0.3", vocab_size=50, max_positions=32)
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ours = copy.deepcopy(theirs)
    fuse_activations(ours)
    assert any(type(module) is NewGELUActivation for module in theirs.modules())
    assert not any(type(module) is NewGELUActivation for module in ours.modules())
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ids = torch.randint(0, 50, (3, 20), generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(ids).logits, theirs(ids).logits)
    sums = [model.train()(ids).logits.logsumexp(-1).sum() for model in (ours, theirs)]
    assert sums[0].item() == pytest.approx(sums[1].item(), rel=1e-5)
    grads = [torch.autograd.grad(s, [*m.parameters()]) for s, m in zip(sums, (ours, theirs), strict=True)]
    for ours_grad, theirs_grad in zip(*grads, strict=True):
        assert float((ours_grad - theirs_grad).norm()) <= 1e-4 * float(theirs_grad.norm()) + 1e-5
