"""One text that several models of one base learn, with everything that judging any of them needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import PreTrainedModel, TokenizersBackend

from ftkit.data import TokenStore, load_tokenizer, tokenize_texts
from ftkit.evidence import (
    Evidence,
    JudgeTexts,
    Panel,
    PassageWriter,
    StyleScore,
    check_heldout,
    cut_passages,
    gather_evidence,
    seat_ngrams,
)
from ftkit.generation import PRESETS
from ftkit.models import check_positions, check_vocabulary, load_model
from ftkit.runs import RunFolder
from ftkit.studies.bases import Base, prepare_base
from ftkit.studies.texts import Text, load_texts
from ftkit.tuning import Selection

__all__ = ["Subject", "prepare_subject"]


@dataclass(frozen=True)
class Subject:
    """A base, the text that its copies learn, and other text for forgetting."""

    settings: Any
    """``passage_chars``, ``num_passages``, ``window_tokens``, ``seed`` and what ``load_model`` needs are read."""
    origin: Base
    text: Text
    general: dict[str, Text]
    tokenizer: TokenizersBackend
    train: TokenStore
    heldout: TokenStore
    writer: PassageWriter
    real: list[str]
    """Real held-out passages."""

    def new_model(self) -> PreTrainedModel:
        """A fresh copy of the base."""
        return load_model(
            self.origin.model,
            seed=self.settings.seed,
            vocab_size=len(self.tokenizer),
            max_positions=self.settings.window_tokens + _extra_positions(self.settings),
            revision=self.settings.revision,
            trust_remote_code=self.settings.trust_remote_code,
            allow_pickle=self.settings.allow_pickle,
        )

    @cached_property
    def base(self) -> PreTrainedModel:
        """The base that models are measured against; never trained."""
        return self.new_model()

    @cached_property
    def floor(self) -> list[str]:
        """Passages of the base."""
        return self.writer.write(self.base, self.settings.num_passages, self.settings.seed)

    @cached_property
    def panel(self) -> Panel:
        """A judge that knows the text, the base's writing and other text, behind its gate."""
        n, chars = self.settings.num_passages, self.settings.passage_chars
        taught = self.writer.write(self.base, 3 * n, self.settings.seed + 1)
        classes = JudgeTexts(
            train={"corpus": cut_passages(self.text.train, chars), "base model": taught[n:]},
            heldout={"corpus": self.real, "base model": taught[:n]},
        )
        if self.general:
            texts = self.general.values()
            classes.train["other"] = [p for text in texts for p in cut_passages(text.train, chars)]
            classes.heldout["other"] = [p for text in texts for p in cut_passages(text.heldout, chars)]
        return seat_ngrams(classes, ["corpus"], self.settings.seed)

    def write(self, model: PreTrainedModel) -> list[str]:
        """Passages of a model, from the same starts as the base's."""
        return self.writer.write(model, self.settings.num_passages, self.settings.seed)

    def styles(self, passages: Sequence[str]) -> tuple[StyleScore, ...]:
        """What the judge says of a model's passages."""
        return self.panel.score("corpus", self.floor, passages, self.real)

    def measure(
        self,
        run: RunFolder,
        name: str,
        tuned: PreTrainedModel,
        passages: Sequence[str],
        trainable: Selection | None = None,
        styles: Sequence[StyleScore] = (),
    ) -> Evidence:
        """All measurements of one model.

        Args:
            run: The run, whose phase ``name`` is sealed with its ``reload_difference``.
            name: The model.
            tuned: The model as it was saved.
            passages: What it wrote.
            trainable: What was allowed to change; ``None`` means everything.
            styles: What judges said.
        """
        others = list(self.general.values())
        other = [piece for text in others for piece in text.heldout]
        return gather_evidence(
            self.base,
            tuned,
            heldout=self.heldout,
            general=tokenize_texts(other, self.tokenizer) if other else None,
            general_name=", ".join(self.general),
            window_tokens=self.settings.window_tokens,
            train_texts=[*self.text.train, *(piece for text in self.origin.texts.values() for piece in text.train)],
            known_texts=[piece for text in (self.text, *others) for piece in (*text.train, *text.heldout)],
            base_passages=self.floor,
            tuned_passages=passages,
            real_passages=self.real,
            styles=styles,
            reload_difference=run.result(name)["reload_difference"],
            passes=run.manifest["plan"][name]["passes"],
            trainable=trainable,
        )


def _extra_positions(settings: Any) -> int:
    """Positions that an adapter's virtual tokens take from the context."""
    return int(getattr(settings, "extra_positions", 0))


def prepare_subject(settings: Any, run: RunFolder) -> Subject:
    """Load base, text and other text, and refuse what cannot be judged before anything is trained.

    Args:
        settings: A recipe's settings; those of ``Subject``, and ``corpus``, ``general`` and ``sampling``.
        run: Where texts and base are noted.
    """
    origin = prepare_base(settings.model)
    run.keep(base=origin.model)
    text = load_texts({"corpus": settings.corpus}, settings, run)["corpus"]
    general = load_texts(settings.general, settings, run) if settings.general else origin.texts
    tokenizer = load_tokenizer(settings.tokenizer or origin.model, texts=text.train)
    train, heldout = tokenize_texts(text.train, tokenizer), tokenize_texts(text.heldout, tokenizer)
    writer = PassageWriter(tokenizer, heldout, settings.passage_chars, PRESETS[settings.sampling])
    real = cut_passages(text.heldout, settings.passage_chars)
    subject = Subject(settings, origin, text, general, tokenizer, train, heldout, writer, real)
    check_vocabulary(subject.base, tokenizer)
    extra = _extra_positions(settings)
    both = "window_tokens and virtual_tokens together" if extra else "window_tokens"
    check_positions(subject.base, settings.window_tokens + extra, both)
    writer.check(subject.base, extra)
    check_heldout("corpus", heldout, settings.window_tokens, real)
    return subject
