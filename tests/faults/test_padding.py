"""Padding is where the mask says, never where a token happens to have the padding's id."""

import torch

from ftkit.data import load_tokenizer
from ftkit.models import load_model
from ftkit.training import ClassifiedTexts
from ftkit.training.datasets import pad_rows


def test_a_token_with_the_id_of_the_padding_is_a_token_and_padding_changes_no_score():
    model = load_model("new:bert", task="sequence-classification", labels=["a", "b"], seed=0, vocab_size=300).eval()
    short, long = [9, 256, 7, 256], [3, 4, 5, 6, 7, 8, 256]
    batch = pad_rows([short, long], 256)
    assert batch["attention_mask"].tolist() == [[1] * 4 + [0] * 3, [1] * 7]
    assert batch["input_ids"][0].tolist() == short + [256] * 3
    with torch.no_grad():
        together = model(**batch).logits
        for row, ids in enumerate((short, long)):
            alone = model(input_ids=torch.tensor([ids])).logits[0]
            assert torch.allclose(together[row], alone, atol=1e-6)
        without = model(input_ids=torch.tensor([short[:-1]])).logits[0]
    assert not torch.allclose(together[0], without, atol=1e-4)


def test_labels_and_rows_of_a_batch_belong_together():
    tokenizer = load_tokenizer("byte")
    texts, labels = ["a", "bbbbbb", "ccc", "dd"], [0, 1, 0, 1]
    source = ClassifiedTexts(texts, labels, tokenizer, max_tokens=16, batch_rows=4, seed=0)
    batch = source.rows(range(8))
    for ids, mask, label in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        assert labels[texts.index(tokenizer.decode(ids[mask.bool()], skip_special_tokens=True))] == int(label)
