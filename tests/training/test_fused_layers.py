"""Layers that train in fewer operations, against those of transformers and peft."""

import copy

import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear
from transformers.activations import NewGELUActivation

from ftkit.config import AdapterSettings
from ftkit.models import load_model
from ftkit.training import fused_layers
from ftkit.training.fused_layers import fuse_layers
from ftkit.tuning import attach_adapter

WIDER = "initializer_range=0.3"
"""Weights at which activations are in the curved part of their functions."""


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def with_adapter(family, **changes):
    """A family's model with LoRA whose B matrices are not zero."""
    model = without_dropout(load_model(f"new:{family}", vocab_size=50, max_positions=32))
    model = attach_adapter(model, AdapterSettings(model="m", use_cpu=True, **{"peft": "lora", **changes}), base="m")
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / 8)
    return model


def gradients(model):
    """Loss and gradients in training, by name."""
    ids = torch.randint(0, 50, (3, 20), generator=torch.Generator().manual_seed(0))
    total = model.train()(input_ids=ids).logits.logsumexp(-1).sum()
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    found = torch.autograd.grad(total, [model.get_parameter(name) for name in names], allow_unused=True)
    return total.item(), dict(zip(names, found, strict=True))


def assert_same_but_for_rounding(ours, theirs):
    ids = torch.randint(0, 50, (3, 20), generator=torch.Generator().manual_seed(0))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert torch.equal(ours.eval()(input_ids=ids).logits, theirs.eval()(input_ids=ids).logits)
    (our_sum, ours_by_name), (their_sum, theirs_by_name) = gradients(ours), gradients(theirs)
    assert our_sum == pytest.approx(their_sum, rel=1e-5)
    assert any(gradient is not None for gradient in theirs_by_name.values())
    for name, expected in theirs_by_name.items():
        if expected is None:
            assert ours_by_name[name] is None
            continue
        assert float((ours_by_name[name] - expected).norm()) <= 1e-4 * float(expected.norm()) + 1e-5, name


def fused_classes(model):
    """Names of classes that stand below their own."""
    return {
        type(module).__name__ for module in model.modules()
        if any(each.__module__ == fused_layers.__name__ for each in type(module).__mro__)
    }  # fmt: skip


@pytest.mark.parametrize("family", ["gpt2", "gpt_neo", "codegen"])
def test_the_fused_activation_is_that_of_transformers(family):
    theirs = without_dropout(load_model(f"new:{family},{WIDER}", vocab_size=50, max_positions=32))
    ours = copy.deepcopy(theirs)
    fuse_layers(ours)
    assert any(type(module) is NewGELUActivation for module in theirs.modules())
    assert not any(type(module) is NewGELUActivation for module in ours.modules())
    assert_same_but_for_rounding(ours, theirs)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_the_fused_norm_and_the_gradient_of_its_weight_are_those_of_transformers(family):
    theirs = without_dropout(load_model(f"new:{family},{WIDER}", vocab_size=50, max_positions=32))
    for name, parameter in theirs.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(2))
    ours = copy.deepcopy(theirs)
    fuse_layers(ours)
    (found,) = fused_classes(ours)
    classes = [type(module) for module in ours.modules()]
    assert found.endswith("RMSNorm")
    fuse_layers(ours)  # an engine after another one
    assert [type(module) for module in ours.modules()] == classes
    assert_same_but_for_rounding(ours, theirs)


def test_a_norm_of_another_formula_keeps_its_own_code():
    class Shifted(torch.nn.Module):
        """As Gemma's."""

        def __init__(self):
            super().__init__()
            self.weight, self.variance_epsilon = torch.nn.Parameter(torch.full((8,), 0.5)), 1e-6

        def forward(self, hidden_states):
            scale = (hidden_states.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()
            return hidden_states * scale * (1 + self.weight)

    class TwoInputs(Shifted):
        def forward(self, hidden_states, gate):  # type: ignore[override]
            return super().forward(hidden_states) * gate

    for module in (Shifted(), TwoInputs()):
        fuse_layers(module)
        assert not fused_classes(module)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neo"])
@pytest.mark.parametrize("changes", [{}, {"lora_target_modules": "all-linear"}, {"peft": "rslora"}], ids=str)
def test_fused_lora_is_that_of_peft(family, changes):
    theirs = with_adapter(family, **changes)
    ours = copy.deepcopy(theirs)
    fuse_layers(ours)
    assert "Linear" in fused_classes(ours)
    assert_same_but_for_rounding(ours, theirs)


@pytest.mark.parametrize("changes", [{"lora_dropout": 0.5}, {"peft": "dora"}], ids=str)
def test_lora_that_does_more_keeps_pefts_own_code(changes):
    theirs = with_adapter("llama", **changes)
    ours = copy.deepcopy(theirs)
    for module in ours.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.variance_epsilon = torch.tensor(module.variance_epsilon)  # not fused, so that all bits are the same
    fuse_layers(ours)
    found = []
    for model in (ours, theirs):
        torch.manual_seed(0)
        found.append(gradients(model))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(a, b) for a, b in zip(found[0][1].values(), found[1][1].values(), strict=True))


@pytest.mark.parametrize("change", ["trained base", "bfloat16", "merged", "off", "hook"])
def test_lora_that_is_used_in_another_way_keeps_pefts_own_code(change):
    theirs = with_adapter("gpt2")
    if change == "bfloat16":
        theirs = theirs.to(torch.bfloat16)
    ours, seen, outputs = copy.deepcopy(theirs), [], []
    layers = [next(module for module in model.modules() if type(module) is LoraLinear) for model in (ours, theirs)]
    fuse_layers(ours)
    for layer in layers:
        if change == "trained base":
            layer.base_layer.requires_grad_(True)
        elif change == "merged":
            layer.merge()
        elif change == "off":
            layer.enable_adapters(False)
        elif change == "hook":
            layer.base_layer.register_forward_hook(lambda *given: seen.append(given))
        x = torch.randn(2, 5, layer.in_features, generator=torch.Generator().manual_seed(3))
        outputs.append(layer.train()(x.to(layer.base_layer.weight.dtype)))
    assert torch.equal(*outputs)
    assert len(seen) == (2 if change == "hook" else 0)
