"""A model that starts from random weights, or from a few that are copied, and the texts that it learns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from transformers import PreTrainedModel, TokenizersBackend

from ftkit.config import SampleSettings
from ftkit.data import TokenStore, tokenize_texts
from ftkit.evidence import ComparedPassages, ComparedTexts, Comparison, Evidence, gather_evidence
from ftkit.inspection import transplant
from ftkit.models import task_of
from ftkit.runs import RunFolder
from ftkit.studies.bases import foresee_base, prepare_base
from ftkit.studies.language import FillingTask, WritingTask, language_task
from ftkit.studies.lengths import fit_language
from ftkit.studies.loading import load_saved, load_start, load_start_tokenizer
from ftkit.studies.texts import load_texts, read_special_tokens
from ftkit.training import Ingredients, Objective, WeightedSum, build_objective
from ftkit.tuning import Selection

__all__ = ["Pretraining", "prepare_pretraining"]

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

    def objective(self, text: str | None) -> Objective | WeightedSum:
        """What is minimised: that of the task, or what a setting names."""
        if not text:
            return self.task.objective
        vocab_size = self.new_model().config.get_text_config().vocab_size
        return build_objective(text, Ingredients(self.tokenizer, vocab_size, self.kind, self.new_model))

    def measure(self, run: RunFolder, name: str, trainable: Selection) -> tuple[Evidence, dict[str, list[str]]]:
        """Compare the saved model with the untrained one, and return what both wrote.

        Args:
            run: The run, whose phase ``name`` is finished.
            name: The model.
            trainable: What was allowed to change.
        """
        base, tuned = self.new_model(), load_saved(self.settings, run.model(name), self.kind)
        passages = {"base model": self.task.write(base), name: self.task.write(tuned)}
        texts = ComparedTexts(self.heldout, self.train_texts, self.train_texts + self.heldout_texts)
        written = ComparedPassages(passages["base model"], passages[name], self.task.real)
        evidence = gather_evidence(
            Comparison(
                base, tuned, texts, written, self.settings.window_tokens, masking=self.task.masking,
                trainable=trainable, reload_difference=run.result(name)["reload_difference"],
                passes=run.manifest["plan"][name]["passes"],
            )
        )  # fmt: skip
        return evidence, passages


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

    task = language_task(kind, tokenizer, heldout, heldout_texts, settings)
    return Pretraining(settings, kind, tokenizer, train_texts, heldout_texts, train, heldout, new_model, task)
