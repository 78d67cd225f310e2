"""The numbers that decide a verdict: each with its unit, what it decides, and the reason for its value.

Terminal, report and ``verdict.json`` show the ones that were used; ``--threshold NAME=NUMBER`` sets one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any

from ftkit.errors import ConfigError, nearest_name
from ftkit.evidence.measures import all_measures

__all__ = ["Thresholds", "limits_in_use", "threshold_meanings"]

_PLANTED = "a starting value; the 126 planted runs of docs/verdict.md were judged with it"


def _number(default: float, decides: str, reason: str = _PLANTED, of: str = "") -> Any:
    """A threshold.

    Args:
        default: Its value.
        decides: The word that it decides, the condition, and the unit in brackets.
        reason: Why this value, and where it was measured.
        of: The measure that asks for it, without which it means nothing; empty for the gain on held-out text.
    """
    return field(default=default, metadata={"decides": decides, "reason": reason, "of": of})


@dataclass(frozen=True)
class Thresholds:
    """What decides a verdict; bounds are those of 95 % intervals."""

    nothing_gain: float = _number(
        0.01, "nothing: the whole interval of the held-out gain is nearer to 0 than this (bits per byte)"
    )
    worked_gain: float = _number(
        0.01, "worked: the lower bound of the held-out gain is above this; worse: the upper bound is below minus this "
        "(bits per byte)",
    )  # fmt: skip
    min_passages: int = _number(
        96, "unsure: fewer passages than this were written, of a model that writes",
        "with fewer, copying cannot be excluded: of 32 passages without a copied one the upper bound is 0.14",
    )  # fmt: skip
    style_position: float = _number(
        0.5,
        "worked: the style is the target's if the lower bound of the position is above this, and part of the way if it "
        "is above 0 (0 base, 1 real)",
        "half of the way: half real and half base passages have 0.52 and 0.54, honest models of a tiny base 0.58 and "
        "0.67, real text 1.00; see docs/judges.md",
        of="style",
    )
    copied_excess: float = _number(
        0.02,
        "copied: the lower bound of copied passages above real text's and the base's is above this (share)",
        "twelve of 96 passages where of real text and of the base none is copied",
        of="copying",
    )
    forgot_rise: float = _number(
        0.05,
        "forgot: the lower bound of the relative rise of the loss on general text is above this (share)",
        of="general",
    )
    min_windows: int = _number(
        20, "unsure: there are fewer held-out windows than this",
        "the bootstrap of fewer blocks gives intervals that are too narrow",
    )  # fmt: skip
    seen_heldout: float = _number(
        0.1, "unsure: more of the held-out text's 12-grams than this occur in the training text (share)", of="copying"
    )
    min_ngrams: float = _number(
        12.0, "unsure: a passage has fewer 12-grams than this on average, so copying cannot be measured",
        "12 of them are 23 words in a row", of="copying",
    )  # fmt: skip
    reload_difference: float = _number(
        1e-4, "broken: the saved folder computes other logits than the trained model by more than this",
        "ten times what two loads of the same float32 weights may differ by; see ftkit.models.outputs", of="integrity",
    )  # fmt: skip
    repetition_excess: float = _number(
        0.1, "broken: more repetition than this above real text's and the base's (lower bound, share)",
        "honest runs on real books: at most 0.001", of="fluency",
    )  # fmt: skip
    diversity_loss: float = _number(
        0.1, "broken: less lexical diversity than this below real text's and the base's (lower bound)",
        "honest runs on real books: at most 0.028", of="fluency",
    )  # fmt: skip
    invented_words: float = _number(
        0.1, "broken: higher loss, and more words than this in no text, above the base's (lower bound, share)",
        "a starting value; 42 planted runs, two seeds, were judged with it", of="fluency",
    )  # fmt: skip
    word_order: float = _number(
        0.5, "broken: the order of words is worth less than this share of what it was to the base (upper bound)",
        "planted runs on shuffled words were called worked before this rule, and none of them since", of="word_order",
    )  # fmt: skip
    min_word_order: float = _number(
        0.1, "broken: word order counts only where it was worth this much to the base (bits per byte)",
        "below it the share is a quotient of two small numbers: its interval reached millions of percent",
        of="word_order",
    )  # fmt: skip
    tokenizer_misfit: float = _number(
        0.1, "broken: with the base's tokenizer the model would save more than this (bits per byte)", of="integrity"
    )
    more: Mapping[str, float] = field(default_factory=dict)
    """Thresholds of measures that bring their own, where they are set."""

    @classmethod
    def set(cls, numbers: Mapping[str, float]) -> Thresholds:
        """The defaults with some numbers set otherwise.

        Args:
            numbers: By name.

        Raises:
            ConfigError: A name that no rule has.
        """
        known = threshold_meanings()
        for name in numbers:
            if name not in known:
                raise ConfigError(f"unknown threshold {name!r}{nearest_name(name, known)}")
        own = {each.name for each in fields(cls)}
        values: dict[str, Any] = {name: number for name, number in numbers.items() if name in own}
        return cls(**values, more={name: number for name, number in numbers.items() if name not in own})

    def own(self, name: str) -> float:
        """A threshold that a measure brings: as it was set, else its default."""
        if name in self.more:
            return self.more[name]
        return next(measure.thresholds[name][0] for measure in all_measures() if name in measure.thresholds)


def _used() -> Iterator[Field[Any]]:
    """Thresholds of the gain, and of the measures that are installed."""
    known = {"", *(measure.name for measure in all_measures())}
    yield from (each for each in fields(Thresholds) if each.metadata and each.metadata["of"] in known)


def limits_in_use(limits: Thresholds) -> dict[str, float]:
    """The numbers that can decide, for ``verdict.json``."""
    values = asdict(limits)
    own = [name for measure in all_measures() for name in measure.thresholds]
    return {each.name: values[each.name] for each in _used()} | {name: limits.own(name) for name in own}


def threshold_meanings() -> dict[str, str]:
    """What each threshold decides, by name."""
    own = {name: decides for m in all_measures() for name, (_, decides) in m.thresholds.items()}
    return {each.name: each.metadata["decides"] for each in _used()} | own
