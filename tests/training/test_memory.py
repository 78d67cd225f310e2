"""Peak memory, against sizes that can be added up by hand."""

import torch
from torch import nn

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


def test_a_training_step_holds_weights_gradients_moments_and_activations():
    model = nn.Linear(1024, 1024, bias=False)  # 4 MiB
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)

    def step() -> None:
        model(torch.ones(2, 1024)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    with peak_memory(model) as found:
        for state in optimizer.state.values():
            for tensor in state.values():
                tensor.mul_(1)  # an operator returns them, so they are counted
        step()
    # Weight, two moments, the gradient, and at most two temporaries of its size in the update.
    assert 16 * MEGA <= found.num_bytes <= 24.1 * MEGA


def test_frozen_weights_need_no_gradient():
    def peak(freeze: bool) -> int:
        model = nn.Sequential(nn.Linear(1024, 1024, bias=False), nn.Linear(1024, 1024, bias=False))
        model[0].requires_grad_(not freeze)
        with peak_memory(model) as found:
            model(torch.ones(2, 1024)).sum().backward()
        return found.num_bytes

    assert peak(False) - peak(True) >= 4 * MEGA
