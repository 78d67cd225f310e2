"""Passages of a model for judging, all written under one protocol.

A passage is a function of model, settings, seed and number alone: it draws with the other 31 of its block, and where
more than one block is asked for, three are decoded together, always whole. Asking for more extends what is there. (The
passages of one block alone are the same but for the last digits of logits, which follow from the width of a batch.)

    number   0, 2, 4, ...   after words of held-out text: everything but copying is measured on them
    number   1, 3, 5, ...   after words of training text: copying is measured on them
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count as numbers_from
from typing import Any, Self

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.data import TokenStore
from ftkit.data.tokenizers import reads_tokens
from ftkit.data.words import count_words
from ftkit.errors import ConfigError
from ftkit.evidence.texts import fit_passage, last_words, prompted_passages, prompts_of, spread_evenly
from ftkit.generation import Sampling, generate_passages
from ftkit.generation.decoder import can_decode
from ftkit.models import usable_positions
from ftkit.runs.planner import planner

__all__ = [
    "BLOCK", "PassageWriter", "Written", "as_evidence", "kept_bytes", "longest_passage", "prompt_room", "rows_together",
]  # fmt: skip

_logger = logging.getLogger("ftkit.evidence")
BLOCK = 32
"""Passages that draw from one seed."""
_TOGETHER = 3
"""Blocks that are decoded together, the first look: 96 rows take 0.57 of the time of three times 32 (SmolLM2-135M, one
thread), because every product reads all weights once."""
_MOST_KEPT = 1 << 30
"""Bytes of keys and values that passages may keep while they are decoded; where three blocks need more, one is decoded
at a time."""
_PROMPT_WORDS = 8
"""Words before a passage: enough for a model to recognize text that it has memorized, few beside a passage."""
_PROMPT_SHARE = 4
"""A prompt takes at most one position of so many where the length of a passage follows from the model."""
_MEASURED_PROMPTS = 64
"""Prompts of each kind whose tokens are counted to choose the number of words: a second even with a slow tokenizer."""
_GOLDEN = 0.618
"""Steps of this share of a text visit its passages so that every beginning of the order is spread over all of it."""
_TIMED = 1, 9
"""Tokens of passages that are written where a run is only planned: what the second has more is the time of a token."""
_WORTH_SAYING = 60
"""Passages; fewer take seconds."""
_ENDS = 4
"""Tokens for the words at both ends that are cut away."""
_SPARE = 1.2
"""New tokens beyond the mean rate: a model may prefer shorter tokens than real text has."""

Store = Callable[[range, Callable[[], list[str]]], list[str]]
"""Gives passages by their numbers, from a cache or from the function that makes them."""


def longest_passage(tokens: int, text: TokenStore) -> int:
    """Return the characters of the longest passage that so many tokens are sure to hold.

    Args:
        tokens: Tokens that a model can write.
        text: Real text, for the length of its tokens.
    """
    return max(int((tokens - _ENDS) * text.num_bytes / max(text.num_tokens, 1) / _SPARE + 1e-9), 0)


def prompt_room(positions: int, texts: Sequence[str], tokens: int) -> int:
    """Return the positions that are left free for a prompt where the length of a passage follows from the model.

    Args:
        positions: Of the model.
        texts: Real text.
        tokens: Its number of tokens.
    """
    each = tokens / max(sum(map(count_words, texts)), 1)
    return max(min(math.ceil(_PROMPT_WORDS * each * _SPARE), positions // _PROMPT_SHARE), 1)


def kept_bytes(config: Any, tokens: int, itemsize: int) -> int:
    """Return the bytes of keys and values of one passage.

    Args:
        config: Configuration of a causal language model.
        tokens: Length of the passage.
        itemsize: Bytes of a number.
    """
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * tokens * itemsize)


def rows_together(kept: int) -> int:
    """Return how many passages are decoded together where more than one block is asked for.

    Args:
        kept: Bytes of keys and values of one of them.
    """
    return _TOGETHER * BLOCK if _TOGETHER * BLOCK * kept <= _MOST_KEPT else BLOCK


@dataclass(frozen=True)
class Written:
    """Passages of one model; both are empty for an encoder, which writes none."""

    heldout: Sequence[str] = ()
    """After words of held-out text."""
    training: Sequence[str] = ()
    """After words of training text; empty where there are no such prompts."""


def keep_blocks() -> Store:
    """A store in memory, so that more passages of one model do not write the first ones again."""
    kept: dict[range, list[str]] = {}

    def stored(numbers: range, make: Callable[[], list[str]]) -> list[str]:
        if numbers not in kept:
            kept[numbers] = make()
        return kept[numbers]

    return stored


def as_evidence(written: Mapping[str, Written]) -> dict[str, Any]:
    """Passages for ``evidence.json``.

    Args:
        written: By model; under ``base model`` those of the base.
    """
    return {
        "passages": {name: list(each.heldout) for name, each in written.items()},
        "recited": {name: list(each.training) for name, each in written.items()},
    }


@dataclass(frozen=True)
class PassageWriter:
    """Lets models write passages of one length after the same prompts, so that only the model differs.

    Args:
        tokenizer: The models' tokenizer.
        text: Real text, for the length of its tokens.
        characters: Length of a passage.
        sampling: How tokens are drawn.
        heldout_prompts: Words before passages of held-out text. A prompt is not part of a passage.
        training_prompts: The same of training text.
        prompt_words: Words of a prompt that are used, its last ones.
        prompt_tokens: Tokens of a prompt at most; ``None`` for any number.
    """

    tokenizer: PreTrainedTokenizerBase
    text: TokenStore
    characters: int
    sampling: Sampling
    heldout_prompts: Sequence[str] = ("",)
    training_prompts: Sequence[str] = ("",)
    prompt_words: int = _PROMPT_WORDS
    prompt_tokens: int | None = None

    @classmethod
    def after(
        cls, text: TokenStore, heldout: Sequence[str], train: Sequence[str], characters: int, sampling: Sampling
    ) -> Self:
        """Make a writer with the prompts of a text.

        Args:
            text: Held-out text in tokens.
            heldout: The same as it is.
            train: Training text; without any its prompts are those of the held-out text.
            characters: Length of a passage.
            sampling: How tokens are drawn.
        """
        assert text.tokenizer is not None
        prompts = prompts_of(heldout, characters, _PROMPT_WORDS)
        of_training = prompts_of(train, characters, _PROMPT_WORDS) if any(train) else prompts
        return cls(text.tokenizer, text, characters, sampling, prompts, of_training)

    @property
    def new_tokens(self) -> int:
        """Tokens to generate so that a passage is long enough, from the tokens that real text needs."""
        return math.ceil(self.characters * self.text.num_tokens / self.text.num_bytes * _SPARE - 1e-9) + _ENDS

    def tokens_after(self, model: PreTrainedModel, prompt: str) -> int:
        """Return the tokens of a sample: those of a passage, or fewer where these do not fit behind the prompt."""
        limit = usable_positions(model)
        if limit is None:
            return self.new_tokens
        before = len(self.tokenizer(prompt, add_special_tokens=False)["input_ids"]) or 1
        return max(min(self.new_tokens, limit - before), 1)

    def fitted(self, model: PreTrainedModel, taken: int = 0) -> Self:
        """Return this writer with prompts that fit before a passage into a model's positions: of fewer words if needed.

        Args:
            model: A causal language model.
            taken: Positions that an adapter will take.

        Raises:
            ConfigError: Passages do not fit; with both numbers and the longest passage that fits.
        """
        limit = usable_positions(model)
        limit = limit and limit - taken
        if limit and self.new_tokens + 1 > limit:
            fits = longest_passage(limit - 1, self.text)
            raise ConfigError(
                f"passage_chars: {self.characters} characters need {self.new_tokens} tokens, and the model has {limit} "
                f"positions; set passage_chars to {fits} or less, or train with longer windows"
            )
        writer = self._with_prompts_of(limit - self.new_tokens) if limit else self
        if planned := planner():
            planned.writing(self.new_tokens + max(map(len, writer.prompts(0, range(BLOCK)))))
        return writer

    def _with_prompts_of(self, tokens: int) -> Self:
        """This writer with as many words before a passage as nine prompts of ten have room for; others lose more."""
        some = [
            prompt
            for prompts in (self.heldout_prompts, self.training_prompts)
            for prompt in spread_evenly(prompts, _MEASURED_PROMPTS)
        ]
        for words in range(self.prompt_words, 0, -1):
            writer = replace(self, prompt_words=words, prompt_tokens=tokens)
            lengths = [len(replace(writer, prompt_tokens=None).prompt_ids(prompt)) for prompt in some]
            if np.quantile(lengths, 0.9) <= tokens:
                return writer
        return writer

    def prompt_ids(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt as they are used."""
        words = last_words(prompt, self.prompt_words)
        as_text = not reads_tokens(self.tokenizer)
        ids = list(self.tokenizer(words, add_special_tokens=False, split_special_tokens=as_text)["input_ids"])
        return ids if self.prompt_tokens is None else ids[-self.prompt_tokens :]

    def real_passages(self, texts: Sequence[str]) -> list[str]:
        """Real text in passages like those that are written: each follows the words of a prompt.

        Args:
            texts: Contiguous texts, such as one side of a split.
        """
        return [each.passage for each in prompted_passages(texts, self.characters, _PROMPT_WORDS)]

    def write(self, model: PreTrainedModel, count: int, seed: int, store: Store | None = None) -> Written:
        """Let a model write.

        Args:
            model: A causal language model.
            count: How many passages; half of them follow training text.
            seed: Of prompts and draws.
            store: Where blocks are kept; ``None``: nowhere.

        Returns:
            Passages cut to ``characters``, white space folded. The first of a larger ``count`` are those of a smaller.
        """
        size = self._decoded_together(model, count)
        parts = [range(first, first + size) for first in range(0, count, size)]
        if parts and (planned := planner()):
            texts, seconds = self._timed(model, seed, parts[0])
            planned.passages(count, seconds * len(parts))
            return self._written([texts[number % size] for number in range(count)])
        made: list[str] = []
        for numbers in parts:

            def make(numbers: range = numbers) -> list[str]:
                if count >= _WORTH_SAYING:
                    _logger.info("writing %d passages of %d tokens", len(numbers), self.new_tokens)
                return self._made(model, seed, numbers)

            made += store(numbers, make) if store else make()
        self._warn_of_short(made[:count])
        return self._written(made[:count])

    def _decoded_together(self, model: PreTrainedModel, count: int) -> int:
        """How many passages are decoded together where so many are asked for."""
        if count <= BLOCK or not can_decode(model):
            return BLOCK
        return rows_together(kept_bytes(model.config.get_text_config(), self.new_tokens, model.dtype.itemsize))

    def _written(self, passages: Sequence[str]) -> Written:
        return Written(passages[::2], passages[1::2])

    def prompts(self, seed: int, numbers: Iterable[int]) -> list[list[int]]:
        """Return the tokens before each of some passages."""
        return [self.prompt_ids(self._prompt(seed, number)) for number in numbers]

    def _prompt(self, seed: int, number: int) -> str:
        """The prompt of a passage: the text's prompts in an order that spreads over all of it, then again."""
        prompts = self.training_prompts if number % 2 else self.heldout_prompts
        places = len(prompts)
        step = next(n for n in numbers_from(max(round(_GOLDEN * places), 1)) if math.gcd(n, places) == 1)
        return prompts[(_hashed(seed, "prompts") + number // 2 * step) % places]

    def _made(self, model: PreTrainedModel, seed: int, numbers: range) -> list[str]:
        return [self._fitted(text) for text in self._continued(model, seed, numbers, self.new_tokens)]

    def _continued(self, model: PreTrainedModel, seed: int, numbers: range, new_tokens: int) -> list[str]:
        seeds = [_hashed(seed, str(first // BLOCK)) for first in numbers[::BLOCK]]
        written = generate_passages(
            model, self.tokenizer, self.prompts(seed, numbers), new_tokens=new_tokens, sampling=self.sampling,
            seed=seeds if len(seeds) > 1 else seeds[0],
        )  # fmt: skip
        return [passage.text for passage in written]

    def _timed(self, model: PreTrainedModel, seed: int, numbers: range) -> tuple[list[str], float]:
        """Texts of the right length in the place of passages, and the seconds that the passages would take."""
        took = []
        for new_tokens in _TIMED:
            started = time.perf_counter()
            texts = self._continued(model, seed, numbers, new_tokens)
            took.append(time.perf_counter() - started)
        a_token = max(took[1] - took[0], 0.0) / (_TIMED[1] - _TIMED[0])
        filled = [self._fitted(f"{text} " * math.ceil(self.characters / (len(text) + 1))) for text in texts]
        return filled, took[0] + a_token * (self.new_tokens - _TIMED[0])

    def _fitted(self, text: str) -> str:
        return fit_passage(text, self.characters)

    def _warn_of_short(self, passages: Sequence[str]) -> None:
        short = sum(len(passage) < 0.8 * self.characters for passage in passages)
        if short > len(passages) / 4:
            _logger.warning(
                "%d of %d passages are shorter than %d characters: this model writes in shorter tokens than real text",
                short,
                len(passages),
                self.characters,
            )


def _hashed(seed: int, what: str) -> int:
    """A number for a generator: seeds that are near each other give numbers that are not."""
    return int.from_bytes(hashlib.sha256(f"{seed} {what}".encode()).digest()[:7], "big")
