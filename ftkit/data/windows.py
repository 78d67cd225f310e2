"""Windows of T tokens over one vector: random ones that are a pure function of (seed, index), and strided ones.

Window ``index`` of a seed is the same on one process or eight, today or after a resume, and on every platform.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ftkit.errors import DataError, ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = ["Masking", "RandomWindows", "StridedWindows", "coverage", "generator_at"]

MASK_64 = 2**64 - 1  # arithmetic of the counter-based generator is modulo 2**64
GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # the odd number nearest 2**64 divided by the golden ratio
HALF = np.uint64(32)
LOW_HALF = np.uint64(2**32 - 1)


class RandomWindows:
    """Windows of T tokens at random positions of a token vector; every position where a whole window fits can be drawn.

    Args:
        ids: Token ids, shape (num_tokens,), any unsigned or signed integer type; a memory map is not read into memory.
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


# Masks for encoders: which tokens of a window are asked for, and what stands in their place.
#
# What is masked in a row is a pure function of (seed, number of the row), like the windows themselves.


NOT_ASKED = -100  # torch's and transformers' label that counts nowhere


class Masking:
    """BERT's rule: of the tokens that are asked for, 80 % become the mask, 10 % a random token, 10 % stay.

    Every token that is not special is asked for with the same probability; a row in which none is gets one, so that
    no row goes without a target unless it holds special tokens only.

    Args:
        tokenizer: A tokenizer with a mask token; its [CLS] and [SEP] frame every row where it has them.
        share: Probability that a token is asked for, above 0 and at most 1.

    Raises:
        ModelError: The tokenizer has no mask token, or no token that is not special.
        DataError: A share outside its range.

    Source: Devlin et al. 2019, "BERT", section 3.1 and appendix A.1.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", share: float = 0.15) -> None:
        if tokenizer.mask_token_id is None:
            raise ModelError(
                "The tokenizer has no mask token, which an encoder learns by. Take the encoder's own tokenizer, or "
                "train:SIZE, which gives an encoder word pieces with [MASK]."
            )
        if not 0 < share <= 1:
            raise DataError(f"The share of tokens to ask for is {share}; it must be above 0 and at most 1.")
        self.share = share
        self.mask_id = int(tokenizer.mask_token_id)
        self.special_ids = np.array(sorted(tokenizer.all_special_ids), dtype=np.int64)
        self.ordinary_ids = np.setdiff1d(np.array([*tokenizer.get_vocab().values()], dtype=np.int64), self.special_ids)
        if not len(self.ordinary_ids):
            raise ModelError("The tokenizer has special tokens only. Take one with a vocabulary.")
        self.first = [] if tokenizer.cls_token_id is None else [int(tokenizer.cls_token_id)]
        self.last = [] if tokenizer.sep_token_id is None else [int(tokenizer.sep_token_id)]

    def text_tokens(self, window_tokens: int) -> int:
        """Tokens of text in a window of ``window_tokens``: those that frame it do not count.

        Raises:
            DataError: No room for text.
        """
        if (room := window_tokens - len(self.first) - len(self.last)) < 1:
            raise DataError(f"A window of {window_tokens} tokens has no room for text inside [CLS] and [SEP].")
        return room

    def rows(
        self, ids: "torch.Tensor", numbers: Sequence[int] | npt.NDArray[np.int64], seed: int
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Frame and mask windows.

        Args:
            ids: Tokens of text, int64 (B, n).
            numbers: Number of each row, (B,); with ``seed`` it decides what is masked in it.
            seed: Which sequence of masks.

        Returns:
            ``input_ids`` and ``labels``, both int64 (B, T) with T = n plus the frame; labels are -100 where nothing is
            asked.
        """
        import torch

        framed = np.array([[*self.first, *row, *self.last] for row in ids.numpy()], dtype=np.int64)
        draws = np.stack([_draws(seed, int(number), framed.shape[1]) for number in numbers], axis=1)
        asked = self._asked(framed, draws[0])
        random_ids = self.ordinary_ids[(draws[2] * len(self.ordinary_ids)).astype(np.int64)]
        shown = np.where(draws[1] < 0.8, self.mask_id, np.where(draws[1] < 0.9, random_ids, framed))
        inputs = np.where(asked, shown, framed)
        return torch.from_numpy(inputs), torch.from_numpy(np.where(asked, framed, NOT_ASKED))

    def _asked(self, framed: npt.NDArray[np.int64], draws: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which positions are asked for, (B, T)."""
        draws = np.where(np.isin(framed, self.special_ids), 2.0, draws)  # never below a share
        limits = np.maximum(self.share, np.nextafter(draws.min(1, keepdims=True), 1))  # the lowest draw is below it
        asked: npt.NDArray[np.bool_] = draws < np.minimum(limits, 1.0)
        return asked


def _draws(seed: int, number: int, count: int) -> npt.NDArray[np.float64]:
    """Three numbers in [0, 1) for each position of a row, (3, count), from a counter and not from a state."""
    return generator_at(seed, b"mask", number).random((3, count))
