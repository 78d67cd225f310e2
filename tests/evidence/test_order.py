"""What the order of words is worth, against the losses that it is made of and a model that knows no order."""

import copy

import numpy as np
import pytest
import torch

from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.evidence import shuffle_words, word_order
from ftkit.models import load_model
from ftkit.training import HeldOutWindows, held_out_loss

WINDOW = 48


def learned(model, store, steps=120):
    model = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    starts = torch.Generator().manual_seed(0)
    ids = torch.tensor(np.asarray(store.ids).astype(np.int64))
    for _ in range(steps):
        first = torch.randint(0, len(ids) - WINDOW, (8,), generator=starts).tolist()
        rows = torch.stack([ids[start : start + WINDOW] for start in first])
        optimizer.zero_grad()
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    cache, text, new = tmp_path_factory.mktemp("tokens"), voice_text("keeper", 1500), voice_text("keeper", 600, seed=9)
    tokenizer = load_tokenizer("train:300", texts=[text])
    ordered, mixed, heldout = (tokenize_texts([t], tokenizer, cache=cache) for t in (text, shuffle_words(text), new))
    start = load_model("new:gpt2,n_layer=1,n_head=2,n_embd=32,resid_pdrop=0,embd_pdrop=0,attn_pdrop=0", vocab_size=300,
                       max_positions=WINDOW)  # fmt: skip
    models = learned(start, ordered), learned(start, mixed)
    real = tuple(held_out_loss(model, HeldOutWindows(heldout, WINDOW)) for model in models)
    shuffled = tokenize_texts([shuffle_words(new)], tokenizer, cache=cache)
    return word_order(*models, heldout, real, WINDOW), models, real, shuffled


def test_it_is_the_difference_of_two_losses(found):
    order, models, real, shuffled = found
    for value, model, known in zip((order.base, order.tuned), models, real, strict=True):
        mixed = held_out_loss(model, HeldOutWindows(shuffled, WINDOW), 48)
        assert value == pytest.approx(mixed.bits_per_byte - known.bits_per_byte)
    assert order.kept.value == pytest.approx(order.tuned / order.base)


def test_a_model_that_read_words_in_no_order_does_not_keep_it(found):
    order = found[0]
    assert order.base > 0.15
    assert order.kept.high < 0.5


def test_shuffling_keeps_every_paragraphs_words_and_is_the_same_again():
    text = "one two three four five six\n\nseven  eight\nnine ten eleven twelve"
    shuffled = shuffle_words(text)
    assert shuffled == shuffle_words(text) != shuffle_words(text, seed=1)
    before, after = text.split("\n\n"), shuffled.split("\n\n")
    assert [sorted(p.split()) for p in before] == [sorted(p.split()) for p in after]
    assert [p.split() for p in before] != [p.split() for p in after]


def test_text_shorter_than_a_window_gives_no_measure(found):
    _, models, real, shuffled = found
    assert word_order(*models, shuffled, real, shuffled.num_tokens + 1) is None
