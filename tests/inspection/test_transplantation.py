"""What is transplanted is equal, shares nothing with the donor, and never lands in the wrong place."""

import pytest
import torch

from ftkit.errors import ConfigError, ModelError
from ftkit.inspection.transplantation import transplant
from ftkit.models import from_hf_gpt2, load_model


def test_an_embedding_moves_from_gpt2_to_the_own_one_and_the_donor_stays_when_the_target_trains():
    donor, target = load_model("new:gpt2", seed=1), load_model("new:ftkit_gpt2", seed=2)
    before = {name: tensor.clone() for name, tensor in donor.state_dict().items()}
    position = target.model.embed_positions.weight.detach().clone()
    [done] = transplant(donor, target)
    assert (done.source, done.target, done.elements) == (
        "transformer.wte.weight", "model.embed_tokens.weight", 256 * 64,
    )  # fmt: skip
    assert torch.equal(target.model.embed_tokens.weight, before["transformer.wte.weight"])
    assert target.lm_head.weight is target.model.embed_tokens.weight
    assert torch.equal(target.model.embed_positions.weight, position)
    storages = {parameter.untyped_storage().data_ptr() for parameter in donor.parameters()}
    assert not storages & {parameter.untyped_storage().data_ptr() for parameter in target.parameters()}
    optimizer = torch.optim.AdamW(target.parameters(), lr=0.1)
    ids = torch.arange(32)[None]
    target(ids, labels=ids).loss.backward()
    optimizer.step()
    assert not torch.equal(target.model.embed_tokens.weight, before["transformer.wte.weight"])
    assert all(torch.equal(tensor, donor.state_dict()[name]) for name, tensor in before.items())


def test_everything_of_gpt2_in_the_own_one_computes_what_gpt2_computes():
    donor, target = load_model("new:gpt2", seed=1), load_model("new:ftkit_gpt2", seed=2)
    with torch.no_grad():  # biases and gains that cannot be taken for each other
        for number, parameter in enumerate(p for p in donor.parameters() if p.ndim == 1):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    transplant(donor, target, "all")
    converted = from_hf_gpt2(donor)
    assert all(torch.equal(tensor, converted.state_dict()[name]) for name, tensor in target.state_dict().items())
    back = load_model("new:gpt2", seed=3)
    transplant(target, back, "all")
    assert all(torch.equal(tensor, donor.state_dict()[name]) for name, tensor in back.state_dict().items())


def test_the_query_part_of_a_fused_matrix_moves_alone():
    donor, target = load_model("new:ftkit_gpt2", seed=1), load_model("new:gpt2", seed=2)
    fused = target.transformer.h[1].attn.c_attn.weight
    before = fused.detach().clone()
    transplant(donor, target, "attention.q@1")
    assert torch.equal(fused[:, :64], donor.model.layers[1].self_attn.q_proj.weight.T)
    assert torch.equal(fused[:, 64:], before[:, 64:])


def test_some_rows_of_an_embedding_move_alone():
    donor, target = load_model("new:gpt2", seed=1), load_model("new:ftkit_gpt2", seed=2)
    before = target.model.embed_tokens.weight.detach().clone()
    transplant(donor, target, "embedding[rows=3+10..19]")
    changed = (target.model.embed_tokens.weight != before).any(1).nonzero()[:, 0].tolist()
    assert changed == [3, *range(10, 20)]
    assert torch.equal(target.model.embed_tokens.weight[3], donor.transformer.wte.weight[3])


@pytest.mark.parametrize(
    ("spec", "selectors", "message"),
    [
        ("new:gpt2,vocab_size=300", "embedding", r"shape \[300, 64\] .* \[256, 64\]"),
        ("new:gpt2,n_embd=32", "embedding", r"shape \[256, 32\] .* \[256, 64\]"),
        ("new:gpt2,n_layer=3", "mlp", r"h\.2\.mlp\.c_fc\.\w+ \(mlp\.in\) of the source has no counterpart"),
        ("new:gpt_neo", "attention", r"\(attention\.k\) of the target has no counterpart"),
    ],
)
def test_parts_that_do_not_fit_are_refused_and_nothing_is_written(spec, selectors, message):
    donor, target = load_model(spec, seed=1), load_model("new:ftkit_gpt2", seed=2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(ModelError, match=message):
        transplant(donor, target, selectors)
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in before.items())


def test_a_model_cannot_be_its_own_donor_and_a_wrong_selector_is_named():
    model = load_model("new:gpt2")
    with pytest.raises(ModelError, match="share their storage"):
        transplant(model, model)
    with pytest.raises(ConfigError, match="did you mean 'position'"):
        transplant(model, load_model("new:ftkit_gpt2"), "positions")
