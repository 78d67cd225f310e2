"""The two judges of a run, each behind its gate, and what they say of a model."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ftkit.config import TrainingSettings
from ftkit.data import load_tokenizer, train_wordpiece
from ftkit.evidence.gates import Gate, gate
from ftkit.evidence.judges import EncoderJudge, Judge, JudgeTexts, NgramJudge
from ftkit.evidence.style import StyleScore, score_style
from ftkit.memory import memory_phase
from ftkit.models import check_positions, check_vocabulary, load_model
from ftkit.runs import RunFolder
from ftkit.runs.planning import planner
from ftkit.training import CheckpointFolder

__all__ = ["Panel", "seat_ngrams", "seat_panel"]

_logger = logging.getLogger("ftkit.evidence")
_WORDPIECE_SIZE = 4096


@dataclass(frozen=True)
class Panel:
    """Judges and their gates, in one order."""

    judges: list[Judge]
    gates: dict[str, Gate]

    @memory_phase("judge")
    def score(
        self, target: str, base: Sequence[str], tuned: Sequence[str], real: Sequence[str]
    ) -> tuple[StyleScore, ...]:
        """What every judge says of a model's passages; see ``score_style``."""
        return tuple(score_style(judge, target, base, tuned, real, self.gates[judge.name]) for judge in self.judges)

    @memory_phase("judge")
    def glance(self, target: str, passages: Sequence[str]) -> dict[str, float]:
        """Mean probability of the target and share of passages given to it, by judge: one point of a curve."""
        found = {}
        for judge in self.judges:
            probabilities, place = judge.probabilities(passages), judge.classes.index(target)
            found[f"{judge.name}_probability"] = float(probabilities[:, place].mean())
            found[f"{judge.name}_accuracy"] = float(np.mean(probabilities.argmax(1) == place))
        return found

    def as_dict(self) -> dict[str, Any]:
        """The gates, for ``evidence.json``."""
        return {name: asdict(passed) for name, passed in self.gates.items()}


@memory_phase("judge")
def seat_panel(texts: JudgeTexts, targets: Sequence[str], settings: Any, run: RunFolder) -> Panel:
    """Train both judges, or find the encoder that an interrupted run has finished, and test them at their gates.

    Args:
        texts: Passages by class.
        targets: The classes whose scores will be used.
        settings: The ``judge_*`` settings and ``seed``; ``judge_seeds`` of 2 trains the encoder twice, so that its
            agreement over two seeds is that of whole encoders and not of two heads.
        run: Where the encoder is kept, as the model ``judge``.

    Returns:
        The panel. A judge that fails its gate sits in it, and does not speak.
    """
    encoder = _seat_encoder("judge", texts, settings, settings.judge_settings(), run)
    twins: dict[str, Judge] = {}
    if getattr(settings, "judge_seeds", 1) > 1:
        training = settings.judge_settings()
        training = training.model_copy(update={"seed": training.seed + 1})
        twins[encoder.name] = _seat_encoder("judge_twin", texts, settings, training, run)
    if planner():
        return Panel([encoder], {})  # a plan judges nothing
    return _behind_gates([encoder, NgramJudge(texts, settings.seed)], texts, targets, twins)


def _seat_encoder(
    name: str, texts: JudgeTexts, settings: Any, training: TrainingSettings, run: RunFolder
) -> EncoderJudge:
    """One encoder, trained or found."""
    folder = run.model(name)
    if run.sealed(name) is not None:
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
    run.seal(name, classes=texts.classes)
    return encoder


@memory_phase("judge")
def seat_ngrams(texts: JudgeTexts, targets: Sequence[str], seed: int) -> Panel:
    """The simple judge alone, for comparisons that need a quick one.

    Args:
        texts: Passages by class.
        targets: The classes whose scores will be used.
        seed: Seed of its solver.
    """
    return _behind_gates([NgramJudge(texts, seed)], texts, targets, {})


def _behind_gates(judges: list[Judge], texts: JudgeTexts, targets: Sequence[str], twins: Mapping[str, Judge]) -> Panel:
    gates = {
        judge.name: gate(judge, texts.heldout, targets, train=texts.train, twin=twins.get(judge.name))
        for judge in judges
    }
    for name, passed in gates.items():
        _logger.info("judge %s %s: %s", name, "may speak" if passed.speaks else "does not speak", passed.reason)
    return Panel(judges, gates)
