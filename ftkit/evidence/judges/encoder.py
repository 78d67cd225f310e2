"""The trained judge: a sequence classifier of the BERT family."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from accelerate import PartialState
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ftkit.config import TrainingSettings
from ftkit.data import load_tokenizer, train_wordpiece
from ftkit.errors import ModelError
from ftkit.evidence.baselines import text_features
from ftkit.evidence.judges import BuiltJudge, JudgeRequest, JudgeSettings, JudgeTexts, labelled
from ftkit.models import check_positions, check_vocabulary, load_model, save_model
from ftkit.runs import RunFolder, progress
from ftkit.training import CLASSIFICATION, CheckpointFolder, ClassifiedTexts, Engine, predict_classes

__all__ = ["JUDGE", "EncoderJudge"]

_WORDPIECE_SIZE = 4096
"""Tokens of the vocabulary that a new encoder learns from the passages: they have a few thousand different words."""


class EncoderJudge:
    """A sequence classifier of the BERT family.

    Args:
        model: The classifier.
        tokenizer: Its tokenizer.
        max_tokens: Longer passages are cut here, in training and in use alike.
    """

    name, unit = "encoder", "tokens"

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        self.model, self.tokenizer, self.max_tokens = model.eval(), tokenizer, max_tokens
        self.classes = [str(label) for _, label in sorted((model.config.id2label or {}).items())]

    def probabilities(self, passages: Sequence[str]) -> np.ndarray:
        """Probabilities [passages, classes]."""
        found: np.ndarray = np.exp(predict_classes(self.model, self.tokenizer, passages, self.max_tokens))
        return found

    def lengths(self, passages: Sequence[str]) -> np.ndarray:
        """Tokens of each passage that are read."""
        ids = self.tokenizer(list(passages), truncation=True, max_length=self.max_tokens)["input_ids"]
        return np.array([len(row) for row in ids])

    def relearn(self, train: dict[str, list[str]], seed: int) -> "_HeadJudge":
        """A new head on this encoder's frozen body: training another encoder would double the cost."""
        return _HeadJudge(self, train, seed)

    @classmethod
    def train(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        texts: JudgeTexts,
        settings: TrainingSettings,
        max_tokens: int,
        checkpoints: CheckpointFolder | None = None,
    ) -> "EncoderJudge":
        """Fine-tune a classifier on passages, every class equally often.

        Args:
            model: A sequence classifier with one label for each class.
            tokenizer: Its tokenizer.
            texts: Passages by class; the ``train`` part is learned.
            settings: Steps, batch and rate.
            max_tokens: Longer passages are cut here.
            checkpoints: Where training is kept and resumed from.
        """
        passages, labels = labelled(texts.train)
        rows = (
            settings.per_device_train_batch_size * settings.gradient_accumulation_steps * PartialState().num_processes
        )
        source = ClassifiedTexts(passages, labels, tokenizer, max_tokens, rows, settings.seed)
        with (
            Engine(model, CLASSIFICATION, source, settings, checkpoints) as engine,
            progress("judge", settings.max_steps, engine.step) as bar,
        ):
            for record in engine:
                bar.advance(f"loss {record.loss:.3f}")
        return cls(model, tokenizer, max_tokens)

    def save(self, folder: Path) -> None:
        """Write classifier, tokenizer and label map."""
        save_model(self.model, self.tokenizer, folder)

    @classmethod
    def load(cls, folder: Path | str, max_tokens: int, classes: Sequence[str]) -> "EncoderJudge":
        """Read a judge from a folder.

        Raises:
            ModelError: Its label map does not hold the classes that are asked for.
        """
        model = load_model(str(folder), task="sequence-classification")
        judge = cls(model, AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False), max_tokens)
        if missing := sorted(set(classes) - set(judge.classes)):
            raise ModelError(
                f"judge {folder}: knows the classes {judge.classes}, not {missing}. Give the folder as judge_model, so"
                " that it is trained on these texts with a new head, or start a new run in another output_dir"
            )
        return judge


class _HeadJudge:
    """Logistic regression on what an encoder's frozen body says of a passage."""

    name, unit = "head", "tokens"

    def __init__(self, encoder: EncoderJudge, train: dict[str, list[str]], seed: int) -> None:
        self._encoder, self.classes = encoder, encoder.classes
        passages, labels = labelled({name: train[name] for name in self.classes})
        linear = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000, random_state=seed)
        self._model = make_pipeline(StandardScaler(), linear).fit(self._features(passages), labels)

    def _features(self, passages: Sequence[str]) -> np.ndarray:
        encoder = self._encoder
        return text_features(encoder.model, encoder.tokenizer, passages, encoder.max_tokens)

    def probabilities(self, passages: Sequence[str]) -> np.ndarray:
        """Probabilities [passages, classes]."""
        found: np.ndarray = self._model.predict_proba(self._features(passages))
        return found

    def lengths(self, passages: Sequence[str]) -> np.ndarray:
        """Tokens of each passage that are read."""
        return self._encoder.lengths(passages)

    def relearn(self, train: dict[str, list[str]], seed: int) -> "_HeadJudge":
        """Another head."""
        return _HeadJudge(self._encoder, train, seed)


def build_encoder_judge(request: JudgeRequest) -> BuiltJudge | None:
    """Train the encoder, or load the one that an interrupted run has finished."""
    settings, run = request.settings, request.run
    if settings is None or run is None:
        return None
    training = settings.judge_settings()
    encoder = _build("judge", request.texts, settings, training, run)
    if settings.judge_seeds < 2:
        return BuiltJudge(encoder)
    training = training.model_copy(update={"seed": training.seed + 1})
    return BuiltJudge(encoder, _build("judge_twin", request.texts, settings, training, run))


def _build(
    name: str, texts: JudgeTexts, settings: JudgeSettings, training: TrainingSettings, run: RunFolder
) -> EncoderJudge:
    """One encoder, trained or loaded."""
    folder = run.model(name)
    if run.done_results(name) is not None:
        return EncoderJudge.load(folder, settings.judge_tokens, texts.classes)
    passages = [passage for group in texts.train.values() for passage in group]
    new = settings.judge_model.startswith("new:")
    tokenizer = train_wordpiece(passages, _WORDPIECE_SIZE) if new else load_tokenizer(settings.judge_model)
    model = load_model(
        settings.judge_model,
        task="sequence-classification",
        seed=training.seed,
        vocab_size=len(tokenizer),
        max_positions=settings.judge_tokens,
        labels=texts.classes,
    )
    check_vocabulary(model, tokenizer)
    check_positions(model, settings.judge_tokens, "judge_tokens")
    model.config.pad_token_id = tokenizer.pad_token_id  # decoders as judges read the last token before padding
    checkpoints = CheckpointFolder(run.checkpoints(name), settings.save_total_limit)
    encoder = EncoderJudge.train(model, tokenizer, texts, training, settings.judge_tokens, checkpoints)
    if run.is_main:
        encoder.save(folder)
    run.mark_done(name, classes=texts.classes)
    return encoder


JUDGE = build_encoder_judge
