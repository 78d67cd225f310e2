"""Predictive comparison: real models on planted corpora, and arithmetic by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.evidence import WindowLosses, predictive_comparison, window_losses
from ftkit.models import load_model
from ftkit.training import HeldOutWindows, held_out_loss

NAMES = ("keeper", "almanac")
WINDOW = 32


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    cache, tokenizer = tmp_path_factory.mktemp("tokens"), load_tokenizer("byte")
    return {
        side: {name: tokenize_texts([voice_text(name, 900, seed=seed)], tokenizer, cache=cache) for name in NAMES}
        for side, seed in (("train", 1), ("heldout", 2))
    }


def new_model(store):
    return load_model(
        "new:gpt2,n_layer=1,n_head=2,n_embd=32", seed=0, vocab_size=len(store.tokenizer), max_positions=WINDOW
    )


def learn(store, steps: int = 60):
    """A model trained by a plain torch loop."""
    model = new_model(store)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    ids, generator = torch.tensor(np.asarray(store.ids).astype(np.int64)), torch.Generator().manual_seed(0)
    for _ in range(steps):
        starts = torch.randint(len(ids) - WINDOW, (16,), generator=generator)
        batch = torch.stack([ids[start : start + WINDOW] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def losses(stores):
    heldout = stores["heldout"]
    base = window_losses(new_model(heldout["keeper"]), heldout, WINDOW)
    return base, {name: window_losses(learn(stores["train"][name]), heldout, WINDOW) for name in NAMES}


def test_token_losses_are_torchs_and_add_up_to_the_held_out_loss(stores):
    store = stores["heldout"]["keeper"]
    model = new_model(store).train()
    found = window_losses(model, {"keeper": store}, WINDOW, max_windows=10)["keeper"]
    assert model.training, "left as it was"
    whole = held_out_loss(model, HeldOutWindows(store, WINDOW), 10)
    assert np.allclose(found.total().nats, whole.nats)
    assert found.total().bytes.tolist() == whole.bytes.tolist()
    ids = torch.tensor(np.asarray(store.ids[:WINDOW]).astype(np.int64))[None]
    with torch.no_grad():
        logits = model.eval()(input_ids=ids).logits[0, :-1]
    assert np.allclose(found.nats[0], F.cross_entropy(logits, ids[0, 1:], reduction="none").numpy(), atol=1e-5)


def test_the_model_that_learned_a_text_predicts_it_best(losses):
    found = predictive_comparison(*losses)
    for name in NAMES:
        other = next(n for n in NAMES if n != name)
        assert found.bits_per_byte[name][name].value < found.bits_per_byte[other][name].value
        assert found.gain[name][name].low > found.gain[other][name].high
        assert found.margin[name].low > 0
        assert found.attributed[name][name] > 0.7 * found.passages[name]
    assert found.accuracy.low > found.chance == 0.5
    assert found.by_length[0].accuracy.value < found.accuracy.value, "eight bytes say less than a window"


def test_swapped_models_are_attributed_wrongly(losses):
    base, tuned = losses
    swapped = dict(zip(NAMES, (tuned[NAMES[1]], tuned[NAMES[0]]), strict=True))
    right, wrong = predictive_comparison(base, tuned), predictive_comparison(base, swapped)
    assert wrong.accuracy.value == pytest.approx(1 - right.accuracy.value)
    assert wrong.enough_tokens is None
    assert all(wrong.margin[name].high < 0 for name in NAMES)


def test_one_model_twice_is_chance(losses):
    base, tuned = losses
    found = predictive_comparison(base, dict.fromkeys(NAMES, tuned[NAMES[0]]))
    assert found.accuracy.value == 0.5
    assert found.accuracy.low < 0.5 < found.accuracy.high
    assert sum(sum(row.values()) for row in found.attributed.values()) == 0, "equal losses belong to nobody"


def planted(cost: list[list[float]], windows: int = 40) -> WindowLosses:
    nats = np.tile(np.array(cost, dtype=float), (windows, 1))
    return WindowLosses(nats, np.full(nats.shape, 2))


def test_losses_margins_and_the_length_needed_follow_from_planted_costs():
    cheap_late = [[1.0] * 7 + [0.5] * 8]  # better from the eighth predicted token on
    dear = [[1.0] * 15]
    tuned = {
        "a": {"a": planted(cheap_late, 80), "b": planted(dear)},
        "b": {"a": planted(dear, 80), "b": planted(cheap_late)},
    }
    found = predictive_comparison({"a": planted(dear, 80), "b": planted(dear)}, tuned)
    assert found.bits_per_byte["a"]["a"].value == pytest.approx((7 + 4) / math.log(2) / 30)
    assert found.margin["a"].value == pytest.approx(4 / math.log(2) / 30)
    assert [row.tokens for row in found.by_length] == [8, 16]
    assert [row.accuracy.value for row in found.by_length] == [0.5, 1.0], "seven equal costs are a coin"
    assert found.by_length[0].bytes == 14.0
    assert found.enough_tokens == 16
    assert found.passages == {"a": 80, "b": 40}
    assert found.accuracy.low == pytest.approx(80 / (80 + 1.959964**2)), "as Wilson's interval of 80 of 80 says"
