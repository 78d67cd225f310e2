"""Bytes that a tokenizer cannot write, against what the library's offsets say, and the bits per byte of the rest."""

import math
import string

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from ftkit.data import Masking, fix_special_tokens, load_tokenizer, tokenize_each, tokenize_texts, voice_text
from ftkit.data.made_tokenizers import wrapped
from ftkit.evidence import bits_per_byte, gain_in_bits, window_losses
from ftkit.models import load_model
from ftkit.training import MOST_UNKNOWN, HeldOutLoss, HeldOutWindows, held_out_loss

LETTERS = [*string.ascii_letters, *string.digits, *string.punctuation]
MIXED = "One word ЖЖЖ, then Я and more;  тест" + " plain text" * 30 + " ж"
WINDOW = 16


def wrapped_model(model: object, **special: str):
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return wrapped(backend, **special)


def made(kind: str):
    numbered = {letter: number for number, letter in enumerate(["<unk>", *LETTERS])}
    continued = {f"##{letter}": len(numbered) + number for number, letter in enumerate(LETTERS)}
    if kind == "word pieces":
        return wrapped_model(models.WordPiece(numbered | continued, unk_token="<unk>"), unk_token="<unk>")
    if kind == "words":
        return wrapped_model(models.WordLevel(numbered, unk_token="<unk>"), unk_token="<unk>")
    if kind == "pairs":
        return wrapped_model(models.BPE(numbered, [], unk_token="<unk>"), unk_token="<unk>")
    if kind == "fused pairs":
        return wrapped_model(models.BPE(numbered, [], unk_token="<unk>", fuse_unk=True), unk_token="<unk>")
    if kind == "pieces":
        return wrapped_model(models.Unigram([(token, -float(n)) for token, n in numbered.items()], 0, False))
    assert kind == "dropping pairs"
    return wrapped_model(models.BPE({letter: number for letter, number in numbered.items() if number}, []))


@pytest.mark.parametrize("kind", ["word pieces", "pieces", "dropping pairs", "bytes"])
def test_many_texts_are_read_as_each_of_them_alone(kind, tmp_path):
    tokenizer = load_tokenizer("byte") if kind == "bytes" else made(kind)
    texts = [MIXED, "all known", " two  spaces ", "Я x"]
    for text, found in zip(texts, tokenize_each(texts, tokenizer), strict=True):
        alone = tokenize_texts([text], tokenizer, cache=tmp_path)
        assert found.ids.tolist() == alone.ids.tolist()
        assert found.byte_lengths.tolist() == alone.byte_lengths.tolist()
        assert (found.num_bytes, found.num_unknown_bytes) == (alone.num_bytes, alone.num_unknown_bytes)
        assert (found.unknown_lengths is None) == (alone.unknown_lengths is None)
        if alone.unknown_lengths is not None and found.unknown_lengths is not None:
            assert found.unknown_lengths.tolist() == alone.unknown_lengths.tolist()


@pytest.mark.parametrize("kind", ["word pieces", "words", "pairs", "fused pairs", "pieces", "dropping pairs"])
@pytest.mark.parametrize("texts", [[MIXED], ["ЖЖ", MIXED, " Я"], ["all known"]])
def test_they_are_the_characters_that_no_known_token_covers(kind, texts, tmp_path):
    tokenizer = made(kind)
    store = tokenize_texts(texts, tokenizer, cache=tmp_path)
    unknown_id = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else 0
    lost, asked = 0, []
    for text in texts:
        known = np.zeros(len(text), dtype=bool)
        read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        for token, (start, end) in zip(read["input_ids"], read["offset_mapping"], strict=True):
            known[start:end] |= kind == "dropping pairs" or token != unknown_id
            asked.append(kind == "dropping pairs" or token != unknown_id)
        lost += sum(len(char.encode()) for char, seen in zip(text, known, strict=True) if not seen and char != " ")
    spaces = 0 if store.unknown_lengths is None else store.num_unknown_bytes - lost
    assert 0 <= spaces <= sum(text.count(" ") for text in texts)  # before an unknown token stands its space
    assert bool(lost) == bool(store.num_unknown_bytes) == bool(store.unknown_summary) == bool(store.unknown_examples)
    covered, unknown = store.covered(np.arange(store.num_tokens))
    assert covered.sum() == store.num_bytes
    assert unknown.sum() == store.num_unknown_bytes
    assert (unknown <= covered).all()
    assert ((unknown < covered) | (covered == 0)).tolist() == asked or kind == "words"
    again = tokenize_texts(texts, tokenizer, cache=tmp_path)
    assert (again.num_unknown_bytes, again.unknown_examples) == (store.num_unknown_bytes, store.unknown_examples)


def byte_fallback():
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *string.ascii_letters]
    backend = Tokenizer(models.BPE({t: n for n, t in enumerate(tokens)}, [], unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return wrapped(backend, unk_token="<unk>")


@pytest.mark.parametrize("make", [lambda: load_tokenizer("byte"), byte_fallback])
def test_tokenizers_of_bytes_write_everything(make, tmp_path):
    store = tokenize_texts([MIXED, "我爱北京 हिन्दी 🙂\u200b\x01"], make(), cache=tmp_path)
    assert (store.num_unknown_bytes, store.unknown_lengths, store.unknown_summary) == (0, None, "")


def test_an_end_of_text_token_that_is_also_called_unknown_is_not(tmp_path):
    tokenizer = load_tokenizer("train:300", texts=[voice_text("keeper", 300)])
    tokenizer.unk_token = tokenizer.eos_token
    text = "one\n<|endoftext|>\ntwo\n<|endoftext|>\n" * 3
    fix_special_tokens("tokens", [text], tokenizer)
    assert tokenize_texts([text], tokenizer, cache=tmp_path).num_unknown_bytes == 0


def test_english_is_known_to_word_pieces_whatever_they_fold(tmp_path):
    text = voice_text("keeper", 800)
    tokenizer = load_tokenizer("train:600", texts=[text], with_mask=True)
    assert tokenize_texts([f"  {text}\n\n\t{text.upper()}  "], tokenizer, cache=tmp_path).num_unknown_bytes == 0


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """A model, little text of which is unknown, and its losses token by token from torch alone."""
    tokenizer = made("pairs")
    text = " ".join("plain words of a text ж" if n % 40 == 0 else "plain words of a text" for n in range(400))
    store = tokenize_texts([text], tokenizer, cache=tmp_path_factory.mktemp("tokens"))
    model = load_model("new:gpt2,n_layer=1,n_head=2,n_embd=16", vocab_size=len(tokenizer), max_positions=WINDOW).eval()
    rows = torch.tensor(store.ids[: store.num_tokens // WINDOW * WINDOW].astype(np.int64)).view(-1, WINDOW)
    with torch.no_grad():
        logits = model(input_ids=rows).logits[:, :-1]
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none").double()
    return model, store, nats, rows[:, 1:] == tokenizer.unk_token_id


def test_bits_per_byte_are_those_of_the_bytes_that_can_be_written(read):
    model, store, nats, unknown = read
    lengths = torch.tensor(store.byte_lengths[: unknown.shape[0] * WINDOW].astype(np.int64)).view(-1, WINDOW)[:, 1:]
    wanted = nats[~unknown].sum().item() / math.log(2) / lengths[~unknown].sum().item()
    found = held_out_loss(model, HeldOutWindows(store, WINDOW))
    assert 0 < found.unknown_share < MOST_UNKNOWN
    assert found.bits_per_byte == pytest.approx(wanted, rel=1e-5)
    assert found.targets.sum() == (~unknown).sum()
    assert found.unknown.sum() == lengths[unknown].sum()
    assert bits_per_byte(found).value == pytest.approx(wanted, rel=1e-5)
    total = window_losses(model, {"text": store}, WINDOW, max_windows=None)["text"].total()
    assert total.bits_per_byte == pytest.approx(wanted, rel=1e-5)
    assert (total.targets == found.targets).all()
    assert (total.unknown == found.unknown).all()


def test_above_the_limit_nothing_is_claimed(read, tmp_path):
    model, store, _, _ = read
    mostly = tokenize_texts(["plain ж ж words ж я " * 50], store.tokenizer, cache=tmp_path)
    found = held_out_loss(model, HeldOutWindows(mostly, WINDOW))
    assert found.unknown_share > MOST_UNKNOWN
    assert math.isnan(found.bits_per_byte)
    assert "bits/byte" not in str(found)
    assert f"{found.unknown_share:.0%}" in str(found)
    assert all(map(math.isnan, vars(bits_per_byte(found)).values()))
    assert all(map(math.isnan, vars(gain_in_bits(held_out_loss(model, HeldOutWindows(store, WINDOW)), found)).values()))
    nothing = HeldOutLoss(np.zeros(3), np.zeros(3, int), np.zeros(3, int), np.full(3, 9))
    assert math.isnan(nothing.nats_per_target)
    assert nothing.unknown_share == 1


def test_an_encoder_is_not_asked_for_what_is_unknown(tmp_path):
    tokenizer = load_tokenizer("train:300", texts=["plain words of a text " * 20], with_mask=True)
    store = tokenize_texts(["plain words ж of a text " * 40], tokenizer, cache=tmp_path)
    windows = HeldOutWindows(store, WINDOW, Masking(tokenizer, 0.9))
    labels = windows.rows(np.array([0]))["labels"]
    is_unknown = windows.covered_bytes(np.array([0]), labels).is_unknown
    assert is_unknown is not None
    assert is_unknown.any()
    assert (labels[is_unknown] == -100).all()  # a special token is never asked for
    assert tokenizer.unk_token_id not in labels.tolist()[0]
    model = load_model("new:bert,num_hidden_layers=1,hidden_size=16,num_attention_heads=1,intermediate_size=16",
                       task="masked-lm", vocab_size=len(tokenizer), max_positions=WINDOW)  # fmt: skip
    found = held_out_loss(model, HeldOutWindows(store, WINDOW, Masking(tokenizer)))
    assert found.unknown_share == pytest.approx(store.unknown_share, abs=0.03)
    assert math.isnan(found.bits_per_byte)
