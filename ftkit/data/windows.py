"""Windows of T tokens over one vector: random ones that are a pure function of (seed, index), and strided ones.

Window ``index`` of a seed is the same on one process or eight, today or after a resume, and on every platform.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ftkit.errors import DataError

if TYPE_CHECKING:
    import torch

__all__ = ["RandomWindows", "StridedWindows", "coverage", "generator_at"]

MASK_64 = 2**64 - 1
GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # the odd number nearest 2**64 divided by the golden ratio
HALF = np.uint64(32)
LOW_HALF = np.uint64(2**32 - 1)


class RandomWindows:
    """Windows that start anywhere in the vector, the last possible start included.

    Args:
        ids: Token ids, shape (num_tokens,), any unsigned or signed integer type; a memory map stays on disk.
        window_tokens: Tokens in a window, T.
        seed: Chooses the sequence of starts.

    Raises:
        DataError: The vector is shorter than a window.
    """

    def __init__(self, ids: npt.NDArray[Any], window_tokens: int, seed: int) -> None:
        _check_window(ids, window_tokens)
        self.ids = ids
        self.window_tokens = window_tokens
        self.seed = seed
        self.num_starts = len(ids) - window_tokens + 1

    def starts(self, indices: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """First token of each window, uniform over all starts.

        Args:
            indices: Numbers of windows, 0 or above, any shape. One number always gives the same start.

        Returns:
            Positions from 0 to ``num_starts`` - 1, int64, of the shape of ``indices``.

        Source:
            Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", the mixing function of
            splitmix64; Lemire 2019, "Fast random integer generation in an interval", for the map onto the interval.
        """
        counters = np.asarray(indices).astype(np.uint64)
        key = _mixed(np.array(self.seed & MASK_64, dtype=np.uint64) + GOLDEN_GAMMA)
        with np.errstate(over="ignore"):
            draws = _mixed(_mixed((counters + np.uint64(1)) * GOLDEN_GAMMA) ^ key)
        # The high 64 bits of draws * num_starts, in halves: the bias is num_starts / 2**64.
        count = np.uint64(self.num_starts)
        high = (draws >> HALF) * count + (((draws & LOW_HALF) * count) >> HALF)
        return (high >> HALF).astype(np.int64)

    def batch(self, indices: npt.ArrayLike) -> "torch.Tensor":
        """Token ids of some windows.

        Args:
            indices: Numbers of windows, shape (B,).

        Returns:
            LongTensor of shape (B, T).
        """
        return _gathered(self.ids, self.starts(indices), self.window_tokens)


class StridedWindows:
    """Windows at 0, stride, 2 * stride and so on, whole ones only.

    Args:
        ids: Token ids, shape (num_tokens,).
        window_tokens: Tokens in a window, T.
        stride: Tokens from one start to the next; ``None`` means T, windows that neither overlap nor leave gaps.

    Raises:
        DataError: The vector is shorter than a window, or the stride is below 1.
    """

    def __init__(self, ids: npt.NDArray[Any], window_tokens: int, stride: int | None = None) -> None:
        _check_window(ids, window_tokens)
        self.stride = window_tokens if stride is None else stride
        if self.stride < 1:
            raise DataError(f"The stride is {stride} tokens; give a whole number of at least 1.")
        self.ids = ids
        self.window_tokens = window_tokens
        self.starts: npt.NDArray[np.int64] = np.arange(0, len(ids) - window_tokens + 1, self.stride, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def num_left_out(self) -> int:
        """Tokens in no window: the rest after the last one, and the gaps if the stride is longer than a window."""
        return len(self.ids) - _num_covered(self.starts, self.window_tokens)

    def batch(self, indices: npt.ArrayLike) -> "torch.Tensor":
        """Token ids of some windows.

        Args:
            indices: Numbers of windows from 0 to ``len(self)`` - 1, shape (B,).

        Returns:
            LongTensor of shape (B, T).
        """
        return _gathered(self.ids, self.starts[np.asarray(indices)], self.window_tokens)


def generator_at(seed: int, purpose: bytes, index: int) -> np.random.Generator:
    """The generator of one row: a pure function of its arguments, with no state between rows.

    The starts of windows have a cheaper function of the same kind (``RandomWindows.starts``), which takes all rows at
    once; one number a row is all that they need.

    Args:
        seed: Which sequence of rows, 0 or above.
        purpose: At most eight bytes that keep the draws of different uses apart.
        index: Number of the row.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox).
    """
    return np.random.Generator(np.random.Philox(key=[seed, int.from_bytes(purpose)], counter=[0, 0, 0, index]))


def coverage(starts: npt.ArrayLike, window_tokens: int, num_tokens: int) -> float:
    """Share of the tokens that are in at least one window.

    Args:
        starts: First tokens of the windows, any order, repeats allowed.
        window_tokens: Tokens in a window.
        num_tokens: Tokens in the vector.

    Returns:
        A share from 0 to 1.
    """
    return _num_covered(np.asarray(starts, dtype=np.int64), window_tokens) / num_tokens


def _num_covered(starts: npt.NDArray[np.int64], window_tokens: int) -> int:
    distinct = np.unique(starts)
    if not len(distinct):
        return 0
    return int(np.minimum(np.diff(distinct), window_tokens).sum()) + window_tokens


def _check_window(ids: npt.NDArray[Any], window_tokens: int) -> None:
    if window_tokens < 1:
        raise DataError(f"A window of {window_tokens} tokens cannot be cut; give a whole number of at least 1.")
    if len(ids) < window_tokens:
        raise DataError(
            f"The text has {len(ids):,} tokens, fewer than one window of {window_tokens:,}. Give more text, or set "
            f"window_tokens to {len(ids):,} or less."
        )


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Splitmix64's finalizer: a one-to-one map of 64-bit numbers that leaves no visible order."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


def _gathered(ids: npt.NDArray[Any], starts: npt.NDArray[np.int64], window_tokens: int) -> "torch.Tensor":
    import torch

    positions = starts[:, None] + np.arange(window_tokens)
    return torch.from_numpy(ids[positions].astype(np.int64))
