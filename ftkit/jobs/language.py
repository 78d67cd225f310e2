"""What a language model learns from a text, to write or to fill in, and how one starts from random weights."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TokenizersBackend

from ftkit.config import SampleSettings
from ftkit.data import Masking, TokenStore, tokenize_texts
from ftkit.evidence import (
    ComparedPassages,
    ComparedTexts,
    Comparison,
    Evidence,
    PassageWriter,
    Store,
    Written,
    check_heldout,
    gather_evidence,
    keep_blocks,
    looks_up_to,
)
from ftkit.generation import PRESETS, fill_in, generate_passages
from ftkit.inspection import transplant
from ftkit.jobs.bases import foresee_base, load_saved, load_start, load_start_tokenizer, prepare_base
from ftkit.jobs.lengths import fit_language
from ftkit.jobs.texts import load_texts, read_special_tokens
from ftkit.models import check_positions, task_of
from ftkit.runs import RunFolder
from ftkit.training import (
    MASKED_TOKENS,
    NEXT_TOKEN,
    HeldOutWindows,
    MaskedWindows,
    Objective,
    ObjectiveContext,
    TokenWindows,
    WeightedSum,
    build_objective,
)
from ftkit.tuning import Selection

__all__ = ["FillingTask", "Pretraining", "WritingTask", "language_task", "log_samples", "prepare_pretraining"]

_logger = logging.getLogger("ftkit.jobs")
_SHOWN_TOKENS = 48
"""Tokens of the text that an encoder fills in as a sample."""


class WritingTask:
    """A causal model learns the next token, and writes.

    Args:
        writer: Lets models write.
        heldout: Held-out tokens.
        real: Real passages that were not trained on.
        settings: The recipe's settings.
    """

    objective = NEXT_TOKEN
    masking: Masking | None = None

    def __init__(
        self, writer: PassageWriter, heldout: TokenStore, real: Sequence[str], settings: SampleSettings
    ) -> None:
        self.writer, self.heldout, self.real, self.settings = writer, heldout, real, settings

    def check(self, model: PreTrainedModel) -> None:
        """Refuse what cannot be trained or measured, before anything is trained."""
        self.writer = self.writer.fitted(model)
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
            self.writer.tokenizer,
            [self.settings.sample_prompt],
            new_tokens=self.writer.tokens_after(model, self.settings.sample_prompt),
            sampling=self.writer.sampling,
            seed=self.settings.seed,
        )[0]
        sampled = {"seed": self.settings.seed, "sampling": self.writer.sampling.as_dict()}
        return {"prompt": passage.prompt, "text": passage.text, **sampled}

    def write(self, model: PreTrainedModel, count: int, store: Store) -> Written:
        """So many passages, for measuring."""
        return self.writer.write(model, count, self.settings.seed, store)


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

    def write(self, model: PreTrainedModel, count: int, store: Store) -> Written:
        """Nothing."""
        return Written()


def language_task(
    task: str,
    tokenizer: PreTrainedTokenizerFast,
    heldout: TokenStore,
    texts: tuple[Sequence[str], Sequence[str]],
    settings: SampleSettings,
) -> WritingTask | FillingTask:
    """What a model learns and how it shows it.

    Args:
        task: ``causal-lm`` or ``masked-lm``, as ``task_of`` says.
        tokenizer: The model's tokenizer.
        heldout: Held-out tokens.
        texts: Training text and held-out text.
        settings: The recipe's settings.

    Raises:
        ModelError: An encoder's tokenizer has no mask token.
    """
    if task == "masked-lm":
        return FillingTask(tokenizer, heldout, settings)
    train_texts, heldout_texts = texts
    characters, sampling = settings.passage_chars, PRESETS[settings.sampling]
    writer = PassageWriter.after(heldout, heldout_texts, train_texts, characters, sampling)
    return WritingTask(writer, heldout, writer.real_passages(heldout_texts), settings)


def log_samples(run: RunFolder, name: str, task: WritingTask | FillingTask) -> Callable[[PreTrainedModel, int], None]:
    """Make a function of a model and a step that logs a sample in ``samples.jsonl``."""

    def log(model: PreTrainedModel, step: int) -> None:
        run.log("samples.jsonl", {"model": name, "step": step, **task.sample(model)})

    return log


S = TypeVar("S", bound=SampleSettings)


@dataclass(frozen=True)
class Pretraining(Generic[S]):
    """The texts of a model that is trained from scratch, and how the model starts."""

    settings: S
    """The recipe's settings, with the lengths that nobody had set."""
    kind: str
    """``causal-lm`` or ``masked-lm``."""
    tokenizer: TokenizersBackend
    train_texts: list[str]
    heldout_texts: list[str]
    train: TokenStore
    heldout: TokenStore
    new_model: Callable[[], PreTrainedModel]
    """Makes the untrained model, the same every time."""
    task: WritingTask | FillingTask

    @property
    def untrained(self) -> bool:
        """Whether the model starts from random weights."""
        return self.settings.model.startswith("new:")

    def objective(self, text: str | None) -> Objective | WeightedSum:
        """What is minimised: that of the task, or what a setting names."""
        if not text:
            return self.task.objective
        vocab_size = self.new_model().config.get_text_config().vocab_size
        return build_objective(text, ObjectiveContext(self.tokenizer, vocab_size, self.kind, self.new_model))

    def measure(self, run: RunFolder, name: str, trainable: Selection) -> tuple[Evidence, dict[str, Written]]:
        """Compare the saved model with the untrained one.

        Args:
            run: The run, which has finished training the model.
            name: Name of the model.
            trainable: Parameters that training could change.

        Returns:
            All measurements, and the passages that each of the two generated.
        """
        base, tuned = self.new_model(), load_saved(self.settings, run.model(name), self.kind)
        texts = ComparedTexts(
            self.heldout, self.train_texts, self.train_texts + self.heldout_texts,
            heldout_texts=frozenset(self.heldout_texts),
        )  # fmt: skip
        kept, of_base, task = keep_blocks(), keep_blocks(), self.task

        def write(count: int, level: float) -> dict[str, Any]:
            before, after = task.write(base, count, of_base), task.write(tuned, count, kept)
            real, of_training = task.real, (before.training, after.training)
            return {"passages": ComparedPassages(before.heldout, after.heldout, real, *of_training)}

        evidence = gather_evidence(
            Comparison(
                base, tuned, texts, ComparedPassages(), self.settings.window_tokens, masking=task.masking,
                trainable=trainable, reload_difference=run.result(name)["reload_difference"],
                passes=run.trained_epochs(name), assumptions=run.step_choice(name), from_scratch=self.untrained,
                write=write,
            ),
            looks=looks_up_to(self.settings.num_passages),
        )  # fmt: skip
        count = evidence.passages
        return evidence, {"base model": task.write(base, count, of_base), name: task.write(tuned, count, kept)}


def prepare_pretraining(
    settings: S,
    sources: dict[str, str],
    run: RunFolder,
    donor: str | None = None,
    copied: str | list[str] | None = None,
) -> Pretraining[S]:
    """Load and divide the texts, then make the tokenizer and describe the model.

    Args:
        settings: The recipe's settings; ``model`` is ``new:...``, or a model whose weights go on from where they are.
        sources: Sources of the texts by name; they are learned together.
        run: Where texts are noted.
        donor: Model whose tokenizer is used, and from which weights are copied; ``None`` for none.
        copied: Selectors of the weights that are copied from the donor; ``None`` copies nothing.
    """
    texts = load_texts(sources, settings, run)
    train_texts = [piece for text in texts.values() for piece in text.train]
    heldout_texts = [piece for text in texts.values() for piece in text.heldout]
    kind = task_of(
        settings.model,
        settings.revision,
        trust_remote_code=settings.trust_remote_code,
        allow_pickle=settings.allow_pickle,
    )
    with_mask = kind == "masked-lm"
    base, _ = foresee_base(settings, train_texts, with_mask, donor)
    settings = fit_language(settings, run, base, texts, kind)
    donated = prepare_base(donor).model if donor else None
    reads = settings.model_copy(update={"tokenizer": donated}) if donated else settings
    tokenizer = load_start_tokenizer(reads, settings.model, train_texts, with_mask)
    read_special_tokens(settings, run, texts, tokenizer)
    train, heldout = tokenize_texts(train_texts, tokenizer), tokenize_texts(heldout_texts, tokenizer)

    def new_model() -> Any:
        model = load_start(
            settings, settings.model, task=kind, vocab_size=len(tokenizer), max_positions=settings.window_tokens
        )
        if donated and copied:
            transplant(load_saved(settings, donated, kind), model, copied)
        return model

    task = language_task(kind, tokenizer, heldout, (train_texts, heldout_texts), settings)
    return Pretraining(settings, kind, tokenizer, train_texts, heldout_texts, train, heldout, new_model, task)
