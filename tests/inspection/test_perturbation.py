"""A perturbed model is changed where it was said and nowhere else, and afterwards it is what it was, bit for bit."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ftkit.data import TokenStore, load_tokenizer, tokenize_texts, voice_text
from ftkit.errors import ConfigError
from ftkit.evidence.damage import damage_curve
from ftkit.inspection.perturbation import perturb
from ftkit.models import FAMILIES, load_model
from ftkit.training import HeldOutWindows, held_out_loss
from ftkit.tuning.groups import chosen_slices

CAUSAL = [family for family in FAMILIES if family not in ("bert", "distilbert")]
KINDS = [("noise", None), ("constant", 0.5), ("zero", None), ("shuffle", None)]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> TokenStore:
    return tokenize_texts([voice_text("keeper", 600)], load_tokenizer("byte"), cache=tmp_path_factory.mktemp("tokens"))


def tiny(family: str):
    task = "causal-lm" if family in CAUSAL else "sequence-classification"
    return load_model(f"new:{family}", task=task, vocab_size=257)


def state(model) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone().view(torch.int32) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("kind", "value"), KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_selected_slices_change_and_all_come_back(family, kind, value):
    model = tiny(family)
    before = state(model)
    chosen = {piece.name: (piece.dim, indices) for piece, _, indices in chosen_slices(model, "attention.k@1")}
    with perturb(model, "attention.k@1", kind, value=value) as selection:
        during = state(model)
        assert selection.masks.keys() == chosen.keys()
    weight = next(name for name in chosen if name.endswith("weight"))
    for name, values in before.items():
        moved = torch.ones_like(values, dtype=torch.bool)
        if name in chosen:
            dim, indices = chosen[name]
            moved.index_fill_(dim, indices, False)
        assert torch.equal(values[moved], during[name][moved]), name
    assert not torch.equal(before[weight], during[weight])
    after = state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_values_come_back_bit_for_bit_after_an_error_and_with_odd_bits():
    model = tiny("gpt2")
    with torch.no_grad():
        model.transformer.h[0].attn.c_attn.weight[0, :3] = torch.tensor([math.nan, -0.0, math.inf])
    before = state(model)

    def fail() -> None:
        with perturb(model, "attention", "zero"):
            assert not model.transformer.h[0].attn.c_attn.weight.any()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert all(torch.equal(values, state(model)[name]) for name, values in before.items())


def test_noise_has_the_mean_and_std_of_what_it_replaces_but_not_its_values():
    model = tiny("gpt2")
    with torch.no_grad():
        model.transformer.h[0].attn.c_attn.weight[:, 64:128] += 3.0
    key = model.transformer.h[0].attn.c_attn.weight[:, 64:128].detach().clone()
    with perturb(model, "attention"):
        noise = model.transformer.h[0].attn.c_attn.weight[:, 64:128].detach().clone()
    assert float(noise.mean()) == pytest.approx(float(key.mean()), rel=1e-5)
    assert float(noise.std()) == pytest.approx(float(key.std()), rel=1e-3)
    assert abs(np.corrcoef(key.flatten(), noise.flatten())[0, 1]) < 0.05


def test_shuffled_values_are_the_same_values_elsewhere():
    model = tiny("codegen")
    [(_, parameter, indices)] = chosen_slices(model, "attention.v@0")
    before = parameter.detach()[indices]
    with perturb(model, "attention.v", "shuffle"):
        during = parameter.detach()[indices]
    assert not torch.equal(before, during)
    assert torch.equal(before.flatten().sort().values, during.flatten().sort().values)


def test_a_part_gets_the_same_noise_whatever_else_is_perturbed_and_other_noise_from_another_seed():
    model = tiny("gpt2")
    weight = model.transformer.h[0].attn.c_attn.weight
    seen = []
    for selectors, seed in [("attention.q@0", 1), ("all", 1), ("attention.q@0", 2)]:
        with perturb(model, selectors, seed=seed):
            seen.append(weight[:, :64].detach().clone())
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "nois"}, "did you mean 'noise'"),
        ({"kind": "constant"}, "constant needs a value"),
        ({"kind": "zero", "value": 1.0}, "the others take none"),
    ],
)
def test_kinds_and_values_that_do_not_fit_are_refused(options, message):
    model = tiny("gpt2")
    with pytest.raises(ConfigError, match=message):
        with perturb(model, "attention", **options):
            pass


@pytest.mark.parametrize("family", CAUSAL)
def test_a_damage_curve_starts_at_the_loss_of_the_model_and_leaves_it_there(family, store):
    model = tiny(family)
    before, bits = held_out_loss(model, HeldOutWindows(store, 32), 8), state(model)
    points = damage_curve(model, store, 32, "attention.v", max_windows=8)
    assert [point.blocks for point in points] == [0, 1, 2]
    assert points[0].bits_per_byte.value == before.bits_per_byte
    assert (points[0].rise.value, points[0].rise.low, points[0].rise.high) == (0.0, 0.0, 0.0)
    assert len({point.bits_per_byte.value for point in points}) == 3
    assert np.array_equal(held_out_loss(model, HeldOutWindows(store, 32), 8).nats, before.nats)
    assert all(torch.equal(values, state(model)[name]) for name, values in bits.items())


def test_destroying_every_block_of_a_model_that_learned_something_hurts(store):
    model = tiny("gpt2")  # in eval mode: dropout would make the training another one each time
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rows = torch.from_numpy(store.ids[: 32 * 60].astype(np.int64)).view(60, 32)
    for step in range(40):
        ids = rows[step % 4 * 15 : step % 4 * 15 + 15]
        optimizer.zero_grad()
        F.cross_entropy(model(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
    points = damage_curve(model, store, 32, "all@0..", kind="zero", max_windows=30)
    assert points[-1].rise.low > 0
    half = damage_curve(model, store, 32, "all@1", kind="zero", max_windows=30)
    assert half[1].rise.value == 0.0  # the first block alone is not selected
    assert half[2].rise.value != 0.0


def test_a_damage_curve_refuses_what_lies_outside_the_blocks(store):
    with pytest.raises(ConfigError, match=r"transformer\.wte\.weight, outside the blocks"):
        damage_curve(tiny("gpt2"), store, 32, "embedding,attention.q")
