"""Copies of weights in the processor's order: the same products, nothing left behind, and only where they help."""

from typing import Any

import pytest
import torch
from torch import nn

from ftkit.config import AdapterSettings
from ftkit.data import load_tokenizer
from ftkit.generation import PRESETS, generate_passages
from ftkit.models import load_model, packed_weights
from ftkit.tuning import attach_adapter

WIDE = {
    "gpt2": "new:gpt2,n_embd=64,n_layer=2,n_head=2",
    "llama": "new:llama,hidden_size=64,intermediate_size=128,num_hidden_layers=2,num_attention_heads=2",
    "gpt_neo": "new:gpt_neo,hidden_size=64,num_layers=2,num_heads=2",
}


def model_of(family: str) -> Any:
    return load_model(WIDE[family], seed=0, vocab_size=300, max_positions=64).eval()


def replaced(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if "forward" in module.__dict__]


@pytest.fixture(autouse=True)
def works() -> None:
    if not packed_weights._works():
        pytest.skip("this build of torch multiplies by no packed weights: they are not used then")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("adapted", [False, True], ids=["plain", "LoRA"])
def test_logits_are_equal_but_for_rounding_and_nothing_stays_behind(family: str, adapted: bool) -> None:
    model = model_of(family)
    if adapted:
        model = attach_adapter(model, AdapterSettings(peft="lora", lora_r=4)).eval()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.3)
    ids = torch.arange(40).view(4, 10)
    with torch.inference_mode():
        expected = model(input_ids=ids).logits
        with packed_weights.packed_weights(model, 4, 20):
            inside = replaced(model)
            found = model(input_ids=ids).logits
    assert any("mlp" in name for name in inside)
    assert any("lm_head" in name for name in inside)
    assert not torch.equal(found, torch.zeros_like(found))
    assert torch.allclose(found, expected, atol=1e-5)
    assert replaced(model) == []


def test_the_model_is_itself_again_after_an_error() -> None:
    model = model_of("gpt2")
    with pytest.raises(ZeroDivisionError), packed_weights.packed_weights(model, 4, 20):
        assert replaced(model)
        raise ZeroDivisionError
    assert replaced(model) == []


def test_one_row_few_tokens_other_types_and_large_models_keep_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def used(model: nn.Module, rows: int = 4, new_tokens: int = 20) -> bool:
        with packed_weights.packed_weights(model, rows, new_tokens):
            return bool(replaced(model))

    model = model_of("llama")
    assert used(model)
    assert not used(model, rows=1)
    assert not used(model, new_tokens=4)
    assert not used(model_of("llama").to(torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        assert not used(model)
    assert packed_weights.packed_bytes(model) == sum(
        module.weight.nbytes
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.weight.numel() >= 64 * 64
    )
    monkeypatch.setattr(packed_weights, "_MOST_BYTES", packed_weights.packed_bytes(model) - 1)
    assert not used(model)
    assert packed_weights.packed_bytes(model) == 0


def test_a_layer_of_another_kind_keeps_its_own() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    model = nn.Sequential(nn.Linear(64, 64), Doubled(64, 64))
    with packed_weights.packed_weights(model, 4, 20):
        assert replaced(model) == ["0"]


@pytest.mark.parametrize("family", ["gpt2", "gpt_neo", "llama"])
def test_greedy_passages_are_those_without(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = model_of(family), load_tokenizer("byte")

    def written() -> list[tuple[int, ...]]:
        prompts = [[97, 98], [99], [100, 101, 102]]
        found = generate_passages(model, tokenizer, prompts, new_tokens=24, sampling=PRESETS["greedy"])
        return [each.ids for each in found]

    packed = written()
    monkeypatch.setattr(packed_weights, "_works", lambda: False)
    assert packed == written()


def test_whether_it_works_is_found_out_without_a_random_number():
    packed_weights._works.cache_clear()
    before = torch.get_rng_state()
    packed_weights._works()
    assert torch.equal(torch.get_rng_state(), before)
