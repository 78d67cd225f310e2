"""The ladder and the parts of the own GPT-2, each alone, against torch, closed formulas and transformers."""

import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel, AutoModelForCausalLM

from ftkit.config import find_config
from ftkit.config.yaml_files import read_yaml
from ftkit.errors import ModelError
from ftkit.models import (
    FtkitGPT2Attention,
    FtkitGPT2Block,
    FtkitGPT2Config,
    FtkitGPT2ForCausalLM,
    FtkitGPT2MLP,
    FtkitLadderConfig,
    FtkitLadderForCausalLM,
    FtkitLadderHead,
    load_model,
    reload_difference,
    save_model,
    to_hf_gpt2,
)
from ftkit.models.families import new_config
from ftkit.models.outputs import ROUNDING

RUNGS = [1, 2, 3, 4]
V, C, T = 97, 32, 16
PARTS = {"vocab_size": V, "hidden_size": C, "num_hidden_layers": 1, "num_attention_heads": 4, "initializer_range": 0.2}


def rung(number: int, **settings: object) -> FtkitLadderForCausalLM:
    torch.manual_seed(0)
    values = {"vocab_size": V, "hidden_size": C, "max_position_embeddings": T, "initializer_range": 0.2, **settings}
    return FtkitLadderForCausalLM(FtkitLadderConfig(rung=number, **values)).eval()


def ids(rows: int = 2, tokens: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, V, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# ------------------------------------------------------------------------------------------------------ the rungs


def test_every_rung_has_its_exact_number_of_parameters():
    norm, attention, mlp = 2 * C, 4 * (C * C + C), 8 * C * C + 5 * C
    second = V * C + T * C + norm
    assert [count(rung(number)) for number in RUNGS] == [
        2 * V * C,
        second,
        second + norm + attention,
        second + 2 * (2 * norm + attention + mlp),
    ]
    assert count(rung(4, num_hidden_layers=5)) == second + 5 * (2 * norm + attention + mlp)


def test_the_first_rung_is_embedding_gelu_linear():
    model = rung(1)
    expected = functional.gelu(model.model.embed_tokens.weight[ids()]) @ model.lm_head.weight.T
    torch.testing.assert_close(model(ids()).logits, expected)


def test_the_second_rung_adds_positions_norm_and_the_tied_head():
    body, tokens = rung(2).model, ids()
    summed = body.embed_tokens.weight[tokens] + body.embed_positions.weight[:12]
    normed = functional.layer_norm(summed, (C,), body.norm.weight, body.norm.bias, 1e-5)
    expected = functional.gelu(normed) @ body.embed_tokens.weight.T
    torch.testing.assert_close(rung(2)(tokens).logits, expected)
    scaled = rung(2, logit_scale=C**-0.5)(tokens).logits
    torch.testing.assert_close(scaled, expected / math.sqrt(C))


def test_the_third_rung_adds_one_attention_head_to_the_stream():
    body, tokens = rung(3).model, ids()
    head = body.layers[0]
    assert isinstance(head, FtkitLadderHead)
    stream = body.embed_tokens(tokens) + body.embed_positions.weight[:12]
    x = head.input_layernorm(stream)
    query, key, value = (getattr(head.self_attn, f"{part}_proj")(x) for part in "qkv")
    mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    stream = stream + head.self_attn.o_proj(mixed)
    expected = functional.gelu(body.norm(stream)) @ body.embed_tokens.weight.T
    torch.testing.assert_close(rung(3)(tokens).logits, expected)


def test_the_fourth_rung_is_the_own_gpt2_with_one_head():
    model = rung(4)
    values = {name: getattr(model.config, name) for name in ("vocab_size", "hidden_size", "max_position_embeddings")}
    gpt2 = FtkitGPT2ForCausalLM(FtkitGPT2Config(**values, num_hidden_layers=2, num_attention_heads=1)).eval()
    gpt2.load_state_dict(model.state_dict(), strict=True)
    torch.testing.assert_close(model(ids()).logits, gpt2(ids()).logits)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("number", RUNGS)
def test_a_future_token_never_changes_a_past_logit(number, attention):
    model = rung(number, attn_implementation=attention)
    after = ids().clone()
    after[:, 7] = (after[:, 7] + 1) % V
    with torch.no_grad():
        one, two = model(ids()).logits, model(after).logits
    changed = (one != two).any(-1)
    assert not changed[:, :7].any()
    assert changed[:, 7].all()
    assert changed[:, 8:].all() == (number >= 3)  # below, a token is all that its logits know


@pytest.mark.parametrize("number", RUNGS)
def test_order_counts_from_the_second_rung_on(number):
    same = torch.full((1, 6), 5)
    logits = rung(number)(same).logits[0]
    assert torch.equal(logits[0], logits[5]) == (number == 1)


@pytest.mark.parametrize("number", RUNGS)
def test_an_untrained_rung_is_as_wrong_as_a_fair_die(number):
    model = load_model(f"new:ftkit_ladder,rung={number}", vocab_size=1000)
    loss = model(ids(4, 64), labels=ids(4, 64)).loss.item()
    assert loss == pytest.approx(math.log(1000), rel=0.02)


@pytest.mark.parametrize("number", RUNGS)
def test_left_padding_does_not_change_a_row(number):
    padded = torch.cat([torch.full((2, 3), 1), ids()], 1)
    mask = torch.ones_like(padded)
    mask[:, :3] = 0
    with torch.no_grad():
        torch.testing.assert_close(
            rung(number)(padded, attention_mask=mask).logits[:, 3:], rung(number)(ids()).logits, atol=2e-6, rtol=0
        )


@pytest.mark.parametrize("number", RUNGS)
def test_generation_reads_the_last_tokens_that_have_positions(number):
    model, tokens = rung(number), ids(tokens=10)
    written = model.generate(tokens, max_new_tokens=12, do_sample=False, pad_token_id=0)  # to 22, past 16
    for _ in range(12):
        seen = tokens if number == 1 else tokens[:, -T:]
        with torch.no_grad():
            tokens = torch.cat([tokens, model(seen).logits[:, -1:].argmax(-1)], 1)
    assert torch.equal(written, tokens)


def test_a_longer_input_than_there_are_positions_is_refused():
    assert rung(1)(ids(tokens=50)).logits.shape == (2, 50, V)
    with pytest.raises(ValueError, match="17 tokens, but the model has max_position_embeddings=16"):
        rung(2)(ids(tokens=17))


def test_the_attention_of_a_rung_can_be_looked_at():
    output = rung(3, attn_implementation="eager")(ids(), output_attentions=True, output_hidden_states=True)
    assert [weights.shape for weights in output.attentions] == [(2, 1, 12, 12)]
    assert (output.attentions[0].triu(1) == 0).all()
    torch.testing.assert_close(output.attentions[0].sum(-1), torch.ones(2, 1, 12))
    assert len(output.hidden_states) == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rung=0", "rung is 0; there is 1, 2, 3 and 4"),
        ("rung=5", "rung is 5.*the model ftkit_gpt2"),
        ("rung=4,num_attention_heads=2", "num_attention_heads is 2; a rung has 1"),
        ("rung=3,num_hidden_layers=2", "num_hidden_layers is 2; only rung 4"),
        ("rung=2,hidden_size=0", "hidden_size is 0"),
        ("rung=2,max_position_embeddings=0", "max_position_embeddings is 0"),
        ("rnug=2", "did you mean 'rung'"),
    ],
)
def test_what_a_rung_cannot_be_is_refused_with_its_value(spec, message):
    with pytest.raises(ModelError, match=message):
        load_model(f"new:ftkit_ladder,{spec}")


@pytest.mark.parametrize("number", RUNGS)
def test_a_rung_saves_and_loads_by_the_auto_classes(number, tmp_path):
    model = load_model(f"new:ftkit_ladder,rung={number}")
    save_model(model, None, tmp_path / "saved")
    assert reload_difference(model, tmp_path / "saved", ids()) < ROUNDING
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    assert type(again) is FtkitLadderForCausalLM
    assert again.config.to_diff_dict() == model.config.to_diff_dict()
    torch.testing.assert_close(again(ids()).logits, model(ids()).logits)
    body = AutoModel.from_pretrained(tmp_path / "saved").eval()
    torch.testing.assert_close(body(ids()).last_hidden_state @ model.lm_head.weight.T, model(ids()).logits)


# ------------------------------------------------------------------------------------------------------- the parts


def test_an_embedding_is_a_one_hot_row_times_its_weight():
    """Lesson 04/03."""
    body = rung(2).model
    one_hot = functional.one_hot(ids(), V).float()
    torch.testing.assert_close(body.embed_tokens(ids()), one_hot @ body.embed_tokens.weight)


@pytest.mark.parametrize("attention", ["eager", "sdpa", None])
def test_attention_alone_takes_a_stream_and_is_causal(attention):
    """Lesson 04/014: the formula by hand, torch's fused attention and ours are one."""
    torch.manual_seed(0)
    part = FtkitGPT2Attention(FtkitGPT2Config(**PARTS, attn_implementation=attention), layer_idx=0).eval()
    x = torch.randn(2, 9, C)
    mixed, _ = part(x)
    query, key, value = (getattr(part, f"{name}_proj")(x).view(2, 9, 4, 8).transpose(1, 2) for name in "qkv")
    future = torch.ones(9, 9).triu(1).bool()
    shares = (query @ key.mT / math.sqrt(8)).masked_fill(future, -math.inf).softmax(-1)
    by_hand = part.o_proj((shares @ value).transpose(1, 2).reshape(2, 9, C))
    fused = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(mixed, by_hand)
    torch.testing.assert_close(mixed, part.o_proj(fused.transpose(1, 2).reshape(2, 9, C)))


def test_the_mlp_alone_is_two_matrices_and_a_gelu():
    torch.manual_seed(0)
    part = FtkitGPT2MLP(FtkitGPT2Config(**PARTS)).eval()
    x = torch.randn(2, 9, C)
    inside = functional.gelu(functional.linear(x, part.fc_in.weight, part.fc_in.bias), approximate="tanh")
    torch.testing.assert_close(part(x), functional.linear(inside, part.fc_out.weight, part.fc_out.bias))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_block_alone_is_hugging_faces_block(attention):
    """Lesson 04/017."""
    torch.manual_seed(0)
    model = FtkitGPT2ForCausalLM(FtkitGPT2Config(**PARTS, attn_implementation=attention)).eval()
    block, theirs = model.model.layers[0], to_hf_gpt2(model).transformer.h[0]
    assert isinstance(block, FtkitGPT2Block)
    x = torch.randn(2, 9, C)
    mask = torch.full((9, 9), -math.inf).triu(1)[None, None]
    found = theirs(x, attention_mask=mask)
    with torch.no_grad():
        torch.testing.assert_close(block(x), found[0] if isinstance(found, tuple) else found)


@pytest.mark.parametrize("number", RUNGS)
def test_the_tie_is_one_parameter_through_moves_casts_saves_and_updates(number, tmp_path):
    def tied(model: FtkitLadderForCausalLM) -> bool:
        return model.lm_head.weight is model.model.embed_tokens.weight

    model, expected = rung(number), number > 1
    assert [tied(model), tied(model.to("cpu")), tied(model.half()), tied(model.float())] == [expected] * 4
    model.resize_token_embeddings(V + 3)
    model.save_pretrained(tmp_path)
    again = FtkitLadderForCausalLM.from_pretrained(tmp_path)
    assert tied(again) == expected
    optimizer = torch.optim.AdamW(again.parameters(), lr=0.1)
    again(ids(), labels=ids()).loss.backward()
    optimizer.step()
    assert torch.equal(again.lm_head.weight, again.model.embed_tokens.weight) == expected


def test_a_planted_copy_in_place_of_the_tie_is_caught():
    """The course's way: a second Parameter over the same storage, which one update tears apart."""
    model = rung(2)
    model.lm_head.weight = nn.Parameter(model.model.embed_tokens.weight.detach().clone())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(ids(), labels=ids()).loss.backward()
    optimizer.step()
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


# --------------------------------------------------------------------------------------------------------- presets


def test_the_85k_model_has_the_visualisers_count_with_its_vocabulary():
    """Lesson 04/025: three blocks, three heads, 48 wide; nanoGPT's visualiser has 3 letters and 11 positions."""
    model = load_model(
        "new:ftkit_gpt2,num_hidden_layers=3,num_attention_heads=3,hidden_size=48", vocab_size=3, max_positions=11
    )
    assert count(model) == 85_584
    assert count(model.model.layers) == 84_816


@pytest.mark.parametrize(
    ("name", "vocab_size"),
    [(f"pretrain_model{number}", 50257) for number in (1, 2, 3, 4, 5)] + [("pretrain_tiny85k", 257)],
)
def test_a_preset_has_the_number_of_parameters_that_it_says(name, vocab_size):
    path = find_config(name)
    values = read_yaml(path).values
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(new_config(values["model"], vocab_size, values["window_tokens"]))
    assert f"{count(model):,}" in re.findall(r"\d{1,3}(?:,\d{3})+", path.read_text(encoding="utf-8"))


def test_the_rungs_of_a_size_differ_in_the_model_alone():
    """Model 1 has the course's own text and windows; optimizers of the small ones differ where there is no block."""
    for suffix, numbers in (("", (2, 3, 4, 5)), ("_small", (3, 4, 5)), ("_small", (1, 2))):
        presets = [read_yaml(find_config(f"pretrain_model{number}{suffix}")).values for number in numbers]
        assert len({preset["model"] for preset in presets}) == len(numbers)
        others = [{k: v for k, v in preset.items() if k not in ("model", "tokenizer")} for preset in presets]
        assert all(other == others[0] for other in others)
