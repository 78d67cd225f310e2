"""Divergence, scaling and the gap, against torch, peft and arithmetic."""

import copy
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ftkit.config import AdapterSettings
from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.evidence import (
    ComparedPassages,
    ComparedTexts,
    Comparison,
    divergence_from_base,
    forgetting,
    gather_evidence,
    parse_evidence,
    scaled_models,
    scaling_curve,
)
from ftkit.evidence.forgetting import distances_from_base
from ftkit.models import load_model
from ftkit.training.objectives import output_logits
from ftkit.tuning import attach_adapter

WINDOW = 24


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    cache, tokenizer = tmp_path_factory.mktemp("tokens"), load_tokenizer("byte")
    return {name: tokenize_texts([voice_text(name, 300)], tokenizer, cache=cache) for name in ("keeper", "almanac")}


@pytest.fixture(scope="module")
def base(stores):
    size = len(stores["keeper"].tokenizer)
    return load_model("new:gpt2,n_layer=1,n_head=2,n_embd=16", seed=0, vocab_size=size, max_positions=WINDOW + 8)


def moved(base, by: float = 0.05):
    torch.manual_seed(0)
    other = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return other


def test_divergence_is_torchs_kl_div(base, stores):
    tuned, store = moved(base), stores["keeper"]
    found = divergence_from_base(base, tuned, store, WINDOW, max_windows=None, batch_rows=3)
    count = len(store.ids) // WINDOW
    ids = torch.tensor(np.asarray(store.ids[: count * WINDOW]).astype(np.int64)).view(count, WINDOW)
    with torch.no_grad():
        p, q = (model.eval()(input_ids=ids).logits[:, :-1].double().log_softmax(-1) for model in (base, tuned))
    expected = F.kl_div(q.flatten(0, 1), p.flatten(0, 1), log_target=True, reduction="batchmean") / math.log(2)
    assert count > 20
    assert found.value == pytest.approx(float(expected), rel=1e-4)
    assert found.low < found.value < found.high
    assert divergence_from_base(base, base, store, WINDOW).value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", ["whole", "adapter", "head with a hook"])
def test_what_the_head_read_for_the_losses_serves_the_divergence_too(base, stores, monkeypatch, kind):
    tuned = lora(base) if kind == "adapter" else moved(base)
    if kind == "head with a hook":
        tuned.lm_head.register_forward_hook(lambda *_: None)
    texts = ComparedTexts(stores["keeper"], [], [], general={"almanac": stores["almanac"]})
    comparison = Comparison(None if kind == "adapter" else base, tuned, texts, ComparedPassages(), WINDOW)
    assert comparison.losses
    assert comparison.general_losses
    passes = []

    def counted(*given):
        passes.append(given)
        return output_logits(*given)

    monkeypatch.setattr(forgetting, "output_logits", counted)
    found = distances_from_base(comparison)
    assert bool(passes) == (kind == "head with a hook"), "only a head that may do more takes a second pass"
    alone = [divergence_from_base(comparison.base, tuned, stores[name], WINDOW) for name in ("almanac", "keeper")]
    assert [each.value for each in found] == pytest.approx([each.value for each in alone], rel=1e-5)
    assert found[0].value > 1e-3


def lora(base):
    model = attach_adapter(copy.deepcopy(base), AdapterSettings(peft="lora", lora_r=2))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.25])
def test_a_scaled_adapter_is_pefts_with_that_scaling(base, scale):
    tuned, ids = lora(base), torch.arange(WINDOW)[None]
    ((found, model),) = scaled_models(base, tuned, [scale])
    layers = [module for module in tuned.modules() if isinstance(getattr(module, "scaling", None), dict)]
    assert layers
    for layer in layers:
        layer.scaling["default"] *= scale
    with torch.no_grad():
        expected, logits = tuned(input_ids=ids).logits, model.eval()(input_ids=ids).logits
    assert found == scale
    assert torch.allclose(logits, expected, atol=1e-5)


def test_scales_start_at_the_base_end_at_the_model_and_leave_both_alone(base):
    tuned = moved(base)
    before = [parameter.clone() for model in (base, tuned) for parameter in model.parameters()]
    for scale, model in scaled_models(base, tuned, [0.0, 1.0]):
        for mine, other in zip(model.parameters(), (tuned if scale else base).parameters(), strict=True):
            assert torch.allclose(mine, other, atol=1e-7)
    after = [parameter for model in (base, tuned) for parameter in model.parameters()]
    assert len(before) > 20
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_virtual_tokens_and_other_shapes_have_no_scale(base):
    prompt = attach_adapter(copy.deepcopy(base), AdapterSettings(peft="prompt", virtual_tokens=4))
    wider = load_model("new:gpt2,n_layer=1,n_head=2,n_embd=32", seed=0, vocab_size=300, max_positions=WINDOW)
    assert list(scaled_models(base, prompt, [0.5])) == []
    assert list(scaled_models(base, wider, [0.5])) == []


def test_the_curve_starts_at_nothing_and_ends_at_what_the_model_is(base, stores):
    tuned = moved(base, 0.3)
    curve = scaling_curve(base, tuned, stores["keeper"], stores["almanac"], WINDOW, scales=[0.5])
    assert [point.scale for point in curve] == [0.0, 0.5, 1.0]
    assert curve[0].gain.value == pytest.approx(0, abs=1e-6)
    assert curve[0].rise.value == pytest.approx(0, abs=1e-6)
    assert curve[2].rise.low > curve[1].rise.value > 0, "noise of this size harms the more the more of it there is"
    assert curve[2].gain.value < 0


def test_evidence_holds_gap_divergence_curve_and_unused_tokens(base, stores):
    torch.manual_seed(0)
    heldout, train, tuned = stores["keeper"], stores["almanac"], copy.deepcopy(base)
    optimizer = torch.optim.AdamW(tuned.parameters(), 1e-2)
    ids = torch.tensor(np.asarray(train.ids[: 24 * WINDOW]).astype(np.int64)).view(24, WINDOW)
    for _ in range(30):
        loss = tuned(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    passages = [voice_text("keeper", 30, seed=seed) for seed in range(30)]
    texts = ComparedTexts(heldout, ["a b"], passages, general={"itself": heldout}, train=train)
    compared = ComparedPassages(["\x01\x02 the"] * 30, passages, passages)
    found = gather_evidence(Comparison(base, tuned, texts, compared, WINDOW, passes=1.0, scales=[0.5]))
    gains = [each.base.value - each.tuned.value for each in (found.training_text, found.heldout)]
    assert found.training_text.gap.value == pytest.approx(gains[0] - gains[1])
    assert found.training_text.gap.low > 0, "it was trained on the one and not on the other"
    assert found.general.tuned == found.heldout.tuned
    assert found.general.kl_general == found.general.kl_target
    assert len(found.general.curve) == 3
    assert found.fluency.base.unused_tokens == pytest.approx(2 / 6)
    assert found.fluency.tuned.unused_tokens == 0.0
    assert parse_evidence(json.loads(json.dumps(found.as_dict()))) == found, "it is read as it was written"
