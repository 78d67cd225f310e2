"""Optimizers, losses, clipping and schedules on toys whose way is known."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from ftkit.lab.numerics import (
    measure_gradient_clipping,
    measure_loss_shapes,
    measure_optimizer_race,
    measure_schedules,
    race,
)


def test_sgd_goes_the_way_of_the_closed_formula():
    run = race("SGD", lambda w: (w - 5) ** 2)
    assert run.weights == pytest.approx([5 - 3 * 0.9**step for step in range(51)])
    assert run.losses == pytest.approx([9 * 0.81**step for step in range(51)])


def test_gradients_that_are_not_reset_add_up():
    run = race("SGD", lambda w: (w - 5) ** 2, steps=30, reset=False)
    weight, total, expected = 2.0, 0.0, [2.0]
    for _ in range(30):
        total += 2 * (weight - 5)
        weight -= 0.05 * total
        expected.append(weight)
    assert run.weights == pytest.approx(expected)
    assert max(run.weights) > 7


def test_adamw_without_decay_is_adam_and_with_it_is_not():
    found = measure_optimizer_race()
    assert found.same
    assert found.agrees
    assert found.runs["AdamW"] != found.runs["Adam"]
    first = found.runs["AdamW"].weights[1] - found.runs["Adam"].weights[1]
    assert first == pytest.approx(-0.05 * 0.01 * 2.0)


def test_the_finding_of_a_race_names_the_nearest():
    assert "SGD is nearest" in measure_optimizer_race().finding()
    assert "AdamW is nearest" in measure_optimizer_race(learning_rate=0.001, target=2.01).finding()
    assert "NOT Adam" in replace(measure_optimizer_race(), same=False).finding()


def test_the_absolute_error_swings_by_the_rate_and_the_squared_one_settles():
    found = measure_loss_shapes(start=2.02)
    assert found.swing("L1") == pytest.approx(0.05)
    assert found.runs["L2"].weights[-1] == pytest.approx(3 - 0.98 * 0.9**50)
    assert found.turns("L2") == 0 < found.turns("L1")
    assert found.agrees
    assert "L1 turns round 0 times" in measure_loss_shapes(steps=10).finding()


def test_clipping_changes_length_and_not_direction():
    found = measure_gradient_clipping()
    norm = math.hypot(*found.before)
    assert len(found.before) == 9
    for clipped in found.clipped:
        weight = nn.Parameter(torch.zeros(9, dtype=torch.float64))
        weight.grad = torch.tensor(found.before, dtype=torch.float64)
        assert float(nn.utils.clip_grad_norm_([weight], clipped.max_norm)) == pytest.approx(norm)
        assert clipped.after == pytest.approx(weight.grad.tolist())
        assert clipped.norm == pytest.approx(min(clipped.max_norm, norm), rel=1e-5)
    assert found.agrees
    turned = replace(found.clipped[0], r=0.4)
    assert "at least 0.400000" in replace(found, clipped=(turned, *found.clipped[1:])).finding()
    assert not replace(found, clipped=(turned,)).agrees


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("linear", get_linear_schedule_with_warmup, {}),
        ("cosine", get_cosine_schedule_with_warmup, {}),
        ("cosine of two waves", get_cosine_schedule_with_warmup, {"num_cycles": 2.0}),
    ],
)
def test_schedules_fall_as_transformers_do(name, theirs, options):
    found = measure_schedules(updates=60)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = theirs(optimizer, num_warmup_steps=found.warmup, num_training_steps=60, **options)
    expected = []
    for _ in range(60):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert found.factors[name][found.warmup :] == pytest.approx(expected[found.warmup :], abs=1e-12)


def test_the_finding_of_schedules_counts_updates_that_learn_nothing():
    found = measure_schedules()
    assert found.agrees
    assert found.idle("linear over 85 %") == 30
    assert found.factors["linear over 150 %"][-1] == pytest.approx(1 - (199 - 20) / (300 - 20))
    assert "30 under linear over 85 %" in found.finding()
    only = measure_schedules(shapes={"constant": {"lr_scheduler_type": "constant"}})
    assert "updates that learn nothing: none." in only.finding()
