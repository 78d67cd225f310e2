"""The errors that ftkit raises for its users, each with the exit code that a shell sees.

A message says what was asked, what was found, what is allowed, and what to do next. Anything that is not an
``FtkitError`` is a bug in ftkit and keeps its traceback.
"""

import difflib
from collections.abc import Iterable, Sequence
from typing import ClassVar

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "DivergedError",
    "FtkitError",
    "GateError",
    "InterruptedRun",
    "ModelError",
    "NetworkError",
    "OutOfMemory",
    "PeerError",
    "Terminated",
    "done_elsewhere",
    "nearest_name",
    "size",
]


class FtkitError(Exception):
    """Base of every error that is the user's to solve; ``exit_code`` is what the ``ftkit`` command returns."""

    exit_code = 1


class ConfigError(FtkitError):
    """Wrong usage or configuration: unknown key, wrong type, value out of range, setting without effect."""

    exit_code = 2


class DeviceError(FtkitError):
    """The environment cannot do what was asked: no such device, precision or number of processes."""

    exit_code = 3


class OutOfMemory(DeviceError):
    """Memory of the machine or of a device ran out, in a block of ``ftkit.memory.memory_phase``.

    Args:
        phase: What was being done: a key of ``PHASES``, or empty where nobody knows.
        asked: Bytes of the allocation; ``None`` where the error does not say it.
        free: Bytes that were free; ``None`` where nobody knows.
        remedies: What to change, with names and values of settings.
        resume: How to go on, where something can be gone on with.
    """

    PHASES: ClassVar[dict[str, str]] = {
        "load": "while loading a model",
        "train": "while training",
        "evaluate": "while evaluating",
        "generate": "while generating text",
        "judge": "while judging",
    }

    def __init__(
        self, phase: str, asked: int | None, free: int | None, remedies: Sequence[str] = (), resume: str = ""
    ) -> None:
        self.phase, self.asked, self.free, self.remedies = phase, asked, free, tuple(remedies)
        amounts = [
            f"{size(number)} {word}" for number, word in ((asked, "asked"), (free, "free")) if number is not None
        ]
        said = f"out of memory{' ' if phase else ''}{self.PHASES.get(phase, phase)}"
        said += f": {', '.join(amounts)}" if amounts else ""
        said += f". Try {'; or '.join(remedies)}. 'ftkit plan' predicts what a run needs" if remedies else ""
        super().__init__(f"{said}. {resume}" if resume else said)


def size(num_bytes: float) -> str:
    """Bytes for people: MB below one GB."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.3g} MB"


class DataError(FtkitError):
    """Text that cannot be used: missing, empty, binary, wrongly encoded, too short."""

    exit_code = 4


class ModelError(FtkitError):
    """A model or tokenizer that cannot be used: no folder, missing weights, rows and ids that do not fit."""

    exit_code = 4


class DivergedError(FtkitError):
    """Training produced a non-finite loss or gradient; the update was not made."""

    exit_code = 5


class CheckpointError(FtkitError):
    """A checkpoint, a run folder or the disk under it cannot be used."""

    exit_code = 6


class NetworkError(FtkitError):
    """A download or the Hub failed."""

    exit_code = 7


class GateError(FtkitError):
    """A verdict came, and it is not the one that was asked for."""

    exit_code = 8


class InterruptedRun(FtkitError):
    """The run was asked to stop and can be resumed; 128 plus the signal's number is the exit code.

    Args:
        message: What was saved and how to go on.
        signal_number: The signal that asked, 2 (SIGINT) or 15 (SIGTERM).
    """

    def __init__(self, message: str, signal_number: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Terminated(KeyboardInterrupt):
    """SIGTERM came outside a training step. Like Ctrl-C it is no ``Exception``, so that nobody who turns a library's
    errors into ours takes it for one of them."""

    exit_code = 143


class PeerError(FtkitError):
    """Another process of the job has failed; it has said why, so this one ends without a word.

    Args:
        exit_code: The other's exit code.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process of the job failed; its message says why")
        self.exit_code = exit_code


_ELSEWHERE = {
    "do preference tuning": (
        "TRL (trl.DPOTrainer, trl.KTOTrainer, ...)",
        "cpo dpo grpo ipo kto orpo ppo preference preference_tuning rlhf rloo simpo online_dpo",
    ),
    "train reward models": ("TRL (trl.RewardTrainer)", "reward reward_model reward_modeling rm prm"),
    "train encoder-decoder models": (
        "transformers.Seq2SeqTrainer",
        "seq2seq seq2seq_lm encoder_decoder summarization summarize translation translate t5 bart",
    ),
    "train models of pictures or sound": (
        "transformers.Trainer, or TRL's SFTTrainer for models that also read text",
        "vision vlm image image_classification audio speech asr speech_recognition whisper",
    ),
}
"""What people ask for and ftkit does not do: the tool for it, and the names under which it is asked for."""


def done_elsewhere(name: str) -> str:
    """Return what to use for something that ftkit does not do, as the tail of a message; empty for other names.

    Args:
        name: What was asked, such as ``dpo`` or ``reward-model``.
    """
    plain = name.strip().lower().replace("-", "_").partition(":")[0]
    for ending in ("_trainer", "_training", "_tuning", "_loss", "_model", "_models"):
        plain = plain.removesuffix(ending) or plain
    for what, (tool, names) in _ELSEWHERE.items():
        if plain in names.split():
            return f"; ftkit does not {what}: use {tool}"
    return ""


_VERY_NEAR = 0.85  # a letter more, less or exchanged in a name of six letters


def nearest_name(name: str, choices: Iterable[str], *, most: int = 1, otherwise: str | None = None) -> str:
    """Help for a wrong name, as the tail of a message.

    Args:
        name: What was asked.
        choices: What exists.
        most: Choices that are named at most, where several are near and none is very near.
        otherwise: What is said where no choice is near, instead of all choices.

    Returns:
        What to use instead where ftkit does not do it; ``"; did you mean 'x'?"`` where a choice is near, else
        ``"; there is: a, b, c"``.
    """
    known = sorted(choices)
    if elsewhere := done_elsewhere(name):
        return elsewhere
    near = difflib.get_close_matches(name, known, n=most, cutoff=0.6)
    if near and difflib.SequenceMatcher(None, near[0], name).ratio() >= _VERY_NEAR:
        near = near[:1]
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    if otherwise is not None:
        return otherwise
    return f"; there is: {', '.join(known)}" if known else ""
