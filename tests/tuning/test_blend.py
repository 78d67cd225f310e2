"""A blend is exact at its ends, lies between them elsewhere, and refuses what has no line between."""

import copy
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from ftkit.config.settings import AdapterSettings
from ftkit.errors import ModelError
from ftkit.models import load_model
from ftkit.tuning import attach_adapter
from ftkit.tuning.blend import Blend, blends_in_place

IDS = torch.arange(32)[None]


@pytest.fixture
def base() -> PreTrainedModel:
    """A model whose head is its embedding."""
    return load_model("new:gpt2,n_layer=2,n_head=2,n_embd=32", seed=0, vocab_size=64, max_positions=32)


def moved(model: PreTrainedModel) -> Any:
    """A copy with noise in every parameter."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return other


def equal(first: PreTrainedModel, second: PreTrainedModel) -> bool:
    """Whether all tensors have the same bits."""
    mine, others = first.state_dict(), second.state_dict()
    return mine.keys() == others.keys() and all(
        torch.equal(tensor.view(torch.uint8), others[name].view(torch.uint8)) for name, tensor in mine.items()
    )


def test_a_blend_is_exact_at_its_ends_and_halfway_between_them_at_a_half(base):
    tuned = moved(base)
    with torch.no_grad():
        tuned.transformer.ln_f.bias[0] = -0.0  # a sign that adding would lose
    before, after = copy.deepcopy(base), copy.deepcopy(tuned)
    blend = Blend(base, tuned)
    half = copy.deepcopy(blend.at(0.5)).state_dict()
    assert equal(blend.at(0), base)
    assert equal(blend.at(1), tuned)
    assert equal(base, before)
    assert equal(tuned, after)
    assert len(half) > 20
    for name, tensor in half.items():
        expected = (base.state_dict()[name].double() + tuned.state_dict()[name].double()) / 2
        assert torch.allclose(tensor.double(), expected, atol=1e-6), name
    mixed = blend.at(0.5)
    assert mixed.lm_head.weight is mixed.transformer.wte.weight


def test_values_are_those_that_the_type_can_store(base):
    blend = Blend(base, moved(base), torch.bfloat16)
    assert all(torch.equal(t, t.bfloat16().float()) for t in blend.at(0.3).state_dict().values())


def test_whole_numbers_are_the_bases_at_0_and_the_tuned_models_elsewhere(base):
    tuned = moved(base)
    models: list[tuple[Any, int]] = [(base, 3), (tuned, 8)]
    for model, count in models:
        model.register_buffer("steps", torch.tensor([count]))
    blend: Any = Blend(base, tuned)
    assert [int(blend.at(alpha).steps) for alpha in (0, 0.4, 1)] == [3, 8, 8]


def test_a_scaled_lora_is_pefts_with_that_scaling(base):
    tuned: Any = attach_adapter(copy.deepcopy(base), AdapterSettings(peft="lora", lora_r=2))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.add_(0.2)
    assert blends_in_place(tuned)
    blend = Blend(None, tuned.eval())
    with torch.no_grad():
        logits = {alpha: blend.at(alpha)(input_ids=IDS).logits for alpha in (0.0, 0.5, 1.0)}
        assert torch.equal(logits[0.0], base(input_ids=IDS).logits)
        assert torch.equal(logits[1.0], tuned(input_ids=IDS).logits)
        layers = [each for each in tuned.modules() if isinstance(getattr(each, "scaling", None), dict)]
        assert layers
        for layer in layers:
            layer.scaling["default"] /= 2
        assert torch.allclose(logits[0.5], tuned(input_ids=IDS).logits, atol=1e-5)


@pytest.mark.parametrize(("method", "found"), [("dora", False), ("ia3", False), ("lora", True), ("rslora", True)])
def test_only_an_adapter_that_adds_is_scaled_as_it_is(base, method, found):
    assert blends_in_place(attach_adapter(copy.deepcopy(base), AdapterSettings(peft=method))) is found
    assert not blends_in_place(base)


def test_what_has_no_line_between_is_refused(base):
    wider = moved(base)
    wider.resize_token_embeddings(70)
    with pytest.raises(ModelError, match=r"transformer.wte.weight \(base \[64, 32\], tuned \[70, 32\]\).* add them to"):
        Blend(base, wider)
    virtual = attach_adapter(copy.deepcopy(base), AdapterSettings(peft="prompt", virtual_tokens=4))
    with pytest.raises(ModelError, match="virtual tokens cannot be blended"):
        Blend(base, virtual)
    untied = copy.deepcopy(base)
    untied.lm_head.weight = torch.nn.Parameter(untied.lm_head.weight.detach() + 1)
    with pytest.raises(ModelError, match="one tensor in the tuned model and two in the base"):
        Blend(untied, moved(base)).at(0.5)
