"""Passages of a model for judging, all written under one protocol."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.data import TokenStore
from ftkit.errors import ConfigError
from ftkit.evidence.texts import cut_passages, fit_passage
from ftkit.generation import Sampling, generate_passages, random_starts
from ftkit.models import usable_positions
from ftkit.runs.planner import planner

__all__ = ["PassageWriter", "longest_passage"]

_logger = logging.getLogger("ftkit.evidence")
_TIMED = 8  # passages that are written where a run is only planned
_WORTH_SAYING = 60  # passages; fewer take seconds
_ENDS = 4  # tokens for the words at both ends that are cut away
_SPARE = 1.2  # new tokens beyond the mean rate: a model may prefer shorter tokens than real text has


def longest_passage(tokens: int, text: TokenStore) -> int:
    """Return the characters of the longest passage that so many tokens are sure to hold.

    Args:
        tokens: Tokens that a model can write.
        text: Real text, for the length of its tokens.
    """
    return max(int((tokens - _ENDS) * text.num_bytes / max(text.num_tokens, 1) / _SPARE + 1e-9), 0)


@dataclass(frozen=True)
class PassageWriter:
    """Lets models write passages of one length from the same starts, so that only the model differs.

    Args:
        tokenizer: The models' tokenizer.
        starts: Text from which one-token starts are drawn; the start is not part of a passage.
        characters: Length of a passage.
        sampling: How tokens are drawn.
    """

    tokenizer: PreTrainedTokenizerBase
    starts: TokenStore
    characters: int
    sampling: Sampling

    @property
    def new_tokens(self) -> int:
        """Tokens to generate so that a passage is long enough, from the tokens that real text needs."""
        return math.ceil(self.characters * self.starts.num_tokens / self.starts.num_bytes * _SPARE - 1e-9) + _ENDS

    def tokens_after(self, model: PreTrainedModel, prompt: str) -> int:
        """Return the tokens of a sample: those of a passage, or fewer where these do not fit behind the prompt."""
        limit = usable_positions(model)
        if limit is None:
            return self.new_tokens
        before = len(self.tokenizer(prompt, add_special_tokens=False)["input_ids"]) or 1
        return max(min(self.new_tokens, limit - before), 1)

    def check(self, model: PreTrainedModel, taken: int = 0) -> None:
        """Refuse passages that do not fit into a model's positions.

        Args:
            model: A causal language model.
            taken: Positions that an adapter will take.

        Raises:
            ConfigError: With both numbers and the longest passage that fits.
        """
        if planned := planner():
            planned.writing(self.new_tokens)
        limit = usable_positions(model)
        limit = limit and limit - taken
        if limit and self.new_tokens + 1 > limit:
            fits = longest_passage(limit - 1, self.starts)
            raise ConfigError(
                f"passage_chars: {self.characters} characters need {self.new_tokens} tokens, and the model has {limit} "
                f"positions; set passage_chars to {fits} or less, or train with longer windows"
            )

    def real_passages(self, texts: Sequence[str]) -> list[str]:
        """Real text in passages like those that are written.

        Args:
            texts: Contiguous texts, such as one side of a split.
        """
        return cut_passages(texts, self.characters)

    def write(self, model: PreTrainedModel, count: int, seed: int) -> list[str]:
        """Let a model write.

        Args:
            model: A causal language model.
            count: How many passages.
            seed: Same seed: same starts and same draws.

        Returns:
            Passages cut to ``characters``, white space folded.
        """
        if planned := planner():
            few = min(count, _TIMED)
            started = time.perf_counter()
            written = self._write(model, few, seed)
            planned.passages(count, (time.perf_counter() - started) * count / few)
            return [written[number % few] for number in range(count)]
        return self._write(model, count, seed)

    def _write(self, model: PreTrainedModel, count: int, seed: int) -> list[str]:
        if count >= _WORTH_SAYING:
            _logger.info("writing %d passages of %d tokens", count, self.new_tokens)
        starts = random_starts(np.asarray(self.starts.ids), count, seed)
        written = generate_passages(
            model, self.tokenizer, starts, new_tokens=self.new_tokens, sampling=self.sampling, seed=seed
        )
        passages = [fit_passage(passage.text, self.characters) for passage in written]
        short = sum(len(passage) < 0.8 * self.characters for passage in passages)
        if short > count / 4:
            _logger.warning(
                "%d of %d passages are shorter than %d characters: this model writes in shorter tokens than real text",
                short,
                count,
                self.characters,
            )
        return passages
