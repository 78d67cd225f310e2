"""Activations and attention against torch; what is not compiled is said; times are counted as they are taken."""

import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from transformers.activations import NewGELUActivation

from ftkit.lab.numerics import measure_attention, measure_gelu, median_seconds
from ftkit.lab.numerics.attention import Attention, attention_weights, leak, manual_attention
from ftkit.lab.numerics.gelu import gelu


@pytest.fixture(scope="module")
def attention() -> Attention:
    return measure_attention((4, 16), repeats=1, compiler=None)


def test_gelu_is_torchs_and_transformers():
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    assert torch.allclose(gelu(x), torch.nn.functional.gelu(x), atol=1e-12)
    assert torch.allclose(gelu(x, tanh=True), NewGELUActivation()(x), atol=1e-12)


def test_slopes_zeros_and_distance_are_what_calculus_says():
    found = measure_gelu(samples=100_000, repeats=1)
    normal = torch.distributions.Normal(0.0, 1.0)
    x = torch.tensor(found.x)
    assert found.slopes["GELU"] == pytest.approx((normal.cdf(x) + x * normal.log_prob(x).exp()).tolist(), abs=1e-5)
    assert found.zeros["ReLU"] == pytest.approx(0.5, abs=0.01)
    assert found.zeros["GELU"] == 0
    assert 4e-4 < found.apart < 5e-4
    assert found.agrees
    assert found.ratios["ReLU"] == 1
    planted = replace(found, apart=0.02)
    assert "at most 0.02" in planted.finding()
    assert not planted.agrees


def test_written_out_attention_is_torchs(attention):
    query, key, value = torch.randn(3, 2, 3, 9, 5, dtype=torch.float64)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert torch.allclose(manual_attention(query, key, value), expected, atol=1e-6)
    assert attention.agrees
    assert attention.leaks == {"manual": 0, "SDPA": 0}
    weights = attention_weights(query, key)
    assert weights.triu(1).max() == 0
    assert torch.allclose(weights.sum(-1), torch.ones_like(weights.sum(-1)))


def test_an_attention_that_looks_ahead_is_caught(attention):
    looking = partial(torch.nn.functional.scaled_dot_product_attention, is_causal=False)
    assert leak(looking, torch.randn(3, 1, 1, 8, 4), torch.Generator()) > 0.01
    planted = replace(attention, leaks={"manual": 0.0, "SDPA": 0.3})
    assert "LATER TOKENS CHANGE EARLIER ONES by 0.3" in planted.finding()
    assert not planted.agrees


def test_a_compiler_that_fails_is_named_and_the_rest_is_measured():
    def missing(form):
        raise RuntimeError("No C++ compiler\nwas found")

    found = measure_attention((4,), repeats=1, compiler=missing)
    assert found.forms == ("manual", "SDPA")
    assert "torch.compile was not run: RuntimeError: No C++ compiler." in found.finding()


def test_a_compiled_form_is_compared_like_the_others():
    found = measure_attention((4,), repeats=1, compiler=lambda form: lambda *batch: form(*batch) + 0.5)
    assert found.differences["compiled"][0] == pytest.approx(0.5, abs=1e-5)
    assert not found.agrees
    assert "manual, SDPA and compiled" in found.finding()


def test_times_leave_the_first_round_out_and_are_medians():
    waits = {"quick": [0.2, 0.0, 0.0, 0.1], "slow": [0.0, 0.03, 0.03, 0.03]}

    def waiting(name: str) -> None:
        time.sleep(waits[name].pop(0))

    found = median_seconds({name: partial(waiting, name) for name in waits}, 3, torch.device("cpu"))
    assert found["quick"] < 0.02 < 0.03 <= found["slow"]
    assert waits == {"quick": [], "slow": []}
