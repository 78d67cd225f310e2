"""The own GPT-2 against torch, closed formulas, exact counts and transformers' GPT-2.

This file says in our own words what transformers' common model tests check, because their mixins are not part of an
installation; test_transformers_common.py runs the originals where they are at hand.
"""

import ast
import math
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import ftkit.models
from ftkit.hub.shareable import OWN_CODE
from ftkit.models import (
    FtkitGPT2Attention,
    FtkitGPT2Block,
    FtkitGPT2Config,
    FtkitGPT2ForCausalLM,
    FtkitGPT2ForSequenceClassification,
    FtkitGPT2MLP,
    FtkitGPT2Model,
    to_hf_gpt2,
)
from ftkit.models.cache_ftkit_gpt2 import cache_of

TINY = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "n_positions": 48}
NO_DROPOUT = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
DROPOUTS = ("embedding_dropout", "attention_dropout", "attention_output_dropout", "mlp_dropout")


def tiny(**settings: object) -> FtkitGPT2ForCausalLM:
    torch.manual_seed(0)
    return FtkitGPT2ForCausalLM(FtkitGPT2Config(**{**TINY, "initializer_range": 0.2, **settings})).eval()


def classifier(**settings: object) -> FtkitGPT2ForSequenceClassification:
    torch.manual_seed(0)
    return FtkitGPT2ForSequenceClassification(FtkitGPT2Config(**{**TINY, "initializer_range": 0.2, **settings})).eval()


def ids(rows: int = 2, tokens: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 97, (rows, tokens), generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("layers", "width", "heads", "count"),
    [
        (12, 768, 12, 124_439_808),
        (24, 1024, 16, 354_823_168),
        (36, 1280, 20, 774_030_080),
        (48, 1600, 25, 1_557_611_200),
    ],
)
def test_the_four_published_sizes_have_their_exact_parameter_counts(layers, width, heads, count):
    with torch.device("meta"):
        model = FtkitGPT2ForCausalLM(FtkitGPT2Config(n_layer=layers, n_embd=width, n_head=heads))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_both_spellings_build_the_same_configuration():
    modern = FtkitGPT2Config(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=6, intermediate_size=99, max_position_embeddings=77
    )
    gpt2 = FtkitGPT2Config(n_embd=48, n_layer=3, n_head=6, n_inner=99, n_positions=77)
    assert modern.to_dict() == gpt2.to_dict()
    assert (modern.n_embd, modern.n_layer, modern.n_head, modern.n_inner, modern.n_positions) == (48, 3, 6, 99, 77)
    assert (
        FtkitGPT2Config(resid_pdrop=0.3).mlp_dropout == FtkitGPT2Config(resid_pdrop=0.3).attention_output_dropout == 0.3
    )
    assert FtkitGPT2Config(n_embd=48, n_head=6).intermediate_size == 4 * 48


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": "x"}, "expected int"),
        ({"hidden_size": 30, "num_attention_heads": 4}, "30.*multiple.*4"),
        ({"mlp_dropout": 1.0}, "mlp_dropout is 1.0"),
        ({"attention_dropout": -0.1}, "attention_dropout is -0.1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"max_position_embeddings": 0}, "max_position_embeddings is 0"),
    ],
)
def test_an_impossible_configuration_is_refused_with_its_value(settings, message):
    with pytest.raises(Exception, match=message):
        FtkitGPT2Config(**settings)


def test_the_files_that_travel_import_torch_transformers_and_each_other_only():
    folder = Path(ftkit.models.__file__).parent
    own = {".cache_ftkit_gpt2", ".configuration_ftkit_gpt2", ".configuration_ftkit_ladder", ".modeling_ftkit_gpt2"}
    allowed = {"torch", "transformers", "huggingface_hub", "math", "collections", "dataclasses", "typing", *own}
    seen = set()
    for name in OWN_CODE["ftkit_ladder"]:
        for node in ast.walk(ast.parse((folder / name).read_text())):
            if isinstance(node, ast.ImportFrom):
                seen.add("." * node.level + (node.module or "") if node.level else (node.module or "").split(".")[0])
            elif isinstance(node, ast.Import):
                seen |= {alias.name.split(".")[0] for alias in node.names}
    assert {"torch", "transformers", *own} <= seen <= allowed


def test_module_names_are_those_the_ecosystem_knows():
    names = dict(tiny().named_parameters())
    for name in ("embed_tokens.weight", "embed_positions.weight", "norm.weight", "norm.bias"):
        assert f"model.{name}" in names
    layer = {name.removeprefix("model.layers.1.") for name in names if name.startswith("model.layers.1.")}
    linear = [f"self_attn.{part}_proj" for part in "qkvo"] + ["mlp.fc_in", "mlp.fc_out"]
    norms = ["input_layernorm", "post_attention_layernorm"]
    assert layer == {f"{name}.{kind}" for name in linear + norms for kind in ("weight", "bias")}


def test_without_bias_no_parameter_is_a_bias():
    assert not [name for name, _ in tiny(bias=False).named_parameters() if "bias" in name]
    assert torch.isfinite(tiny(bias=False)(ids()).logits).all()


@pytest.mark.parametrize("plan", ["_tp_plan", "_pp_plan", "_fsdp_plan"])
def test_every_entry_of_a_parallel_plan_names_a_module(plan):
    model = tiny()
    modules = {name.replace(".0.", ".*.").replace(".1", ".*").replace(".0", ".*") for name, _ in model.named_modules()}
    entries = set(getattr(model, plan, None) or {})
    assert "lm_head" in entries
    assert entries <= modules


# --------------------------------------------------------------------------------------------------------- init


def test_new_weights_have_the_published_statistics():
    torch.manual_seed(0)
    model = FtkitGPT2ForCausalLM(FtkitGPT2Config(vocab_size=300, n_embd=128, n_layer=4, n_head=4))
    narrow = [name for name, _ in model.named_modules() if name.endswith(("o_proj", "fc_out"))]
    wide = [name for name, _ in model.named_modules() if name.endswith(("q_proj", "k_proj", "v_proj", "fc_in"))]
    assert (len(narrow), len(wide)) == (8, 16)
    for name in narrow:
        assert model.get_submodule(name).weight.std().item() == pytest.approx(0.02 / math.sqrt(8), rel=0.05)
    for name in [*wide, "model.embed_tokens", "model.embed_positions"]:
        assert model.get_submodule(name).weight.std().item() == pytest.approx(0.02, rel=0.05)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert torch.equal(parameter, torch.zeros_like(parameter)), name
        elif "norm" in name:
            assert torch.equal(parameter, torch.ones_like(parameter)), name


def test_loading_does_not_draw_loaded_weights_again(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path)
    state = FtkitGPT2ForCausalLM.from_pretrained(tmp_path).state_dict()
    assert set(state) == set(model.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


# --------------------------------------------------------------------------------------------------- the parts


def test_the_norms_are_the_textbook_formula_with_eps_under_the_root():
    norm = tiny(layer_norm_eps=0.5).model.layers[0].input_layernorm
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(5, 32)
    variance = ((x - x.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True)  # biased, as in torch
    expected = (x - x.mean(-1, keepdim=True)) / torch.sqrt(variance + 0.5) * norm.weight + norm.bias
    torch.testing.assert_close(norm(x), expected)


def test_attention_is_the_textbook_formula():
    config = FtkitGPT2Config(**TINY, attn_implementation="eager")
    attention = FtkitGPT2Attention(config, layer_idx=0).eval()
    x = torch.randn(1, 5, 32)
    past = torch.full((5, 5), float("-inf")).triu(1)
    mixed, weights = attention(x, attention_mask=past[None, None])
    heads = []
    for head in range(4):
        rows = slice(8 * head, 8 * head + 8)
        query, key, value = (
            x[0] @ getattr(attention, f"{part}_proj").weight[rows].T + getattr(attention, f"{part}_proj").bias[rows]
            for part in "qkv"
        )
        share = torch.softmax(query @ key.T / math.sqrt(8) + past, dim=-1)
        torch.testing.assert_close(weights[0, head], share)
        heads.append(share @ value)
    torch.testing.assert_close(mixed[0], attention.o_proj(torch.cat(heads, -1)))


def test_a_block_adds_both_updates_to_a_stream_that_no_norm_touches():
    config = FtkitGPT2Config(**TINY, attn_implementation="sdpa")
    block = FtkitGPT2Block(config, layer_idx=0).eval()
    assert isinstance(block.mlp, FtkitGPT2MLP)
    x = torch.randn(2, 5, 32)
    middle = x + block.self_attn(block.input_layernorm(x))[0]
    torch.testing.assert_close(block(x), middle + block.mlp(block.post_attention_layernorm(middle)))
    for part in (block.self_attn.o_proj, block.mlp.fc_out):
        nn.init.zeros_(part.weight)
        nn.init.zeros_(part.bias)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_future_token_changes_no_past_logit(attention):
    model = tiny(attn_implementation=attention)
    before = ids()
    after = before.clone()
    after[:, 7] = (after[:, 7] + 1) % 97
    with torch.no_grad():
        one, two = model(before).logits, model(after).logits
    assert torch.equal(one[:, :7], two[:, :7])
    assert (one[:, 7:] != two[:, 7:]).any(-1).all()


@pytest.mark.filterwarnings("ignore")  # flex attention warns of itself (torch 2.13), and of running eagerly
def test_eager_sdpa_and_flex_agree_on_left_padding():
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[0, :5] = 0
    results = {}
    for attention in ("eager", "sdpa", "flex_attention"):
        model = tiny()
        model.set_attn_implementation(attention)
        assert model.config._attn_implementation == attention
        # Compiling flex attention takes a minute on a CPU; eagerly it computes the same.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            results[attention] = model(ids(), attention_mask=mask).logits[mask.bool()]
    torch.testing.assert_close(results["eager"], results["sdpa"])
    torch.testing.assert_close(results["eager"], results["flex_attention"], atol=2e-6, rtol=0)


def test_left_padding_does_not_change_a_row():
    model, row = tiny(), ids(1, 8)
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), row], dim=1)
    mask = (torch.arange(12) >= 4).long()[None]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        together = model(padded, attention_mask=mask, position_ids=positions).logits[:, 4:]
        torch.testing.assert_close(together, model(row).logits, atol=2e-6, rtol=0)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_texts_do_not_see_each_other_even_with_the_cache_left_on(attention):
    model = tiny(attn_implementation=attention)
    one, two = ids(1, 5, seed=1), ids(1, 7, seed=2)
    positions = torch.cat([torch.arange(5), torch.arange(7)])[None]
    with torch.no_grad():
        packed = model(torch.cat([one, two], dim=1), position_ids=positions).logits
        torch.testing.assert_close(packed[:, :5], model(one).logits, atol=2e-6, rtol=0)
        torch.testing.assert_close(packed[:, 5:], model(two).logits, atol=2e-6, rtol=0)


def test_embeddings_may_be_given_in_place_of_ids():
    model = tiny()
    with torch.no_grad():
        assert torch.equal(model(inputs_embeds=model.get_input_embeddings()(ids())).logits, model(ids()).logits)
    for wrong in ({}, {"input_ids": ids(), "inputs_embeds": torch.zeros(2, 12, 32)}):
        with pytest.raises(ValueError, match="exactly one"):
            model(**wrong)


def test_the_context_holds_exactly_its_positions():
    model = tiny()
    assert model(ids(1, 48)).logits.shape == (1, 48, 97)
    with pytest.raises(ValueError, match=r"needs 49 positions.*max_position_embeddings=48"):
        model(ids(1, 49))
    with pytest.raises(ValueError, match=r"needs 49 positions.*max_position_embeddings=48"):
        model(ids(1, 2), position_ids=torch.tensor([[47, 48]]))
    cache = cache_of(model(ids(1, 48)))
    with pytest.raises(ValueError, match="needs 49 positions"):
        model(ids(1, 1), cache=cache)


# --------------------------------------------------------------------------------------------- outputs and loss


def test_hidden_states_and_attention_weights_are_returned_on_demand():
    model = tiny(attn_implementation="eager")
    output = model(ids(), output_hidden_states=True, output_attentions=True)
    assert [state.shape for state in output.hidden_states] == [(2, 12, 32)] * 3
    assert [weights.shape for weights in output.attentions] == [(2, 4, 12, 12)] * 2
    embedded = model.model.embed_tokens(ids()) + model.model.embed_positions.weight[:12]
    torch.testing.assert_close(output.hidden_states[0], embedded)
    torch.testing.assert_close(model.lm_head(output.hidden_states[-1]), output.logits)
    torch.testing.assert_close(output.attentions[0].sum(-1), torch.ones(2, 4, 12))
    assert output.attentions[1].triu(1).abs().max() == 0
    plain = model(ids())
    assert plain.hidden_states is None
    assert plain.attentions is None
    assert isinstance(model(ids(), return_dict=False), tuple)


def test_gradients_reach_retained_hidden_states():
    output = tiny(attn_implementation="eager")(ids(), output_hidden_states=True, output_attentions=True)
    retained = [output.hidden_states[0], output.attentions[0]]
    for tensor in retained:
        tensor.retain_grad()
    output.logits.square().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in retained)


def test_logits_are_raw_and_kept_where_asked():
    model = tiny()
    with torch.no_grad():
        logits = model(ids()).logits
        assert not torch.allclose(logits.exp().sum(-1), torch.ones(2, 12))
        torch.testing.assert_close(model(ids(), logits_to_keep=3).logits, logits[:, -3:])
        torch.testing.assert_close(model(ids(), logits_to_keep=torch.tensor([1, 5])).logits, logits[:, [1, 5]])


def test_logit_scale_multiplies_the_logits():
    scaled, plain = tiny(logit_scale=32**-0.5), tiny()
    with torch.no_grad():
        torch.testing.assert_close(scaled(ids()).logits, plain(ids()).logits * 32**-0.5)


def test_the_loss_is_the_mean_over_shifted_targets_and_that_of_hugging_face():
    model, labels = tiny(), ids()
    labels[0, 3:6] = -100
    output = model(ids(), labels=labels)
    expected = nn.functional.cross_entropy(output.logits[:, :-1].reshape(-1, 97), labels[:, 1:].reshape(-1))
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert output.loss.item() == pytest.approx(to_hf_gpt2(model)(ids(), labels=labels).loss.item(), rel=1e-6)
    assert model.loss_type == "ForCausalLM"


def test_num_items_in_batch_makes_micro_batches_add_up_to_the_batch():
    model, labels = tiny(), ids(4)
    labels[0, :9] = -100
    num_targets = (labels[:, 1:] != -100).sum()
    whole = model(ids(4), labels=labels).loss
    parts = [model(ids(4)[i : i + 1], labels=labels[i : i + 1], num_items_in_batch=num_targets).loss for i in range(4)]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)
    naive = torch.stack([model(ids(4)[i : i + 1], labels=labels[i : i + 1]).loss for i in range(4)]).mean()
    assert naive.item() != pytest.approx(whole.item(), rel=1e-4)


def test_labels_that_are_shifted_already_are_not_shifted_again():
    model = tiny()
    shifted = nn.functional.pad(ids()[:, 1:], (0, 1), value=-100)
    assert model(ids(), shift_labels=shifted).loss.item() == model(ids(), labels=ids()).loss.item()


# ------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("name", DROPOUTS)
def test_each_dropout_acts_in_training_and_in_no_other_mode(name):
    settings = dict.fromkeys(DROPOUTS, 0.0)
    model, reference = tiny(**{**settings, name: 0.5}), tiny(**settings)
    with torch.no_grad():
        expected = reference(ids()).logits
        assert torch.equal(reference.train()(ids()).logits, expected)
        torch.testing.assert_close(model(ids()).logits, expected)
        model.train()
        first, second = model(ids()).logits, model(ids()).logits
    assert not torch.equal(first, second)
    assert not torch.equal(first, expected)


def test_dropped_embeddings_are_scaled_up_by_the_kept_share():
    model = tiny(**{**NO_DROPOUT, "embd_pdrop": 0.25}).train()
    with torch.no_grad():
        dropped = model(ids(8, 48), output_hidden_states=True).hidden_states[0]
        whole = model.eval()(ids(8, 48), output_hidden_states=True).hidden_states[0]
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75)


def test_training_lowers_the_loss_of_a_text_to_almost_nothing():
    model = tiny(**NO_DROPOUT, initializer_range=0.02).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = model(ids(), labels=ids()).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(math.log(97), abs=0.1)
    assert losses[-1] < 0.1


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_gradients_are_bit_identical(reentrant):
    gradients = []
    for checkpointed in (False, True):
        model = tiny().train()
        if checkpointed:
            old = model.gradient_checkpointing_enable  # the only name before transformers 5.2x, deprecated since
            getattr(model, "activation_checkpointing_enable", old)({"use_reentrant": reentrant})
            assert all(layer.gradient_checkpointing for layer in model.model.layers)
        torch.manual_seed(1)
        model(ids(), labels=ids(), use_cache=False).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert len(gradients[0]) == 2 + 2 * 16 + 2
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_training_starts_no_cache():
    assert cache_of(tiny().train()(ids())) is None
    assert cache_of(tiny()(ids())).get_seq_length() == 12


@pytest.mark.parametrize(
    "build", [tiny, lambda: classifier(pad_token_id=0), lambda: tiny().model], ids=["head", "classifier", "body"]
)
def test_the_cache_is_taken_by_either_of_its_names_but_not_by_both(build):
    model = build()
    with torch.no_grad():
        cache = cache_of(tiny()(ids()))
        by_new, by_old = (model(ids(2, 3), **{name: deepcopy(cache)})[0] for name in ("cache", "past_key_values"))
        assert torch.equal(by_new, by_old)
        assert not torch.equal(by_new, model(ids(2, 3))[0])
        with pytest.raises(ValueError, match="not both"):
            model(ids(2, 3), cache=cache, past_key_values=cache)


def test_the_model_compiles_to_one_graph():
    model = tiny()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(ids(), use_cache=False).logits, model(ids()).logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_near_full_precision(dtype):
    model = tiny(initializer_range=0.02)
    with torch.no_grad():
        full = model(ids()).logits
        half = model.to(dtype)(ids()).logits
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), full, atol=0.02, rtol=0)


# --------------------------------------------------------------------------------------------------------- tying


def test_the_tie_is_one_parameter_and_survives_everything(tmp_path):
    def is_tied(model: FtkitGPT2ForCausalLM) -> bool:
        return model.lm_head.weight is model.model.embed_tokens.weight

    model = tiny()
    assert is_tied(model)
    assert is_tied(model.to("cpu"))
    assert is_tied(model.half())
    assert is_tied(model.float())
    model.resize_token_embeddings(101)
    assert is_tied(model)
    assert model.lm_head.weight.shape == (101, 32)
    assert model.config.vocab_size == model.lm_head.out_features == 101
    model.save_pretrained(tmp_path)
    again = FtkitGPT2ForCausalLM.from_pretrained(tmp_path)
    assert is_tied(again)
    before = again.model.embed_tokens.weight.clone()
    optimizer = torch.optim.AdamW(again.parameters(), lr=0.1)
    again(ids(), labels=ids()).loss.backward()
    optimizer.step()
    assert is_tied(again)
    assert not torch.equal(again.lm_head.weight, before)


def test_an_untied_head_is_a_parameter_of_its_own(tmp_path):
    model = tiny(tie_word_embeddings=False)
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    tied = sum(parameter.numel() for parameter in tiny().parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) == tied + 97 * 32
    model.save_pretrained(tmp_path)
    again = FtkitGPT2ForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)
    assert not torch.equal(again.lm_head.weight, again.model.embed_tokens.weight)


def test_resizing_keeps_the_rows_that_stay():
    model = tiny()
    rows = model.model.embed_tokens.weight.clone()
    model.resize_token_embeddings(120)
    assert torch.equal(model.model.embed_tokens.weight[:97], rows)
    model.resize_token_embeddings(60)
    assert torch.equal(model.model.embed_tokens.weight, rows[:60])
    assert model(ids() % 60, labels=ids() % 60).logits.shape == (2, 12, 60)


def test_the_body_loads_from_a_language_model_and_back(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path / "lm")
    body = FtkitGPT2Model.from_pretrained(tmp_path / "lm").eval()
    with torch.no_grad():
        torch.testing.assert_close(body(ids()).last_hidden_state @ model.lm_head.weight.T, model(ids()).logits)
    body.save_pretrained(tmp_path / "body")
    again = FtkitGPT2ForCausalLM.from_pretrained(tmp_path / "body").eval()
    torch.testing.assert_close(again(ids()).logits, model(ids()).logits)


# ------------------------------------------------------------------------------------------ sequence classification


def test_padding_on_either_side_does_not_change_a_score():
    model, row = classifier(pad_token_id=0), ids(1, 8)
    pad = torch.zeros(1, 4, dtype=torch.long)
    with torch.no_grad():
        alone = model(row).logits
        right = torch.cat([row, pad], dim=1)
        assert torch.equal(model(right).logits, model(right, attention_mask=(right != 0).long()).logits)
        torch.testing.assert_close(model(right).logits, alone, atol=2e-6, rtol=0)
        left = torch.cat([pad, row], dim=1)
        mask = (left != 0).long()
        scores = model(left, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits
        torch.testing.assert_close(scores, alone, atol=2e-6, rtol=0)


def test_without_a_padding_id_the_mask_says_where_a_row_ends():
    with_id, without = classifier(pad_token_id=0), classifier()
    batch = ids(3, 10)
    batch[1, 6:] = 0
    with torch.no_grad():
        scores = without(batch, attention_mask=(batch != 0).long()).logits
        torch.testing.assert_close(scores, with_id(batch, attention_mask=(batch != 0).long()).logits)
    with pytest.raises(ValueError, match=r"3 rows.*pad_token_id"):
        without(batch)


def test_the_three_kinds_of_labels_have_their_losses():
    batch = ids(3)
    single, output = (
        torch.tensor([0, 2, 1]),
        classifier(num_labels=3, pad_token_id=0)(ids(3), labels=torch.tensor([0, 2, 1])),
    )
    assert output.logits.shape == (3, 3)
    torch.testing.assert_close(output.loss, nn.functional.cross_entropy(output.logits, single))
    value = torch.tensor([0.5, -1.0, 2.0])
    output = classifier(num_labels=1, pad_token_id=0)(batch, labels=value)
    torch.testing.assert_close(output.loss, nn.functional.mse_loss(output.logits.squeeze(), value))
    many = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 0]])
    output = classifier(num_labels=3, pad_token_id=0)(batch, labels=many)
    torch.testing.assert_close(output.loss, nn.functional.binary_cross_entropy_with_logits(output.logits, many))


def test_class_losses_of_micro_batches_add_up_to_the_batch():
    model, labels = classifier(pad_token_id=0), torch.tensor([0, 1, 1, 0])
    whole = model(ids(4), labels=labels).loss
    parts = [model(ids(4)[i : i + 2], labels=labels[i : i + 2], num_items_in_batch=4).loss for i in (0, 2)]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)


# ------------------------------------------------------------------------------------------------- planted faults


def test_a_planted_fault_in_the_mask_is_caught_by_the_causality_check(monkeypatch):
    model = tiny(attn_implementation="eager")
    monkeypatch.setattr("ftkit.models.modeling_ftkit_gpt2.create_causal_mask", lambda **_: torch.zeros(1, 1, 12, 12))
    after = ids().clone()
    after[:, 7] += 1
    assert not torch.equal(model(ids()).logits[:, :7], model(after).logits[:, :7])


def test_hugging_faces_gpt2_has_the_same_initial_spread_so_the_two_start_alike():
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=97, n_embd=128, n_layer=4, n_head=4))
    assert theirs.transformer.h[0].attn.c_proj.weight.std().item() == pytest.approx(0.02 / math.sqrt(8), rel=0.05)
