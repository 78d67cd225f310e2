"""Initialisation policies: spreads by formula and by torch, and tied weights in every order."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ftkit.lab.numerics import POLICIES, initialise, measure_initialisation
from ftkit.lab.numerics.initialisation import Initialisation, expected_std
from ftkit.models import load_model

SPEC = "new:ftkit_gpt2,vocab_size=600,hidden_size=96,num_hidden_layers=3,num_attention_heads=3"


@pytest.fixture(scope="module")
def found() -> Initialisation:
    return measure_initialisation(SPEC)


@pytest.mark.parametrize(("draw", "torchs"), [("xavier", nn.init.xavier_normal_), ("kaiming", nn.init.kaiming_normal_)])
def test_formulas_are_those_of_torch(draw, torchs):
    weight = torch.empty(400, 900)
    torchs(weight)
    assert float(weight.std()) == pytest.approx(expected_std(draw, weight.shape), rel=0.01)


def test_the_lessons_spreads_follow_from_its_sizes():
    """Positions 0.044 and tokens 0.0063 of lesson 06/013: 256 positions, 50,257 tokens, width 768."""
    assert expected_std("xavier", torch.Size([256, 768])) == pytest.approx(0.0442, abs=1e-4)
    assert expected_std("xavier", torch.Size([50257, 768])) == pytest.approx(0.00626, abs=1e-5)


def test_biases_are_zero_and_norms_are_left_alone():
    model = load_model(SPEC)
    nn.init.ones_(model.model.layers[0].mlp.fc_in.bias)
    initialise(model, POLICIES["xavier"])
    assert not model.model.layers[0].mlp.fc_in.bias.any()
    assert (model.model.norm.weight == 1).all()


def test_module_by_module_the_head_draws_over_the_tokens(found):
    stds = {order: std for order, (std, _) in found.orders.items()}
    assert stds["drawn after it, module by module"] == pytest.approx(0.02, rel=0.03)
    for order in ("drawn before tying", "drawn after it, a shared tensor once"):
        assert stds[order] == pytest.approx(math.sqrt(2 / (600 + 96)), rel=0.03)
    assert all(tied for _, tied in found.orders.values())


def test_normal_logits_cost_half_their_variance():
    """The formula for the loss before training, on logits that are drawn instead of computed."""
    logits = 0.5 * torch.randn(2000, 3000)
    loss = float(nn.functional.cross_entropy(logits, torch.zeros(2000, dtype=torch.long)))
    assert loss == pytest.approx(math.log(3000) + 0.5**2 / 2, abs=0.05)


def test_small_weights_start_at_ln_v_and_large_ones_do_not(found):
    assert found.agrees
    assert found.drawn["normal 0.02"].expected_loss == pytest.approx(math.log(600) + 96 * 0.02**2 / 2, abs=1e-2)
    assert found.drawn["normal 0.02"].loss == pytest.approx(math.log(600), abs=0.1)
    assert found.drawn["normal 3"].loss > 10 * math.log(600)
    assert found.drawn["normal 3"].layers[-1] > 100 * found.drawn["normal 0.02"].layers[-1]


def test_another_loss_or_a_lost_tie_is_told(found):
    planted = replace(found.drawn["normal 0.02"], loss=9.5)
    other = replace(found, drawn={**found.drawn, "normal 0.02": planted})
    assert "normal 0.02 9.5" in other.finding()
    assert not other.agrees
    assert not replace(found, orders={**found.orders, "drawn before tying": (0.05, False)}).agrees


def test_the_same_seed_draws_the_same_weights():
    first, second = load_model(SPEC, seed=1), load_model(SPEC, seed=2)
    for model in (first, second):
        initialise(model, POLICIES["lesson 06/013"], seed=5)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
