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
from ftkit.runs.planning import planner

__all__ = ["PassageWriter"]

_logger = logging.getLogger("ftkit.evidence")
_TIMED = 8  # passages that are written where a run is only planned
_WORTH_SAYING = 60  # passages; fewer take seconds
_SPARE = 1.2  # new tokens beyond the mean rate: a model may prefer shorter tokens than real text has


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
        return math.ceil(self.characters * self.starts.num_tokens / self.starts.num_bytes * _SPARE) + 4

    def check(self, model: PreTrainedModel, taken: int = 0) -> None:
        """Refuse passages that do not fit into a model's positions.

        Args:
            model: A causal language model.
            taken: Positions that an adapter will take.

        Raises:
            ConfigError: With both numbers and the longest passage that fits.
        """
        limit = usable_positions(model)
        limit = limit and limit - taken
        if limit and self.new_tokens + 1 > limit:
            fits = int((limit - 5) / self.new_tokens * self.characters)
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
