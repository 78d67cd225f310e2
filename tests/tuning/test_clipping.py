"""Gradient norms and clipping against torch's own, and against exact arithmetic."""

import pytest
import torch
from transformers import PreTrainedModel

from ftkit.config import TrainingSettings
from ftkit.errors import ConfigError
from ftkit.models import load_model
from ftkit.tuning import Clipping, ParameterGroups, clip_report

FAMILIES = ["ftkit_gpt2", "gpt2", "gpt_neo", "codegen"]


def with_gradients(family: str = "gpt2") -> PreTrainedModel:
    """A model after one backward pass."""
    model = load_model(f"new:{family}", seed=0, vocab_size=64, max_positions=16)
    ids = torch.arange(24).reshape(2, 12)
    model(input_ids=ids, labels=ids).loss.backward()
    return model


def clipping(model: PreTrainedModel, **values: object) -> Clipping:
    """Clipping as settings say it."""
    settings = TrainingSettings(model="m", **values)  # type: ignore[arg-type]
    return Clipping(model, ParameterGroups(model), settings)


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Copies of all gradients."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_global_norm_is_torchs_and_groups_add_up_to_it(family):
    model = with_gradients(family)
    norms = clipping(model).norms()
    theirs = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    assert norms.value == pytest.approx(float(theirs), rel=1e-6)
    assert sum(norm**2 for norm in norms.groups.values()) == pytest.approx(norms.value**2, rel=1e-5)
    assert {"attention.q", "attention.k", "attention.v", "mlp.in", "embedding"} <= norms.groups.keys()


def test_the_query_part_of_a_fused_matrix_has_a_norm_of_its_own():
    model = with_gradients("gpt2")
    norms = clipping(model, watch_gradients=["attention.q@1"]).norms()
    width = model.config.n_embd
    fused = model.transformer.h[1].attn.c_attn  # Conv1D: outputs are columns, queries first
    expected = torch.cat([fused.weight.grad[:, :width].ravel(), fused.bias.grad[:width]]).norm()
    assert norms.groups["attention.q@1"] == pytest.approx(float(expected), rel=1e-6)


def test_clipping_to_a_global_norm_is_torchs():
    ours, theirs = with_gradients(), with_gradients()
    part = clipping(ours, max_grad_norm=0.05)
    factor = part.clip(1, part.norms())
    before = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.05)
    assert factor == pytest.approx(0.05 / float(before), rel=1e-5)
    torch.testing.assert_close(gradients(ours), gradients(theirs))


def test_one_group_is_clipped_and_the_others_stay():
    model = with_gradients("gpt2")
    before = gradients(model)
    part = clipping(model, max_group_norms={"attention.q": 0.001, "head": 1e6})
    norms = part.norms()
    assert norms.groups["attention.q"] > 0.001
    factor = part.clip(1, norms)
    after = part.norms()
    assert after.groups["attention.q"] == pytest.approx(0.001, rel=1e-2)
    assert all(after.groups[name] == norms.groups[name] for name in after.groups if name != "attention.q")
    assert factor == pytest.approx(after.value / norms.value, rel=1e-6)
    width = model.config.n_embd
    fused = "transformer.h.0.attn.c_attn.weight"
    assert torch.equal(gradients(model)[fused][:, width:], before[fused][:, width:])
    assert not torch.equal(gradients(model)[fused][:, :width], before[fused][:, :width])


def test_nothing_is_clipped_before_its_step_or_below_its_limit():
    model = with_gradients()
    before = gradients(model)
    late, large = clipping(model, max_grad_norm=0.01, clip_after=3), clipping(model, max_grad_norm=1e6)
    assert late.clip(3, late.norms()) == 1.0
    assert large.clip(1, large.norms()) == 1.0
    assert all(torch.equal(gradient, before[name]) for name, gradient in gradients(model).items())
    assert late.clip(4, late.norms()) < 1


def test_a_selector_that_matches_nothing_is_an_error():
    with pytest.raises(ConfigError, match="classifier"):
        clipping(with_gradients(), max_group_norms={"classifier": 1.0})


def test_a_limit_must_be_above_zero():
    problems = dict(TrainingSettings(model="m", max_group_norms={"mlp": 0.0}).problems())
    assert "above 0" in problems["max_group_norms"]


def test_the_report_of_nine_numbers():
    """Lesson 07/017: the gradient of a sum of squares, clipped to 1, keeps its direction."""
    layer = torch.nn.Linear(9, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(-4.0, 5.0)[None])
    layer.weight.square().sum().backward()
    report = clip_report(layer, 1.0)
    assert report.norm == pytest.approx(2 * 60**0.5)
    assert report.clipped_norm == pytest.approx(1.0, rel=1e-6)
    assert report.lost_norm == pytest.approx(2 * 60**0.5 - 1, rel=1e-6)
    assert report.cosine == pytest.approx(1.0)
    assert float(layer.weight.grad.norm()) == pytest.approx(report.norm)  # nothing was changed
