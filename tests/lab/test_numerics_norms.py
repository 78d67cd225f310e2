"""Norms, normalisation and attention scores against closed formulas and torch; findings say what was measured."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import AttentionInterface

from ftkit.data import load_tokenizer
from ftkit.lab.numerics import (
    layer_norm,
    ln_report,
    measure_attention_scale,
    measure_layer_norm,
    measure_norm_drift,
    norm_drift,
    score_spread,
)
from ftkit.models import load_model, save_model


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_a_scale_multiplies_the_norm_exactly(scale):
    drift = norm_drift(scale, size=10, steps=20, product="element-wise")
    expected = [drift.norms[0] * scale**step for step in range(21)]
    assert drift.norms == pytest.approx(expected, rel=1e-12)
    assert drift.course == {0.5: "shrunk", 1.0: "held", 1.5: "blown up"}[scale]


def test_float32_ends_where_its_exponents_end():
    """The largest element passes 2^128, or the smallest number above 0, 2^-149, is halved to 0."""
    up, down = (norm_drift(scale, steps=1, product="element-wise") for scale in (2.0, 0.5))
    largest = float(torch.randn(30, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(42)).abs().max())
    assert (up.end, up.ends_at) == ("overflows", math.ceil(128 - math.log2(largest)))
    assert (down.end, down.ends_at) == ("is zero", math.floor(150 + math.log2(largest)) + 1)
    assert norm_drift(1.0, steps=5, product="element-wise", most_steps=50).ends_at is None


def test_random_matrices_grow_a_norm_as_the_theory_of_their_products_says():
    """The mean logarithm of a step is (ln 2 + digamma(n / 2)) / 2, which lies a little below ln sqrt(n)."""
    size = 30
    exponent = (math.log(2) + float(torch.special.digamma(torch.tensor(size / 2)))) / 2
    factors = [norm_drift(1.0, size, 100, seed).factor for seed in range(4)]
    assert sum(factors) / 4 == pytest.approx(math.exp(exponent), rel=0.02)
    assert math.exp(exponent) < math.sqrt(size)


def test_the_finding_of_a_drift_names_what_each_scale_did():
    whole = measure_norm_drift(steps=20)
    assert whole.agrees
    assert "shrunk by 0.5, held by 1, blown up by 1.5 and 2" in whole.finding()
    other = measure_norm_drift(scales=(0.25,), steps=20)
    assert "a norm is shrunk by 0.25;" in other.finding()
    planted = replace(other.drifts[0], norms=(1.0, 1.0, 1.0))
    assert not replace(other, drifts=(planted, *other.drifts[1:])).agrees


@pytest.mark.parametrize("dims", [(-1,), (1, 2), (0, 1, 2)])
def test_layer_norm_is_torchs_over_any_last_dimensions(dims):
    x = 3 + 2 * torch.randn(4, 5, 6)
    shape = [x.shape[dim] for dim in dims]
    gain, bias = torch.randn(shape), torch.randn(shape)
    expected = nn.functional.layer_norm(x, shape, gain, bias, eps=1e-3)
    assert torch.allclose(layer_norm(x, dims, gain, bias, eps=1e-3), expected, atol=1e-5)


def test_layer_norm_over_other_dimensions_is_batch_norm():
    x = torch.randn(16, 5)
    assert torch.allclose(layer_norm(x, (0,)), nn.functional.batch_norm(x, None, None, training=True), atol=1e-5)


def test_the_whole_tensor_keeps_its_line_and_rows_do_not():
    x = torch.randn(3, 10) * torch.tensor([[1.0], [5.0], [0.1]])
    whole, rows = ln_report(x, (0, 1)), ln_report(x, (-1,))
    assert whole.r == pytest.approx(1.0)
    assert rows.r < 0.95
    assert rows.row_means[1] == pytest.approx([0, 0, 0], abs=1e-9)
    assert rows.row_stds[1] == pytest.approx([1, 1, 1], abs=1e-2)
    assert (whole.normalised, rows.normalised) == ("the whole tensor", "each row")


def test_gain_is_the_spread_and_bias_the_mean():
    found = measure_layer_norm(gains=(3,), biases=(5,))
    assert found.swept[0] == pytest.approx((3, 5, 5, 3), abs=1e-4)
    assert found.agrees
    assert not replace(found, swept=((3, 5, 5, 2.5),)).agrees
    assert "within 0.5" in replace(found, swept=((3, 5, 5, 2.5),)).finding()


def test_the_two_places_of_eps_follow_their_formulas():
    found = measure_layer_norm()
    torchs, lessons = found.stds.values()
    assert torchs == pytest.approx([s / math.sqrt(s**2 + 1e-5) for s in found.spreads])
    assert lessons == pytest.approx([s / (s + 1e-5) for s in found.spreads])


def test_scores_spread_by_the_root_of_the_width():
    found = measure_attention_scale(widths=(4, 16, 64), draws=100)
    assert found.stds == pytest.approx((2, 4, 8), rel=0.05)
    assert found.entropies["plain"][-1] < found.entropies["scaled"][-1] < math.log(50)
    assert found.agrees
    assert not replace(found, stds=(2, 4, 10)).agrees
    assert "25.0% of sqrt(d)" in replace(found, stds=(2, 4, 10)).finding()


def test_spread_read_from_weights_is_the_spread_of_the_scores():
    """The oracle computes the scores of the same model from its queries and keys."""
    scores = []

    def captured(module, query, key, value, attention_mask, scaling, **options):
        scores.append(query.double() @ key.double().transpose(-1, -2) * scaling)
        return (value.transpose(1, 2), None)

    spec, width = "new:ftkit_gpt2,initializer_range=0.3", 12
    ids = torch.randint(256, (2, width))
    # Only the first layer is compared, since later ones read what attention gave.
    spread = score_spread(load_model(spec, attn_implementation="eager"), ids)
    model = load_model(spec)
    AttentionInterface.register("captured", captured)
    model.config._attn_implementation = "captured"
    with torch.no_grad():
        model(input_ids=ids)
    rows = [scores[0][:, :, q, : q + 1].var(-1, correction=0).mean() for q in range(7, width)]
    assert spread[0] == pytest.approx(math.sqrt(float(torch.stack(rows).mean())), rel=1e-4)


def test_a_saved_model_is_asked_on_a_text_and_named_after_its_folder(tmp_path):
    tokenizer = load_tokenizer("byte")
    save_model(load_model("new:gpt2,initializer_range=0.3", vocab_size=len(tokenizer)), tokenizer, tmp_path / "mine")
    found = measure_attention_scale(widths=(4,), draws=2, model=str(tmp_path / "mine"))
    assert found.model == "mine"
    assert len(found.layers) == load_model("new:gpt2").config.n_layer
    assert f"the scores of mine have a std of {min(found.layers):.2g} to {max(found.layers):.2g}" in found.finding()
    assert str(tmp_path) not in found.finding()
