"""Where the rows of a batch come from: pure functions of the row's number, on any process, today or resumed."""

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ftkit.data import Masking, RandomWindows, TokenStore, coverage, tokenizer_fingerprint
from ftkit.errors import DataError
from ftkit.training.objectives import Batch

__all__ = ["BatchSource", "ClassifiedTexts", "MaskedWindows", "RandomTokens", "TokenWindows"]


class BatchSource(Protocol):
    """Rows by number. Row ``i`` is the same whenever it is asked for."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that the rows depend on; a resumed run must find the same."""

    def rows(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """The rows of a micro-batch.

        Args:
            indices: Row numbers, [B].
        """


class TokenWindows:
    """Random windows of a token store, for language modelling.

    Args:
        store: The tokens.
        window_tokens: T, tokens in a window.
        seed: Which sequence of windows.
    """

    masking: Masking | None = None
    """What is asked for in a window; ``None``: each token after the first."""

    def __init__(self, store: TokenStore, window_tokens: int, seed: int) -> None:
        self.store = store
        self.windows = RandomWindows(store.ids, window_tokens, seed)
        self.fingerprint = hashlib.sha256(f"{store.sha256} {window_tokens} {seed}".encode()).hexdigest()

    @property
    def row_tokens(self) -> int:
        """Tokens of text in a row; what frames a masked window is not."""
        return self.windows.window_tokens

    @property
    def text_tokens(self) -> int:
        """Tokens of the text that rows are taken from."""
        return self.store.num_tokens

    def coverage(self, num_rows: int) -> float:
        """Share of the text's tokens that stand in at least one of the first ``num_rows`` windows."""
        return coverage(self.windows.starts(np.arange(num_rows)), self.windows.window_tokens, len(self.windows.ids))

    def rows(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Windows as ``input_ids`` and ``labels``, both int64 [B, T] and aligned."""
        input_ids_BT = self.windows.batch(np.asarray(indices))
        return {"input_ids": input_ids_BT, "labels": input_ids_BT}


class MaskedWindows(TokenWindows):
    """Random windows in which some tokens are hidden, for encoders; row ``i`` and its mask follow from (seed, i).

    Args:
        store: The tokens.
        window_tokens: T, tokens in a window, with [CLS] and [SEP] where the tokenizer has them.
        seed: Which sequence of windows and masks.
        tokenizer: The store's tokenizer, with a mask token.
        mask_share: Probability that a token is asked for.

    Raises:
        ModelError: The tokenizer has no mask token.
    """

    masking: Masking

    def __init__(
        self,
        store: TokenStore,
        window_tokens: int,
        seed: int,
        tokenizer: PreTrainedTokenizerFast,
        mask_share: float = 0.15,
    ) -> None:
        self.masking = Masking(tokenizer, mask_share)
        super().__init__(store, self.masking.text_tokens(window_tokens), seed)
        described = f"{self.fingerprint} {mask_share} {tokenizer_fingerprint(tokenizer)}"
        self.fingerprint = hashlib.sha256(described.encode()).hexdigest()

    def rows(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Windows as ``input_ids`` and ``labels``, both int64 [B, T]; labels are -100 where nothing is asked."""
        numbers = np.asarray(indices)
        input_ids_BT, labels_BT = self.masking.rows(self.windows.batch(numbers), numbers, self.windows.seed)
        return {"input_ids": input_ids_BT, "labels": labels_BT}


class RandomTokens:
    """Rows of tokens that mean nothing: each id is drawn evenly from those that the tokenizer has.

    For objectives that need no text (lessons 06/010 and 07/05). Row ``i`` follows from (seed, i).

    Args:
        tokenizer: Whose ids; rows of a model that it has no token for never come.
        window_tokens: T, tokens in a row.
        seed: Which sequence of rows.
    """

    masking: Masking | None = None
    text_tokens = 0
    """There is no text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, window_tokens: int, seed: int) -> None:
        self.ids = np.unique(np.array([*tokenizer.get_vocab().values()], dtype=np.int64))
        self.row_tokens, self.seed = window_tokens, seed
        described = f"random tokens {window_tokens} {seed} ".encode() + self.ids.tobytes()
        self.fingerprint = hashlib.sha256(described).hexdigest()

    def coverage(self, num_rows: int) -> float:
        """0: there is no text to see."""
        return 0.0

    def rows(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Rows as ``input_ids`` and ``labels``, both int64 [B, T] and aligned."""
        input_ids_BT = torch.from_numpy(np.stack([self._row(int(index)) for index in indices]))
        return {"input_ids": input_ids_BT, "labels": input_ids_BT}

    def _row(self, index: int) -> np.ndarray:
        bits = np.random.Philox(key=[self.seed, 0x746F6B656E], counter=[0, 0, 0, index])
        return self.ids[np.random.Generator(bits).integers(0, len(self.ids), size=self.row_tokens)]


class ClassifiedTexts:
    """Texts with classes, each class equally often, in batches of similar length.

    Row ``i`` belongs to class ``i mod C``; every class is gone through in its own shuffled order, again and again. Rows
    are sorted by length within pools of several batches, so that little is padded.

    Args:
        texts: The texts.
        labels: Class of each, from 0.
        tokenizer: The classifier's tokenizer; it adds its special tokens.
        max_tokens: Longer texts are cut here.
        batch_rows: Rows in a global batch; pools are multiples of it.
        seed: Which order.
    """

    _BATCHES_IN_POOL = 8

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[int],
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        batch_rows: int,
        seed: int,
    ) -> None:
        self.ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
        self.by_class = [np.flatnonzero(np.asarray(labels) == c) for c in range(max(labels) + 1)]
        if any(len(members) == 0 for members in self.by_class):
            raise DataError(f"a class has no texts: counts by class are {[len(members) for members in self.by_class]}")
        self.labels, self.seed, self.batch_rows = np.asarray(labels), seed, batch_rows
        self.tokenizer, self.pad_id = tokenizer, int(tokenizer.pad_token_id)
        self.fingerprint = hashlib.sha256(repr((self.ids, list(labels), batch_rows, seed)).encode()).hexdigest()
        self._pools: dict[int, np.ndarray] = {}
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def _drawn(self, row: int) -> int:
        """The text that row number ``row`` holds before rows are sorted by length."""
        number = row % len(self.by_class)
        members = self.by_class[number]
        visit, place = divmod(row // len(self.by_class), len(members))
        if (known := self._orders.get(number)) is None or known[0] != visit:
            order = np.random.default_rng([self.seed, number, visit]).permutation(len(members))
            known = self._orders[number] = (visit, order)
        return int(members[known[1][place]])

    def _pool(self, number: int) -> np.ndarray:
        """Texts of one pool: sorted by length, cut into batches, the batches shuffled."""
        if number not in self._pools:
            size = self.batch_rows * self._BATCHES_IN_POOL
            drawn = np.array([self._drawn(row) for row in range(number * size, (number + 1) * size)])
            by_length = drawn[np.argsort([len(self.ids[text]) for text in drawn], kind="stable")]
            order = np.random.default_rng([self.seed, number, 1 << 20]).permutation(self._BATCHES_IN_POOL)
            self._pools = {number: by_length.reshape(self._BATCHES_IN_POOL, self.batch_rows)[order].ravel()}
        return self._pools[number]

    def rows(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Padded ``input_ids`` and ``attention_mask`` [B, longest], and ``labels`` [B]."""
        size = self.batch_rows * self._BATCHES_IN_POOL
        chosen = [int(self._pool(int(i) // size)[int(i) % size]) for i in indices]
        return {
            **pad_rows([self.ids[text] for text in chosen], self.pad_id),
            "labels": torch.from_numpy(self.labels[chosen]).long(),
        }


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int) -> Batch:
    """Rows of different lengths as ``input_ids`` and ``attention_mask``, padded on the right.

    The mask comes from the lengths, not from the ids: a pad id inside a row is a token like any other.
    """
    longest = max(len(row) for row in rows)
    input_ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for place, row in enumerate(rows):
        input_ids[place, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[place, : len(row)] = 1
    return {"input_ids": input_ids, "attention_mask": mask}
