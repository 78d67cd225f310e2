"""Masks for encoders: which tokens of a window are asked for, and what stands in their place.

What is masked in a row is a pure function of (seed, number of the row), like the windows themselves.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ftkit.data.windows import generator_at
from ftkit.errors import DataError, ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = ["Masking"]

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
