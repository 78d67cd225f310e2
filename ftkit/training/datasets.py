"""Datasets: rows of input ids and labels by number, pure functions of the row's number on any process, now or resumed.

``Dataset`` is what a training takes. Windows of a text, masked windows, random tokens and classified texts implement
it; prompts with completions belong here too. ``HeldOutDataset`` is what an evaluation takes: a fixed number of rows,
whose bytes of text are known. A class with these members can be trained on and evaluated.

Shapes: B rows, T tokens, n tokens of text.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ftkit.data import (
    EncodedExample,
    Masking,
    RandomWindows,
    StridedWindows,
    TokenStore,
    coverage,
    tokenizer_fingerprint,
)
from ftkit.data.windows import generator_at
from ftkit.errors import DataError
from ftkit.training.objectives import IGNORED, Batch

__all__ = [
    "ClassifiedTexts",
    "CoveredBytes",
    "Dataset",
    "ExampleRows",
    "HeldOutDataset",
    "HeldOutExamples",
    "HeldOutTexts",
    "HeldOutWindows",
    "MaskedWindows",
    "RandomTokens",
    "TokenWindows",
    "pad_examples",
    "pad_rows",
]


class Dataset(Protocol):
    """Rows to learn from, by number and without end. Row ``i`` is the same whenever it is asked for.

    A subclass has defaults for all members but ``fingerprint`` and ``rows``.
    """

    @property
    def fingerprint(self) -> str:
        """Hash of everything that the rows depend on; a resumed run must find the same."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer that made the rows, where it is known."""
        return None

    @property
    def text_ids(self) -> np.ndarray | None:
        """All tokens of the text behind the rows, where there is one."""
        return None

    @property
    def row_size(self) -> int:
        """What a row counts for in an epoch: its tokens of text, or 1 where rows are whole texts."""
        return 1

    @property
    def epoch_size(self) -> int:
        """What an epoch consists of, in the unit of ``row_size``; 0 where there is no text."""
        return 0

    @property
    def num_classes(self) -> int | None:
        """C, where a row has one class as its label; ``None`` where each token may have a label."""
        return None

    def rows(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """The rows of a micro-batch: ``input_ids``, ``labels`` and, where rows differ in length, ``attention_mask``.

        Args:
            indices: Row numbers, [B].
        """

    def amounts(self, num_rows: int, steps: int) -> dict[str, Any]:
        """Return how much data ``steps`` steps of ``num_rows`` rows read (tokens, epochs), for the training plan."""
        return _text_amounts(self, num_rows, steps, 0.0)


class CoveredBytes(NamedTuple):
    """Bytes of text that the targets of some rows cover."""

    known: np.ndarray
    """Those that the tokenizer can write, int64 [B]."""
    unknown: np.ndarray
    """Those that it cannot write, [B]."""
    is_unknown: torch.Tensor | None = None
    """Labels that are unknown tokens and count nowhere, bool [B, T]; ``None`` where there are none."""


def spread_rows(numbers: np.ndarray, most: int | None) -> np.ndarray:
    """At most so many of some rows, spread evenly; ``None`` takes all."""
    count = len(numbers) if most is None else min(most, len(numbers))
    return numbers[np.linspace(0, len(numbers) - 1, count).round().astype(np.int64)]


class HeldOutDataset(ABC):
    """A fixed number of rows to evaluate a language model on."""

    causal = True
    """How each label, aligned with ``input_ids``, is predicted. ``True``: from the tokens before it (causal).
    ``False``: at its own position, from both sides (masked)."""
    tokenizer: PreTrainedTokenizerBase | None = None
    longest_row: int
    """Tokens of the longest row; decides how many go through the model at once."""
    prefix: Sequence[int] = ()
    """Tokens that stand before every row and are not part of it; they go through the model once."""
    num_bytes = 0
    """Length of the whole text in bytes of UTF-8."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def rows(self, numbers: np.ndarray) -> Batch:
        """Rows by number [B]: ``input_ids``, ``labels`` [B, T], -100 where nothing is asked, perhaps a mask."""

    @abstractmethod
    def covered_bytes(self, numbers: np.ndarray, labels_BT: torch.Tensor) -> CoveredBytes:
        """The bytes that the labels of these rows cover.

        Args:
            numbers: Row numbers, [B].
            labels_BT: Their labels, as ``rows`` returned them.
        """

    def spread(self, most: int | None) -> np.ndarray:
        """Numbers of at most so many rows, spread evenly; ``None`` takes all."""
        return spread_rows(np.arange(len(self)), most)


class HeldOutWindows(HeldOutDataset):
    """Windows of a text that neither overlap nor leave gaps.

    Args:
        store: The held-out tokens and the bytes that each covers.
        window_tokens: T, tokens in a window, with [CLS] and [SEP] where masked windows have them. Without masking the
            first of each is not a target.
        masking: Hides some tokens of each window for an encoder, the same in every evaluation; ``None`` asks for the
            next token.
    """

    def __init__(self, store: TokenStore, window_tokens: int, masking: Masking | None = None) -> None:
        self.store, self.masking, self.causal = store, masking, masking is None
        self._text_tokens = masking.text_tokens(window_tokens) if masking else window_tokens
        self._windows = StridedWindows(store.ids, self._text_tokens, self._text_tokens)
        self.tokenizer, self.num_bytes, self.longest_row = store.tokenizer, store.num_bytes, window_tokens

    def __len__(self) -> int:
        return len(self._windows)

    def rows(self, numbers: np.ndarray) -> Batch:
        """Windows as ``input_ids`` and ``labels``, both int64 [B, T]."""
        ids_Bn = self._windows.batch(numbers)
        inputs_BT, labels_BT = self.masking.rows(ids_Bn, numbers, seed=0) if self.masking else (ids_Bn, ids_Bn)
        return {"input_ids": inputs_BT, "labels": labels_BT}

    def covered_bytes(self, numbers: np.ndarray, labels_BT: torch.Tensor) -> CoveredBytes:
        """Bytes of the tokens that are asked for; tokens that are wholly unknown are no targets."""
        starts_B1 = self._windows.starts[numbers, None]
        covered_Bn, unknown_Bn = self.store.covered(starts_B1 + np.arange(self._text_tokens))
        whole_Bn = (unknown_Bn > 0) & (unknown_Bn == covered_Bn)
        before = len(self.masking.first) if self.masking else 0
        text = slice(before, before + self._text_tokens)
        asked_Bn = (labels_BT != IGNORED).numpy()[:, text].copy()
        if self.masking is None:
            asked_Bn[:, 0] = False
            chance_Bn: np.ndarray = asked_Bn
        else:
            # A mask is never put over a special token, so of unknown ones as many count as would have been asked.
            share_B1 = asked_Bn.sum(1, keepdims=True) / np.maximum((~whole_Bn).sum(1, keepdims=True), 1)
            chance_Bn = np.maximum(asked_Bn, whole_Bn * share_B1)
        is_unknown_BT = torch.zeros(labels_BT.shape, dtype=torch.bool)
        is_unknown_BT[:, text] = torch.from_numpy(whole_Bn)
        known = ((covered_Bn - unknown_Bn) * asked_Bn).sum(1)
        return CoveredBytes(known, (unknown_Bn * chance_Bn).sum(1), is_unknown_BT)


def _text_amounts(dataset: Dataset, num_rows: int, steps: int, seen: float) -> dict[str, Any]:
    """Tokens of the text, of a step and in all, epochs, and the share of the text that is seen at least once."""
    step_tokens = num_rows * dataset.row_size
    return {
        "text_tokens": dataset.epoch_size,
        "step_tokens": step_tokens,
        "steps": steps,
        "tokens": step_tokens * steps,
        "passes": step_tokens * steps / dataset.epoch_size if dataset.epoch_size else 0.0,
        "coverage": seen,
    }


class TokenWindows:
    """Random windows of a token store, for language modelling.

    Args:
        store: The tokens.
        window_tokens: T, tokens in a window.
        seed: Which sequence of windows.
    """

    num_classes = None

    def __init__(self, store: TokenStore, window_tokens: int, seed: int) -> None:
        self.store, self.tokenizer, self.text_ids = store, store.tokenizer, store.ids
        self.windows = RandomWindows(store.ids, window_tokens, seed)
        self.fingerprint = hashlib.sha256(f"{store.sha256} {window_tokens} {seed}".encode()).hexdigest()

    @property
    def row_size(self) -> int:
        """Tokens of text in a row, without the special tokens around a masked window."""
        return self.windows.window_tokens

    @property
    def epoch_size(self) -> int:
        """Tokens of the text that rows are taken from."""
        return self.store.num_tokens

    def amounts(self, num_rows: int, steps: int) -> dict[str, Any]:
        """Tokens, epochs and the share of the text that is seen."""
        return _text_amounts(self, num_rows, steps, self.coverage(num_rows * steps))

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
        tokenizer: Ids are drawn from its vocabulary; ids beyond it (unused embedding rows) never occur.
        window_tokens: T, tokens in a row.
        seed: Which sequence of rows.
    """

    epoch_size = 0
    num_classes = text_ids = None

    def __init__(self, tokenizer: PreTrainedTokenizerBase, window_tokens: int, seed: int) -> None:
        self.ids = np.unique(np.array([*tokenizer.get_vocab().values()], dtype=np.int64))
        self.tokenizer, self.row_size, self.seed = tokenizer, window_tokens, seed
        described = f"random tokens {window_tokens} {seed} ".encode() + self.ids.tobytes()
        self.fingerprint = hashlib.sha256(described).hexdigest()

    def amounts(self, num_rows: int, steps: int) -> dict[str, Any]:
        """Tokens; no epochs, because there is no text."""
        return _text_amounts(self, num_rows, steps, 0.0)

    def rows(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Rows as ``input_ids`` and ``labels``, both int64 [B, T] and aligned."""
        input_ids_BT = torch.from_numpy(np.stack([self._row(int(index)) for index in indices]))
        return {"input_ids": input_ids_BT, "labels": input_ids_BT}

    def _row(self, index: int) -> np.ndarray:
        return self.ids[generator_at(self.seed, b"token", index).integers(0, len(self.ids), size=self.row_size)]


_BATCHES_IN_POOL = 8
"""Batches of classified texts that are sorted by length together; recorded numbers rest on it."""
_EXAMPLE_BATCHES_IN_POOL = 32
"""Batches of examples likewise: of 2,700 examples of GSM8K in batches of 4, 98 % of the positions then hold a token (8
batches: 93 %; unsorted: 74 %)."""


class _LengthPools:
    """An order of rows in which those of a batch have about the same length.

    Rows are drawn in pools of several batches; a pool is sorted by length and cut into batches, which are shuffled.

    Args:
        lengths: Tokens of each item.
        batch_rows: Rows in a global batch.
        batches: Batches in a pool.
        seed: Which order.
    """

    def __init__(self, lengths: Sequence[int], batch_rows: int, batches: int, seed: int) -> None:
        self.lengths, self.batch_rows, self.batches, self.seed = lengths, batch_rows, batches, seed
        self._pools: dict[int, np.ndarray] = {}

    def item(self, row: int, drawn: Callable[[int], int]) -> int:
        """The item that a row holds.

        Args:
            row: Number of the row.
            drawn: The item that a row holds before rows are sorted by length.
        """
        number, place = divmod(row, self.batch_rows * self.batches)
        return int(self._pool(number, drawn)[place])

    def _pool(self, number: int, drawn: Callable[[int], int]) -> np.ndarray:
        if number not in self._pools:
            size = self.batch_rows * self.batches
            items = np.array([drawn(row) for row in range(number * size, (number + 1) * size)])
            by_length = items[np.argsort([self.lengths[item] for item in items], kind="stable")]
            order = np.random.default_rng([self.seed, number, 1 << 20]).permutation(self.batches)
            self._pools = {number: by_length.reshape(self.batches, self.batch_rows)[order].ravel()}
        return self._pools[number]


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

    row_size = 1
    text_ids = None

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
        counts = [len(members) for members in self.by_class]
        if 0 in counts:
            raise DataError(f"class {counts.index(0)} has no texts; texts of each class from 0 on: {counts}")
        self.labels, self.seed, self.batch_rows = np.asarray(labels), seed, batch_rows
        self.tokenizer, self.pad_id = tokenizer, int(tokenizer.pad_token_id)
        self.epoch_size, self.num_classes = len(self.ids), len(self.by_class)
        self.fingerprint = hashlib.sha256(repr((self.ids, list(labels), batch_rows, seed)).encode()).hexdigest()
        self._pools = _LengthPools(list(map(len, self.ids)), batch_rows, _BATCHES_IN_POOL, seed)
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

    def rows(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Padded ``input_ids`` and ``attention_mask`` [B, longest], and ``labels`` [B]."""
        chosen = [self._pools.item(int(i), self._drawn) for i in indices]
        return {
            **pad_rows([self.ids[text] for text in chosen], self.pad_id),
            "labels": torch.from_numpy(self.labels[chosen]).long(),
        }

    def amounts(self, num_rows: int, steps: int) -> dict[str, Any]:
        """Texts and epochs."""
        total = self.epoch_size
        return {"texts": total, "step_texts": num_rows, "steps": steps, "passes": num_rows * steps / total}


class ExampleRows:
    """Prompts with completions; labels are -100 where nothing is asked.

    All examples are gone through in a shuffled order, again and again; those of a batch have about the same length. A
    loss is the mean over the targets of the whole batch, padded or accumulated, on one process or several.

    Args:
        encoded: The examples in tokens.
        tokenizer: The tokenizer that made them.
        batch_rows: Rows in a global batch.
        seed: Which order.
    """

    num_classes = text_ids = None
    row_size = 1

    def __init__(
        self, encoded: Sequence[EncodedExample], tokenizer: PreTrainedTokenizerBase, batch_rows: int, seed: int
    ) -> None:
        self.encoded, self.tokenizer, self.seed = encoded, tokenizer, seed
        self.epoch_size, self.pad_id = len(encoded), _pad_id(tokenizer)
        lengths = [len(example.input_ids) for example in encoded]
        # Pools larger than the text would only mix epochs.
        batches = max(1, min(_EXAMPLE_BATCHES_IN_POOL, len(encoded) // batch_rows))
        self._pools = _LengthPools(lengths, batch_rows, batches, seed)
        self._order: tuple[int, np.ndarray] = (-1, np.arange(0))
        described = repr(([(row.input_ids, row.labels) for row in encoded], batch_rows, seed)).encode()
        self.fingerprint = hashlib.sha256(described).hexdigest()

    def _drawn(self, row: int) -> int:
        """The example that a row holds before rows are sorted by length."""
        epoch, place = divmod(row, len(self.encoded))
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.encoded))
        return int(self._order[1][place])

    def rows(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Padded ``input_ids``, ``attention_mask`` and ``labels``, all int64 [B, longest]."""
        return pad_examples([self.encoded[self._pools.item(int(i), self._drawn)] for i in indices], self.pad_id)

    def amounts(self, num_rows: int, steps: int) -> dict[str, Any]:
        """Examples, epochs, targets, and the share of the computed positions that hold a token."""
        sampled = min(num_rows * steps, 4096)
        lengths = [
            [len(self.encoded[self._pools.item(row, self._drawn)].input_ids) for row in range(first, first + num_rows)]
            for first in range(0, sampled - sampled % num_rows, num_rows)
        ]
        computed = sum(max(batch) * len(batch) for batch in lengths)
        return {
            "examples": self.epoch_size,
            "step_examples": num_rows,
            "steps": steps,
            "passes": num_rows * steps / self.epoch_size,
            "targets": sum(row.num_targets for row in self.encoded),
            "filled_positions": sum(map(sum, lengths)) / computed if computed else 1.0,
        }


class HeldOutExamples(HeldOutDataset):
    """Examples that are never trained on, to evaluate a language model on their completions.

    Args:
        encoded: The examples in tokens.
        tokenizer: The tokenizer that made them.
        shared_prefix: Whether what all rows begin with goes through a model once: examples in a prompt.
    """

    def __init__(
        self, encoded: Sequence[EncodedExample], tokenizer: PreTrainedTokenizerBase, *, shared_prefix: bool = False
    ) -> None:
        self.encoded, self.tokenizer, self.pad_id = encoded, tokenizer, _pad_id(tokenizer)
        self.prefix = _shared_prefix(encoded) if shared_prefix else []
        self.longest_row = max(len(row.input_ids) for row in encoded) - len(self.prefix)
        self.num_bytes = sum(row.target_bytes for row in encoded)

    def __len__(self) -> int:
        return len(self.encoded)

    def rows(self, numbers: np.ndarray) -> Batch:
        """Padded ``input_ids``, ``attention_mask`` and ``labels``, all int64 [B, longest], without ``prefix``."""
        return pad_examples([self.encoded[number] for number in numbers], self.pad_id, len(self.prefix))

    def covered_bytes(self, numbers: np.ndarray, labels_BT: torch.Tensor) -> CoveredBytes:
        """Bytes of the completions; the token that ends one covers none."""
        known = np.array([self.encoded[number].target_bytes for number in numbers])
        return CoveredBytes(known * (labels_BT != IGNORED).any(1).numpy(), np.zeros(len(numbers)))


class HeldOutTexts(HeldOutDataset):
    """Whole texts, each read on its own; the first token of each is given.

    Args:
        stores: Each text in tokens.
        most: Tokens of a text that are read at most; ``None`` for all.
    """

    def __init__(self, stores: Sequence[TokenStore], most: int | None = None) -> None:
        self.stores, self.tokenizer = stores, stores[0].tokenizer if stores else None
        self._ids = [np.asarray(store.ids)[:most].tolist() for store in stores]
        self.longest_row = max(map(len, self._ids), default=1)
        self.num_bytes = sum(store.num_bytes for store in stores)

    def __len__(self) -> int:
        return len(self.stores)

    def rows(self, numbers: np.ndarray) -> Batch:
        """Padded ``input_ids``, ``attention_mask`` and ``labels``, all int64 [B, longest]."""
        batch = pad_rows([self._ids[number] for number in numbers], pad_id=0)
        return batch | {"labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)}

    def covered_bytes(self, numbers: np.ndarray, labels_BT: torch.Tensor) -> CoveredBytes:
        """Bytes of all tokens but the first; tokens that are wholly unknown are no targets."""
        known, unknown = np.zeros(len(numbers), dtype=np.int64), np.zeros(len(numbers), dtype=np.int64)
        is_unknown_BT = torch.zeros(labels_BT.shape, dtype=torch.bool)
        for place, number in enumerate(numbers):
            covered, lost = self.stores[number].covered(np.arange(1, len(self._ids[number])))
            known[place], unknown[place] = (covered - lost).sum(), lost.sum()
            is_unknown_BT[place, 1 : 1 + len(lost)] = torch.from_numpy((lost > 0) & (lost == covered))
        return CoveredBytes(known, unknown, is_unknown_BT)


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What fills rows; it is masked by its place, so any id will do."""
    for found in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if found is not None:
            return int(found)
    return 0


def _shared_prefix(encoded: Sequence[EncodedExample]) -> list[int]:
    """The tokens that all rows begin with, up to the last one before any target."""
    asked = min(next((n for n, label in enumerate(row.labels) if label != IGNORED), 1) for row in encoded)
    first = encoded[0].input_ids
    length = 0
    while length < asked - 1 and all(row.input_ids[length] == first[length] for row in encoded):
        length += 1
    return first[:length]


def pad_examples(examples: Sequence[EncodedExample], pad_id: int, skip: int = 0) -> Batch:
    """Examples as ``input_ids``, ``attention_mask`` and ``labels`` [B, longest], padded on the right.

    Args:
        examples: The rows.
        pad_id: What fills them.
        skip: Tokens at the beginning that are left out.
    """
    batch = pad_rows([example.input_ids[skip:] for example in examples], pad_id)
    labels_BT = torch.full_like(batch["input_ids"], IGNORED)
    for place, example in enumerate(examples):
        labels_BT[place, : len(example.labels) - skip] = torch.tensor(example.labels[skip:])
    return batch | {"labels": labels_BT}


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
