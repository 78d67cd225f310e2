import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.data import RandomWindows, StridedWindows, coverage
from ftkit.errors import DataError

MASK = 2**64 - 1


def reference_start(seed: int, index: int, num_starts: int) -> int:
    """The documented generator once more, in Python's unbounded integers."""

    def mixed(value: int) -> int:
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB & MASK
        return value ^ (value >> 31)

    gamma = 0x9E3779B97F4A7C15
    draw = mixed(mixed((index + 1) * gamma & MASK) ^ mixed((seed & MASK) + gamma & MASK))
    return draw * num_starts >> 64


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.integers(-(2**63), 2**64 - 1), st.integers(0, 2**62), st.integers(1, 2**31))
def test_starts_equal_the_reference_in_exact_integers(seed: int, index: int, num_starts: int) -> None:
    windows = RandomWindows(np.zeros(1, dtype=np.uint16), 1, seed)
    windows.num_starts = num_starts
    assert int(windows.starts(np.array([index]))[0]) == reference_start(seed, index, num_starts)


def test_starts_are_a_pure_function_of_seed_and_index() -> None:
    windows = RandomWindows(np.arange(1000), 10, seed=7)
    forward = windows.starts(np.arange(500))
    backward = windows.starts(np.arange(500)[::-1])[::-1]
    one_by_one = np.array([int(windows.starts(index)) for index in range(500)])
    again = RandomWindows(np.arange(1000), 10, seed=7).starts(np.arange(500).reshape(50, 10)).ravel()
    assert np.array_equal(forward, backward)
    assert np.array_equal(forward, one_by_one)
    assert np.array_equal(forward, again)
    assert (RandomWindows(np.arange(1000), 10, seed=8).starts(np.arange(500)) != forward).mean() > 0.98


def test_known_starts_stay_as_they_were_published() -> None:
    starts = RandomWindows(np.arange(1_000_000), 128, seed=1).starts(np.arange(5))
    assert starts.tolist() == [reference_start(1, index, 999_873) for index in range(5)]
    assert starts.dtype == np.int64


@pytest.mark.parametrize("seed", [0, 1, 2, 2**63])
def test_starts_are_uniform_and_reach_the_last_one(seed: int) -> None:
    windows = RandomWindows(np.arange(59), 10, seed)
    counts = np.bincount(windows.starts(np.arange(50_000)), minlength=50)
    assert len(counts) == 50
    chi_square = float(((counts - 1000) ** 2 / 1000).sum())
    assert 20 < chi_square < 85.4  # 49 degrees of freedom: the 0.1 % points are 23.98 and 85.35
    assert counts[-1] > 0
    assert counts[0] > 0


def test_neighbouring_indices_and_seeds_are_uncorrelated() -> None:
    ids = np.arange(100_001)
    draws = np.stack([RandomWindows(ids, 2, seed).starts(np.arange(4096)) for seed in range(8)]).astype(float)
    assert abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 0.02
    assert np.abs(np.corrcoef(draws) - np.eye(8)).max() < 0.06


def test_batches_are_the_text_at_their_starts() -> None:
    ids = np.random.default_rng(0).integers(0, 60_000, 500).astype(np.uint16)
    windows = RandomWindows(ids, 16, seed=3)
    batch = windows.batch(np.arange(40))
    assert batch.shape == (40, 16)
    assert batch.dtype == torch.long
    for row, start in zip(batch, windows.starts(np.arange(40)), strict=True):
        assert row.tolist() == ids[start : start + 16].tolist()


def test_a_text_of_exactly_one_window_gives_that_window() -> None:
    windows = RandomWindows(np.arange(8, dtype=np.uint16), 8, seed=0)
    assert windows.batch(np.arange(3)).tolist() == [list(range(8))] * 3
    assert len(StridedWindows(np.arange(8), 8)) == 1


@pytest.mark.parametrize(
    "make", [lambda ids, size: RandomWindows(ids, size, 0), lambda ids, size: StridedWindows(ids, size)]
)
def test_a_text_shorter_than_a_window_is_refused_with_both_numbers(make: object) -> None:
    assert callable(make)
    with pytest.raises(DataError, match=r"9 tokens, fewer than one window of 10.*window_tokens to 9"):
        make(np.arange(9), 10)
    with pytest.raises(DataError, match="at least 1"):
        make(np.arange(9), 0)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 90))
def test_strided_windows_are_all_whole_windows(num_tokens: int, window_tokens: int, stride: int) -> None:
    ids = np.arange(num_tokens)
    if num_tokens < window_tokens:
        return
    windows = StridedWindows(ids, window_tokens, stride)
    expected = [list(range(at, at + window_tokens)) for at in range(0, num_tokens - window_tokens + 1, stride)]
    assert windows.batch(np.arange(len(windows))).tolist() == expected


def test_default_stride_neither_overlaps_nor_leaves_gaps() -> None:
    windows = StridedWindows(np.arange(107), 10)
    assert windows.starts.tolist() == list(range(0, 100, 10))
    with pytest.raises(DataError, match="stride is 0"):
        StridedWindows(np.arange(107), 10, 0)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.integers(1, 60), st.data())
def test_coverage_equals_a_count_by_hand(num_tokens: int, data: st.DataObject) -> None:
    window_tokens = data.draw(st.integers(1, num_tokens))
    starts = data.draw(st.lists(st.integers(0, num_tokens - window_tokens), max_size=20))
    seen = {token for start in starts for token in range(start, start + window_tokens)}
    assert coverage(np.array(starts, dtype=np.int64), window_tokens, num_tokens) == len(seen) / num_tokens
