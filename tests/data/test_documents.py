"""Where documents end: one token between two of them, none lost, few cut, and an honest count of bits for a byte."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ftkit.data import Corpus, Document, StridedWindows, load_tokenizer, split_corpus, tokenize_texts, voice_text
from ftkit.evidence import bits_per_byte, cut_passages
from ftkit.jobs import Text, load_texts
from ftkit.models import load_model
from ftkit.training import HeldOutWindows, held_out_loss


def shelf(count: int, words: int = 60) -> Corpus:
    """Documents of different lengths that can be told apart."""
    texts = [f"Number {n}. {voice_text('market', words + 7 * (n % 5), seed=n)}" for n in range(count)]
    return Corpus("shelf", "shelf", tuple(Document(str(n), text) for n, text in enumerate(texts)))


@pytest.mark.parametrize("policy", ["tail", "head", "blocks"])
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_of_many_documents_none_is_cut_and_every_one_is_on_one_side(policy: str, share: float) -> None:
    corpus = shelf(200)
    split = split_corpus(corpus, policy=policy, heldout_share=share)
    whole = [document.text for document in corpus.documents]
    assert sorted([*split.train_documents, *split.heldout_documents]) == sorted(whole)
    assert not set(split.train_documents) & set(split.heldout_documents)
    size = sum(map(len, split.heldout_documents)) / sum(map(len, whole))
    assert size == pytest.approx(share, rel=0.25)


def test_of_few_long_documents_one_is_cut_between_paragraphs() -> None:
    texts = [voice_text("letters", 4_000), voice_text("keeper", 4_000)]
    corpus = Corpus("two", "two", tuple(Document(str(n), text) for n, text in enumerate(texts)))
    split = split_corpus(corpus, heldout_share=0.1)
    assert [len(part) for part in (split.train_documents, split.heldout_documents)] == [2, 1]
    assert split.train_documents[1] + split.heldout_documents[0] == texts[1]
    assert split.train_documents[1].endswith("\n\n")


@pytest.mark.parametrize("policy", ["tail", "head", "blocks"])
def test_a_single_document_is_divided_as_its_pieces(policy: str) -> None:
    corpus = Corpus("one", "one", (Document("one", voice_text("letters", 8_000)),))
    split = split_corpus(corpus, policy=policy)
    assert (split.train_documents, split.heldout_documents) == (split.train, split.heldout)


def test_between_documents_stands_one_end_of_text_on_both_sides(tmp_path: Path) -> None:
    for number, document in enumerate(shelf(40).documents):
        (tmp_path / f"{number:02}.txt").write_text(document.text)
    settings = type("S", (), {"encoding": "utf-8", "split": "tail", "heldout_share": 0.2, "seed": 0})
    text: Text = load_texts({"corpus": str(tmp_path)}, settings)["corpus"]
    tokenizer = load_tokenizer("byte")
    for documents in (text.train, text.heldout):
        store = tokenize_texts(documents, tokenizer)
        ends = np.flatnonzero(store.ids == tokenizer.eos_token_id)
        assert len(ends) == len(documents) - 1 > 5
        assert store.num_bytes == sum(len(document.encode()) for document in documents)
        assert store.num_tokens == store.num_bytes + len(ends)
        assert [tokenizer.decode(part[part != 256]) for part in np.split(store.ids, ends)] == documents
    assert len(text.train) + len(text.heldout) == 40


def test_bits_for_a_byte_count_the_end_of_a_document_and_no_byte_for_it() -> None:
    tokenizer, model = load_tokenizer("byte"), load_model("new:gpt2", seed=0, vocab_size=257).eval()
    store = tokenize_texts(["ab cd\n" * 4, "ef gh\n" * 4, "ij kl\n" * 4], tokenizer)
    assert store.num_tokens == 3 * 24 + 2
    windows, size = StridedWindows(store.ids, 37), 37
    assert len(windows) * size == store.num_tokens  # two windows, every token in one, an end in each
    nats, num_bytes = 0.0, 0
    for row in windows.batch([0, 1]):
        with torch.no_grad():
            shares = torch.log_softmax(model(row[None]).logits[0].double(), -1)
        nats -= sum(float(shares[place, row[place + 1]]) for place in range(size - 1))
        num_bytes += sum(1 for token in row[1:].tolist() if token != 256)
    assert num_bytes == 2 * 36 - 2
    found = bits_per_byte(held_out_loss(model, HeldOutWindows(store, size))).value
    assert found == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)


def test_passages_are_read_on_over_documents_too_short_for_one() -> None:
    short = [f"Note {n} is very short." for n in range(40)]
    passages = cut_passages(short, 100)
    assert len(passages) >= 8
    assert all(85 < len(passage) <= 100 for passage in passages)
    assert all(passage in " ".join(short) for passage in passages)
    long = voice_text("letters", 800)
    assert cut_passages([long, long], 300) == 2 * cut_passages([long], 300)
