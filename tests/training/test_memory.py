"""Peak memory, against sizes that can be added up by hand."""

import torch
from conftest import settings, tiny
from torch import nn

from ftkit.training import NEXT_TOKEN, Engine, TokenWindows
from ftkit.training.memory import peak_memory

MEGA = 2**20


def test_the_peak_is_what_lives_at_the_same_time():
    with peak_memory() as found:
        first = torch.ones(MEGA)  # 4 MiB
        second = first + 1  # 8 MiB
        del first
        third = second * 2  # 8 MiB again
        del second, third
    assert found.num_bytes == 8 * MEGA


def test_frozen_weights_need_no_gradient():
    def peak(freeze: bool) -> int:
        model = nn.Sequential(nn.Linear(1024, 1024, bias=False), nn.Linear(1024, 1024, bias=False))
        model[0].requires_grad_(not freeze)
        with peak_memory(model.parameters()) as found:
            model(torch.ones(2, 1024)).sum().backward()
        return found.num_bytes

    assert peak(freeze=False) - peak(freeze=True) >= 4 * MEGA
    assert peak(freeze=True) >= 12 * MEGA  # two weights and one gradient


def test_a_step_holds_weights_moments_gradients_and_activations(store):
    model = tiny()
    weights = 4 * sum(p.numel() for p in model.parameters())
    with Engine(model, NEXT_TOKEN, TokenWindows(store, 32, 1), settings(max_steps=2)) as engine:
        list(engine)
        before = [p.detach().clone() for p in model.parameters()]
        peak = engine.peak_bytes()
    logits = 8 * 32 * 257 * 4
    assert 4 * weights + logits < peak < 4 * weights + 60 * logits
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
