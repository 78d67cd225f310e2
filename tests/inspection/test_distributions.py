"""Statistics of weights are torch's own on slices that are cut by hand, also where three parts share a matrix."""

import pytest
import torch

from ftkit.errors import ConfigError
from ftkit.inspection.distributions import WeightStatistics, weight_statistics
from ftkit.models import FAMILIES, load_model
from ftkit.tuning.groups import chosen_slices


def only(rows: list[WeightStatistics], group: str, layer: int | None) -> WeightStatistics:
    [found] = [row for row in rows if (row.group, row.layer) == (group, layer)]
    return found


@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_fused_query_key_and_value_of_gpt2_have_the_statistics_of_their_columns(part):
    model = load_model("new:gpt2", seed=3)
    with torch.no_grad():  # three parts that cannot be taken for each other
        for number, scale in enumerate((1.0, 5.0, 25.0)):
            model.transformer.h[1].attn.c_attn.weight[:, 64 * number : 64 * (number + 1)] *= scale
    number = "qkv".index(part)
    values = model.transformer.h[1].attn.c_attn.weight.detach()[:, 64 * number : 64 * (number + 1)].flatten()
    found = only(weight_statistics(model, "attention", bins=20, value_range=(-0.1, 0.1)), f"attention.{part}", 1)
    assert found.elements == values.numel() == 4096
    assert found.std == pytest.approx(float(values.std()), rel=1e-6)
    assert found.mean == pytest.approx(float(values.mean()), abs=1e-8)
    assert (found.minimum, found.maximum) == (float(values.min()), float(values.max()))
    assert found.counts == tuple(int(count) for count in torch.histc(values, 20, -0.1, 0.1))
    assert len(found.edges) == 21


@pytest.mark.parametrize("idle", ["q", "k"])
def test_fused_parts_of_codegen_are_what_its_attention_computes(idle):
    """Without queries or keys every token takes the mean of the values so far, which are the inputs times v."""
    model = load_model("new:codegen,initializer_range=0.5", seed=0)
    attention = model.transformer.h[0].attn
    slices = {}
    for part in ("q", "k", "v"):
        [(piece, parameter, slices[part])] = chosen_slices(model, f"attention.{part}@0")
        assert piece.dim == 0
        found = only(weight_statistics(model, f"attention.{part}@0"), f"attention.{part}", 0)
        assert found.std == pytest.approx(float(parameter[slices[part]].detach().std()), rel=1e-6)
    seen: dict[str, torch.Tensor] = {}
    attention.qkv_proj.register_forward_pre_hook(lambda module, args: seen.update(inputs=args[0]))
    attention.out_proj.register_forward_pre_hook(lambda module, args: seen.update(mixed=args[0]))

    def error() -> float:
        model(torch.arange(8)[None])
        values = seen["inputs"] @ parameter[slices["v"]].T
        mean = values.cumsum(1) / torch.arange(1, 9)[:, None]
        return float((seen["mixed"] - mean).abs().max() / mean.abs().max())

    with torch.no_grad():
        assert error() > 0.01
        parameter[slices[idle]] = 0
        assert error() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_of_every_family_is_counted_once_and_no_bias(family):
    task = "sequence-classification" if family in ("bert", "distilbert") else "causal-lm"
    model = load_model(f"new:{family}", task=task)
    rows = weight_statistics(model)
    wanted = sum(p.numel() for name, p in model.named_parameters() if not name.endswith("bias"))
    assert sum(row.elements for row in rows) == wanted
    assert all(sum(row.counts) == row.elements for row in rows)


def test_shares_of_zeros_and_constant_values():
    model = load_model("new:ftkit_gpt2")
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[:16] = 0.0
        model.model.layers[1].self_attn.v_proj.weight.fill_(0.25)
    rows = weight_statistics(model, "attention")
    assert only(rows, "attention.q", 0).zeros == 0.25
    assert only(rows, "attention.q", 1).zeros == 0.0
    constant = only(rows, "attention.v", 1)
    assert (constant.std, constant.mean, constant.minimum, constant.maximum) == (0.0, 0.25, 0.25, 0.25)


def test_blocks_of_a_group_share_their_bins():
    rows = weight_statistics(load_model("new:gpt2"), "attention.q", bins=7)
    assert rows[0].edges == rows[1].edges
    assert rows[0].edges[0] == pytest.approx(min(row.minimum for row in rows))
    assert rows[0].edges[-1] == pytest.approx(max(row.maximum for row in rows))


def test_biases_alone_are_counted_where_nothing_else_is_selected():
    [first, second] = weight_statistics(load_model("new:gpt2"), r"name:c_fc\.bias")
    assert (first.elements, first.zeros, second.zeros) == (256, 1.0, 1.0)


@pytest.mark.parametrize(("bins", "value_range"), [(0, None), (10, (1.0, 1.0)), (10, (1.0, -1.0))])
def test_bins_that_make_no_histogram_are_refused(bins, value_range):
    with pytest.raises(ConfigError, match="make no histogram"):
        weight_statistics(load_model("new:gpt2"), bins=bins, value_range=value_range)
