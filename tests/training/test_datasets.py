"""A dataset of one's own trains and is evaluated through the public functions; windows count as before."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from conftest import settings, tiny

from ftkit.data import load_tokenizer
from ftkit.runs import RunFolder
from ftkit.training import (
    NEXT_TOKEN,
    CoveredBytes,
    Dataset,
    Engine,
    HeldOutDataset,
    HeldOutWindows,
    TokenWindows,
    held_out_loss,
    train_and_log,
)

PAIRS = [("one plus one is ", "two"), ("two plus two is ", "four"), ("one plus two is ", "three")]


def padded(indices: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
    """Prompts with completions, one byte a token; only the completion has labels."""
    ids, labels = torch.zeros(len(indices), 24, dtype=torch.long), torch.full((len(indices), 24), -100)
    for row, index in enumerate(indices):
        prompt, completion = (list(text.encode()) for text in PAIRS[index % len(PAIRS)])
        both = torch.tensor(prompt + completion)
        ids[row, : len(both)] = both
        labels[row, len(prompt) : len(both)] = both[len(prompt) :]
    return {"input_ids": ids, "labels": labels, "attention_mask": (ids > 0).long()}


class Sums(Dataset):
    """The pairs in turn, for ever."""

    fingerprint = "sums"
    epoch_size = len(PAIRS)

    def rows(self, indices: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        return padded(indices)


class HeldOutSums(HeldOutDataset):
    """The same pairs, once."""

    longest_row = 24
    tokenizer = load_tokenizer("byte")

    def __len__(self) -> int:
        return len(PAIRS)

    def rows(self, numbers: np.ndarray) -> dict[str, torch.Tensor]:
        return padded(numbers)

    def covered_bytes(self, numbers: np.ndarray, labels_BT: torch.Tensor) -> CoveredBytes:
        return CoveredBytes((labels_BT != -100).sum(1).numpy(), np.zeros(len(numbers)))


def test_a_dataset_of_ones_own_trains_and_is_evaluated(tmp_path):
    run_settings = settings(max_steps=6, learning_rate=1e-2, eval_steps=3)
    run, model, heldout = RunFolder(tmp_path, "toy", {}, is_main=True), tiny(), HeldOutSums()
    before = held_out_loss(model, heldout)
    with Engine(model, NEXT_TOKEN, Sums(), run_settings) as engine:
        records = list(train_and_log(engine, run, "toy", Sums(), heldout))
    after = held_out_loss(model, heldout)
    assert before.targets.tolist() == after.targets.tolist() == [3, 4, 5]
    assert before.bits_per_byte == pytest.approx(before.nats_per_target / math.log(2))
    assert after.nats_per_target < before.nats_per_target - 1
    assert records[-1].num_targets == sum((3, 4, 5)[row % 3] for row in range(5 * 8, 6 * 8))
    looks = [record["loss"] for record in run.records("metrics.jsonl") if record["split"] == "heldout"]
    assert looks == [pytest.approx(before.nats_per_target), looks[1], pytest.approx(after.nats_per_target)]
    assert run.manifest["plan"]["toy"]["passes"] == pytest.approx(6 * 8 / 3)


def test_losses_of_padded_rows_are_those_of_each_row_alone():
    model, heldout = tiny(), HeldOutSums()
    together = held_out_loss(model, heldout)
    alone = held_out_loss(model, heldout, batch_rows=1)
    assert np.allclose(together.nats, alone.nats, atol=1e-5)
    for number, nats in enumerate(alone.nats):
        prompt, completion = (list(text.encode()) for text in PAIRS[number])
        with torch.inference_mode():
            log_p = model.eval()(input_ids=torch.tensor([prompt + completion])).logits.log_softmax(-1)[0]
        places = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
        expected = -sum(float(log_p[place, token]) for place, token in zip(places, completion, strict=True))
        assert nats == pytest.approx(expected, abs=1e-4)


def test_windows_cover_the_bytes_of_all_tokens_but_the_first(store):
    windows = HeldOutWindows(store, 32)
    numbers = windows.spread(None)
    assert len(numbers) == len(windows) == store.num_tokens // 32
    assert windows.spread(3).tolist() == [0, round((len(windows) - 1) / 2), len(windows) - 1]
    covered = windows.covered_bytes(numbers, windows.rows(numbers)["labels"])
    lengths = np.asarray(store.byte_lengths[: 32 * len(windows)], dtype=int).reshape(-1, 32)
    assert covered.known.tolist() == lengths[:, 1:].sum(1).tolist()
    assert windows.num_bytes == store.num_bytes
    assert TokenWindows(store, 32, 0).amounts(8, 4)["tokens"] == 8 * 32 * 4
