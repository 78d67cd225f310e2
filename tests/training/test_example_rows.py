"""Rows of examples: padded by place, batched by length, the same after a resume; losses after a shared prefix."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ftkit.data import encode_examples, load_examples, load_tokenizer
from ftkit.models import load_model
from ftkit.training import NEXT_TOKEN, ExampleRows, HeldOutExamples, held_out_loss
from ftkit.training.objectives import loss_sums

PAIRS = [
    {"prompt": f"What is {'very ' * (n % 7)}number {n}?", "completion": f" It is {n}{' indeed' * (n % 5)}."}
    for n in range(60)
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer("byte")


@pytest.fixture(scope="module")
def encoded(tokenizer: Any) -> Any:
    return encode_examples(load_examples(PAIRS), tokenizer).rows


def test_a_row_is_the_same_whenever_it_is_asked_for(tokenizer: Any, encoded: Any) -> None:
    first, second = (ExampleRows(encoded, tokenizer, 4, seed=1) for _ in range(2))
    for start in (40, 0, 200):
        rows = [rows.rows(range(start, start + 4)) for rows in (first, second)]
        assert all(torch.equal(rows[0][name], rows[1][name]) for name in ("input_ids", "labels", "attention_mask"))
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != ExampleRows(encoded, tokenizer, 4, seed=2).fingerprint


def test_every_epoch_holds_every_example_once(tokenizer: Any, encoded: Any) -> None:
    rows = ExampleRows(encoded, tokenizer, 4, seed=1)
    size = 4 * 15  # a pool is as large as the text
    ids = [tuple(row[mask.bool()].tolist()) for start in range(0, size, 4)
           for row, mask in zip(*(rows.rows(range(start, start + 4))[n] for n in ("input_ids", "attention_mask")),
                                strict=True)]  # fmt: skip
    assert sorted(ids) == sorted(tuple(row.input_ids) for row in encoded)


def test_rows_of_a_batch_have_about_the_same_length(tokenizer: Any, encoded: Any) -> None:
    assert ExampleRows(encoded, tokenizer, 4, seed=0).amounts(4, 60)["filled_positions"] > 0.9


def test_labels_are_masked_by_place_where_the_pad_id_is_the_end(tokenizer: Any, encoded: Any) -> None:
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    batch = ExampleRows(encoded, tokenizer, 8, seed=0).rows(range(8))
    ends = (batch["labels"] == tokenizer.eos_token_id).sum(1)
    assert ends.tolist() == [1] * 8
    assert ((batch["labels"] == -100) | (batch["attention_mask"] == 1)).all()


def test_the_loss_of_a_batch_is_that_of_its_rows_alone(tokenizer: Any, encoded: Any) -> None:
    model = load_model("new:gpt2", seed=0, vocab_size=len(tokenizer), max_positions=128).eval()
    dataset = HeldOutExamples(encoded, tokenizer)
    batch = dataset.rows(np.arange(8))
    with torch.no_grad():
        (together,) = loss_sums(model, batch, NEXT_TOKEN)
        alone = torch.zeros(())
        for row in encoded[:8]:
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
            alone += F.cross_entropy(logits, torch.tensor(row.labels[1:]), reduction="sum", ignore_index=-100)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)
    assert NEXT_TOKEN.num_targets(batch) == sum(row.num_targets for row in encoded[:8])


def test_bytes_are_those_of_the_completions(tokenizer: Any, encoded: Any) -> None:
    model = load_model("new:gpt2", seed=0, vocab_size=len(tokenizer), max_positions=128)
    loss = held_out_loss(model, HeldOutExamples(encoded, tokenizer))
    assert loss.bytes.tolist() == [len(pair["completion"].encode()) for pair in PAIRS]
    assert loss.targets.tolist() == [len(pair["completion"].encode()) + 1 for pair in PAIRS]  # and the end


@pytest.mark.parametrize("family", ["new:ftkit_gpt2", "new:gpt2", "new:gpt_neo", "new:codegen", "stories260k"])
def test_losses_after_a_shared_prefix_are_those_of_whole_rows(
    family: str, tokenizer: Any, request: pytest.FixtureRequest
) -> None:
    if family == "stories260k":
        folder: Path = request.getfixturevalue("stories260k")
        own: Any = load_tokenizer(str(folder))
        model = load_model(str(folder))
    else:
        own, model = tokenizer, load_model(family, seed=0, vocab_size=len(tokenizer), max_positions=256)
    shots = "Say what it is. One is one. Two is two. "
    rows = encode_examples(load_examples([{**pair, "prompt": shots + pair["prompt"]} for pair in PAIRS[:20]]), own).rows
    whole, shared = HeldOutExamples(rows, own), HeldOutExamples(rows, own, shared_prefix=True)
    assert len(shared.prefix) > 10
    assert shared.longest_row + len(shared.prefix) == whole.longest_row
    losses = [held_out_loss(model, dataset, batch_rows=8) for dataset in (whole, shared)]
    np.testing.assert_allclose(losses[1].nats, losses[0].nats, rtol=1e-5)
    assert losses[0].targets.tolist() == losses[1].targets.tolist()
