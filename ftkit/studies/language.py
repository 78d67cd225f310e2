"""The two things a language model can learn from a text: to write on, or to fill in what is missing.

Recipes are the same for both; what differs is here: the objective, the rows of a batch, and how a model shows what it
has learnt.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ftkit.config import SampleSettings
from ftkit.data import Masking, TokenStore
from ftkit.evidence import PassageWriter, check_heldout, cut_passages
from ftkit.generation import PRESETS, fill_in, generate_passages
from ftkit.models import check_positions
from ftkit.runs import RunFolder
from ftkit.training import MASKED_TOKENS, NEXT_TOKEN, HeldOutWindows, MaskedWindows, TokenWindows

__all__ = ["FillingTask", "WritingTask", "language_task", "log_samples"]

_logger = logging.getLogger("ftkit.studies")
_SHOWN_TOKENS = 48
"""Tokens of the text that an encoder fills in as a sample."""


class WritingTask:
    """A causal model learns the next token, and writes.

    Args:
        tokenizer: The model's tokenizer.
        heldout: Held-out tokens, from which passages start.
        heldout_texts: The same as text.
        settings: The recipe's settings.
    """

    objective = NEXT_TOKEN
    masking: Masking | None = None

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        heldout: TokenStore,
        heldout_texts: Sequence[str],
        settings: SampleSettings,
    ) -> None:
        self.tokenizer, self.heldout, self.settings = tokenizer, heldout, settings
        self.writer = PassageWriter(tokenizer, heldout, settings.passage_chars, PRESETS[settings.sampling])
        self.real = cut_passages(heldout_texts, settings.passage_chars)
        """Real passages that nobody trained on."""

    def check(self, model: PreTrainedModel) -> None:
        """Refuse what cannot be trained or measured, before anything is trained."""
        self.writer.check(model)
        check_positions(model, self.settings.window_tokens, "window_tokens")
        check_heldout("the held-out text", self.heldout, self.settings.window_tokens, self.real)

    def source(self, train: TokenStore) -> TokenWindows:
        """Rows to learn from."""
        return TokenWindows(train, self.settings.window_tokens, self.settings.seed)

    def held_out(self) -> HeldOutWindows:
        """Rows to evaluate on."""
        return HeldOutWindows(self.heldout, self.settings.window_tokens)

    def sample(self, model: PreTrainedModel) -> dict[str, Any]:
        """One passage, for ``samples.jsonl``."""
        passage = generate_passages(
            model,
            self.tokenizer,
            [self.settings.sample_prompt],
            new_tokens=self.writer.tokens_after(model, self.settings.sample_prompt),
            sampling=self.writer.sampling,
            seed=self.settings.seed,
        )[0]
        sampled = {"seed": self.settings.seed, "sampling": self.writer.sampling.as_dict()}
        return {"prompt": passage.prompt, "text": passage.text, **sampled}

    def write(self, model: PreTrainedModel) -> list[str]:
        """Passages that are measured."""
        return self.writer.write(model, self.settings.num_passages, self.settings.seed)


class FillingTask:
    """An encoder learns masked tokens, and fills them in; it writes nothing.

    Args:
        tokenizer: The model's tokenizer, with a mask token.
        heldout: Held-out tokens, of which a few are shown with masks.
        settings: The recipe's settings.
    """

    objective = MASKED_TOKENS
    real: Sequence[str] = ()

    def __init__(self, tokenizer: PreTrainedTokenizerFast, heldout: TokenStore, settings: SampleSettings) -> None:
        self.tokenizer, self.heldout, self.settings = tokenizer, heldout, settings
        self.masking: Masking | None = Masking(tokenizer)

    def check(self, model: PreTrainedModel) -> None:
        """Refuse what cannot be trained or measured, before anything is trained."""
        check_positions(model, self.settings.window_tokens, "window_tokens")
        check_heldout("the held-out text", self.heldout, self.settings.window_tokens, None)
        _logger.info("an encoder fills in masks and writes no text: sampling and passage settings have no effect")

    def source(self, train: TokenStore) -> MaskedWindows:
        """Rows to learn from."""
        return MaskedWindows(train, self.settings.window_tokens, self.settings.seed, self.tokenizer)

    def held_out(self) -> HeldOutWindows:
        """Rows to evaluate on."""
        return HeldOutWindows(self.heldout, self.settings.window_tokens, self.masking)

    def sample(self, model: PreTrainedModel) -> dict[str, Any]:
        """The beginning of the held-out text with masks, filled in, for ``samples.jsonl``."""
        assert self.masking is not None
        count = min(_SHOWN_TOKENS, self.masking.text_tokens(self.settings.window_tokens))
        shown = fill_in(model, self.tokenizer, self.masking, np.asarray(self.heldout.ids[:count]), self.settings.seed)
        return {**asdict(shown), "seed": self.settings.seed}

    def write(self, model: PreTrainedModel) -> list[str]:
        """Nothing."""
        return []


def language_task(
    task: str,
    tokenizer: PreTrainedTokenizerFast,
    heldout: TokenStore,
    heldout_texts: Sequence[str],
    settings: SampleSettings,
) -> WritingTask | FillingTask:
    """What a model learns and how it shows it.

    Args:
        task: ``causal-lm`` or ``masked-lm``, as ``task_of`` says.
        tokenizer: The model's tokenizer.
        heldout: Held-out tokens.
        heldout_texts: The same as text.
        settings: The recipe's settings.

    Raises:
        ModelError: An encoder's tokenizer has no mask token.
    """
    if task == "masked-lm":
        return FillingTask(tokenizer, heldout, settings)
    return WritingTask(tokenizer, heldout, heldout_texts, settings)


def log_samples(run: RunFolder, name: str, task: WritingTask | FillingTask) -> Callable[[PreTrainedModel, int], None]:
    """Make a function of a model and a step that logs a sample in ``samples.jsonl``."""

    def log(model: PreTrainedModel, step: int) -> None:
        run.log("samples.jsonl", {"model": name, "step": step, **task.sample(model)})

    return log
