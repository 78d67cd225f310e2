"""A model that learns code: from where it writes, how narrow its text is, and what is measured of what it wrote."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from transformers import PreTrainedModel

from ftkit.config import AdapterSettings, CodeSettings
from ftkit.data import TokenStore, TokenVariety
from ftkit.errors import DataError
from ftkit.evidence import (
    CodeScores,
    CodeWriter,
    check_code_places,
    code_by_length,
    code_change,
    code_validity,
    longest_code_sample,
)
from ftkit.generation import PRESETS
from ftkit.jobs.lengths import SHORTEST, Limit
from ftkit.jobs.targets import TargetText, prepare_target
from ftkit.jobs.texts import Text
from ftkit.runs import RunFolder
from ftkit.runs.processes import num_processes

__all__ = ["CodeStudy", "prepare_code"]

_logger = logging.getLogger("ftkit.jobs")
C = TypeVar("C", bound=CodeSettings)

_SHOWN = 4
"""Samples of a step that are kept."""


@dataclass(frozen=True)
class CodeStudy(Generic[C]):
    """What a base and its tuned copy write from the same places in held-out code.

    Args:
        run: Where samples are logged.
        target: Code, its tokenizer, and the base.
        variety: How narrow the code is.
    """

    run: RunFolder
    target: TargetText[C]
    variety: TokenVariety

    @property
    def settings(self) -> C:
        """The settings, with the lengths that nobody had set."""
        return self.target.settings

    @property
    def writer(self) -> CodeWriter:
        """Who lets models write."""
        writer = self.target.writer
        assert isinstance(writer, CodeWriter)
        return writer

    def log_samples(self, name: str) -> Callable[[PreTrainedModel, int], None]:
        """Make a function of a model and a step that logs a few samples in ``samples.jsonl``."""

        def log(model: PreTrainedModel, step: int) -> None:
            texts, seed = self.writer.write(model, _SHOWN, self.settings.seed).heldout, self.settings.seed
            common = {"model": name, "step": step, "seed": seed, "sampling": self.writer.sampling.as_dict()}
            self.run.log("samples.jsonl", *({**common, "text": text} for text in texts))

        return log

    def complete(self, model: PreTrainedModel) -> list[str]:
        """What a model makes of the fixed beginning; nothing where there is none."""
        if not self.settings.prompt:
            return []
        count = 1 if self.settings.sampling == "greedy" else self.settings.prompted_passages  # which draws nothing
        return self.writer.complete(model, self.settings.prompt, count, self.settings.seed)

    def score(self, samples: Sequence[str]) -> CodeScores:
        """Scores of samples from the places, real code included.

        What depends on how much there is, kinds and mixture of syntax and unknown imports, is asked of every second
        sample beside the real code of the other places: real code against other real code, and models just so.

        Args:
            samples: One from each place.
        """
        real = self.target.real
        halves = code_validity(samples[::2], real[1::2])
        return replace(
            code_validity(samples, real),
            node_coverage=halves.node_coverage,
            node_overlap=halves.node_overlap,
            unknown_imports=halves.unknown_imports,
        )

    def measure(self, tuned: PreTrainedModel, samples: Sequence[str]) -> dict[str, Any]:
        """Everything about code, for ``evidence.json``.

        Args:
            tuned: The model as it was saved.
            samples: What it wrote from the places.
        """
        base, real = self.target.floor(len(samples)).heldout, self.target.real
        change = code_change(base, samples)
        lengths = code_by_length(base, samples, real, self.writer.characters)
        found: dict[str, Any] = {
            "samples": len(samples),
            "characters": self.writer.characters,
            "variety": self.variety.as_dict(),
            "scores": {
                who: self.score(texts).as_dict() for who, texts in (("base", base), ("tuned", samples), ("real", real))
            },
            "change": change.as_dict(),
            "by_length": lengths,
            "finding": self.finding(len(samples), lengths),
        }
        if self.settings.prompt:
            before, completed = self.complete(self.target.base), self.complete(tuned)
            found["prompted"] = {
                "prompt": self.settings.prompt,
                "base": code_validity(before).as_dict(),
                "tuned": code_validity(completed).as_dict(),
                "change": code_change(before, completed).as_dict(),
                "texts": {"base": before[:_SHOWN], "tuned": completed[:_SHOWN]},
            }
        return found

    def finding(self, samples: int, lengths: Sequence[Mapping[str, Any]]) -> str:
        """What came out, in one line of computed numbers."""
        parts = [
            f"of {row['characters']} characters {row['base']['value']:.1%} before, {row['tuned']['value']:.1%} after "
            f"(paired change {100 * row['change']['low']:+.1f} to {100 * row['change']['high']:+.1f} points; real code "
            f"{row['real']['value']:.1%})"
            for row in (lengths[-1], lengths[0])
        ]
        return f"Of {samples} samples parse: {'; '.join(parts)}."

    @staticmethod
    def reason(found: Mapping[str, Any]) -> str:
        """What stands beside a verdict that rests on prediction: whether it also writes more code that parses.

        Args:
            found: What ``measure`` gave.
        """
        change = found["change"]["parses"]
        before, after, real = (found["scores"][who]["parses"]["value"] for who in ("base", "tuned", "real"))
        outcome = "more often than before" if change["low"] > 0 else "less often than before"
        if change["low"] <= 0 <= change["high"]:
            outcome = "no more often than before, as far as these samples can tell"
        points = f"{100 * change['value']:+.1f} [{100 * change['low']:+.1f}, {100 * change['high']:+.1f}] points"
        return f"what it writes parses {outcome}: {before:.1%}, then {after:.1%} ({points}), real code {real:.1%}"


def _code_writer(settings: CodeSettings, heldout: TokenStore, text: Text) -> CodeWriter:
    assert heldout.tokenizer is not None
    sampling = PRESETS[settings.sampling]
    if settings.temperature:
        sampling = replace(sampling, temperature=settings.temperature)
    return CodeWriter.of(
        heldout, text.heldout, heldout.tokenizer, sampling, characters=settings.passage_chars,
        prompt_tokens=settings.prompt_tokens, most=settings.num_passages, seed=settings.seed,
    )  # fmt: skip


def prepare_code(settings: C, run: RunFolder) -> CodeStudy[C]:
    """Load base and code, find the places to write from, and say how easily the code is learned by heart.

    Args:
        settings: The recipe's settings.
        run: Where texts and base are noted.
    """

    def limits(heldout: Sequence[str]) -> list[Limit]:
        shortest = SHORTEST["passage_chars"]
        longest = longest_code_sample(heldout, settings.passage_chars, settings.num_passages)
        if longest < shortest:
            check_code_places(heldout, shortest, settings.num_passages, shortest)
        reason = f"the held-out code has few places where a statement begins and more than {longest} characters follow"
        return [Limit(longest, reason, DataError)]

    target = prepare_target(settings, settings.corpus, run, _code_writer, settings.prompt_tokens, limits)
    settings = target.settings
    step = settings.per_device_train_batch_size * settings.gradient_accumulation_steps * settings.window_tokens
    store = target.train
    epochs = settings.num_train_epochs if isinstance(settings, AdapterSettings) else 0
    passes = epochs or settings.max_steps * step * num_processes() / store.num_tokens
    variety = TokenVariety(store.num_tokens, store.num_unique, len(target.tokenizer), passes)
    _logger.info("the code: %s", variety)
    if variety.warning:
        _logger.warning("the code: %s", variety.warning)
    return CodeStudy(run, target, variety)
