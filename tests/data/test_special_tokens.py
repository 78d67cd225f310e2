"""Special tokens that stand in a text: which reading is chosen, and what it does, against transformers itself."""

import math

import numpy as np
import pytest
import torch

from ftkit.data import fix_special_tokens, load_tokenizer, tokenize_texts, tokenizer_fingerprint, voice_text
from ftkit.data.tokenizers import expected_ids, special_tokens_said
from ftkit.evidence import token_shares, word_order
from ftkit.evidence.intervals import loss_blocks
from ftkit.generation import generate_passages
from ftkit.models import load_model
from ftkit.training import HeldOutWindows, held_out_loss

MARKS = ["<|im_start|>", "<|im_end|>", "<｜begin▁of▁sentence｜>"]
WINDOW = 64


def chat(words: int = 1200) -> str:
    sentences = voice_text("keeper", words).split(". ")
    roles = ("user", "assistant")
    return "".join(f"<|im_start|>{roles[n % 2]}\n{said}.<|im_end|>\n" for n, said in enumerate(sentences))


@pytest.fixture(scope="module")
def made():
    tokenizer = load_tokenizer("train:400", texts=[voice_text("keeper", 1500)])
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    return tokenizer


@pytest.fixture
def tokenizer(made):
    fix_special_tokens("text", [], made)
    return made


@pytest.mark.parametrize(
    ("text", "reading", "found"),
    [
        (chat(300), "tokens", True),
        ("a book with an accidental <|im_start|> in it\n" + "and more of it\n" * 500, "text", True),
        ("it says <|im_start|> here and <|im_end|> there, as one writes\n" * 20, "text", True),
        ("one text\n<|endoftext|>\nanother\n<|endoftext|>\n" * 3, "tokens", True),
        ("<|im_start|><|im_end|> in a line<|im_start|><|im_end|> goes on", "tokens", True),
        ("no special token", "text", False),
    ],
)
def test_they_are_tokens_where_they_stand_as_in_a_chat_and_text_else(tokenizer, text, reading, found):
    chosen = fix_special_tokens("auto", [text], tokenizer)
    assert chosen.reading == reading
    assert chosen.counts == {t: text.count(t) for t in (*MARKS, "<|endoftext|>") if t in text}
    assert bool(special_tokens_said(tokenizer)) == found
    if found:
        assert f"{next(iter(chosen.counts))} {next(iter(chosen.counts.values()))} times" in str(chosen)
        assert f"special_tokens: {'text' if reading == 'tokens' else 'tokens'}" in str(chosen)


@pytest.mark.parametrize("reading", ["text", "tokens"])
def test_both_readings_are_those_of_transformers(tokenizer, reading, tmp_path):
    text = chat() + "<｜begin▁of▁sentence｜>é"
    assert fix_special_tokens(reading, [text], tokenizer).reading == reading
    wanted = tokenizer(text, add_special_tokens=False, split_special_tokens=reading == "text")["input_ids"]
    store = tokenize_texts([text], tokenizer, cache=tmp_path)
    assert store.ids.tolist() == wanted
    covered = [len(tokenizer.decode([token]).encode()) for token in wanted]
    special = np.isin(wanted, tokenizer.convert_tokens_to_ids(MARKS))
    assert special.any() == (reading == "tokens")
    assert store.byte_lengths[special].tolist() == np.array(covered)[special].tolist()
    assert int(store.byte_lengths.astype(int).sum()) == len(text.encode())


def test_a_choice_is_part_of_every_key(tokenizer, tmp_path):
    text, stores, prints = chat(200), [], set()
    for reading in ("text", "tokens"):
        fix_special_tokens(reading, [text], tokenizer)
        prints.add(tokenizer_fingerprint(tokenizer))
        stores.append(tokenize_texts([text], tokenizer, cache=tmp_path))
    assert len(prints) == 2
    assert stores[0].path != stores[1].path
    assert stores[0].num_tokens > stores[1].num_tokens


def test_bits_per_byte_of_a_chat_are_those_of_its_tokens(tokenizer, tmp_path):
    text = chat()
    fix_special_tokens("auto", [text], tokenizer)
    model = load_model("new:gpt2,n_layer=1,n_head=2,n_embd=32", vocab_size=len(tokenizer), max_positions=WINDOW).eval()
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    rows = ids[: len(ids) // WINDOW * WINDOW].view(-1, WINDOW)
    with torch.no_grad():
        logits = model(input_ids=rows).logits[:, :-1]
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum").item()
    num_bytes = sum(len(tokenizer.decode(row[1:]).encode()) for row in rows)
    found = held_out_loss(model, HeldOutWindows(tokenize_texts([text], tokenizer, cache=tmp_path), WINDOW))
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)


def test_a_model_writes_the_special_tokens_of_its_text_and_no_others(tokenizer):
    model = load_model("new:gpt2,n_layer=1,n_head=2,n_embd=32", vocab_size=len(tokenizer), max_positions=WINDOW)
    start, end, other = tokenizer.convert_tokens_to_ids(MARKS)
    with torch.no_grad():
        model.lm_head.weight[[start, other]] += 1.0  # tied: likely wherever the last state points that way
        model.transformer.ln_f.bias += 10.0

    def written() -> set[int]:
        passages = generate_passages(model, tokenizer, ["a"] * 8, new_tokens=30)
        return {token for passage in passages for token in passage.ids}

    assert not {start, end, other} & written()
    fix_special_tokens("tokens", [chat(100)], tokenizer)
    assert expected_ids(tokenizer) == {start, end}
    assert start in written()
    assert other not in written()


def test_word_order_and_usage_read_the_text_as_it_was_read(tokenizer, tmp_path):
    text = chat()
    fix_special_tokens("tokens", [text], tokenizer)
    store = tokenize_texts([text], tokenizer, cache=tmp_path)
    start = tokenizer.convert_tokens_to_ids(MARKS[0])
    assert token_shares([text], tokenizer, [start])[0] == pytest.approx((store.ids == start).mean())
    model = load_model("new:gpt2,n_layer=1,n_head=2,n_embd=32", vocab_size=len(tokenizer), max_positions=WINDOW)
    loss = held_out_loss(model, HeldOutWindows(store, WINDOW))
    order = word_order(model, model, store, (loss, loss), WINDOW)
    assert abs(order.base) < 0.3  # without the tokens the shuffled text would cost a random model far more a byte
    fix_special_tokens("text", [text], tokenizer)
    assert token_shares([text], tokenizer, [start])[0] == 0


def test_two_models_are_paired_where_their_tokenizers_give_other_windows(tokenizer, tmp_path):
    text = chat()
    model = load_model("new:gpt2,n_layer=1,n_head=2,n_embd=32", vocab_size=len(tokenizer), max_positions=WINDOW)
    losses = []
    for reading in ("text", "tokens"):
        fix_special_tokens(reading, [text], tokenizer)
        losses.append(held_out_loss(model, HeldOutWindows(tokenize_texts([text], tokenizer, cache=tmp_path), WINDOW)))
    assert len(losses[0].nats) > len(losses[1].nats)
    for base, tuned in (losses, losses[::-1]):
        blocks = loss_blocks(base, tuned)
        assert len({len(sums) for sums in blocks.values()}) == 1
        assert sum(blocks["base"]) == pytest.approx(base.nats.sum())
        assert sum(blocks["tuned"]) == pytest.approx(tuned.nats.sum())
        assert sum(blocks["bytes"]) == tuned.bytes.sum()
