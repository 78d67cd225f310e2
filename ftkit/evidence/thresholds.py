"""The numbers that decide a verdict: each with its unit, what it decides, and the reason for its value.

Terminal, report and ``verdict.json`` show the ones that were used; ``--threshold NAME=NUMBER`` sets one.
"""

from dataclasses import Field, dataclass, field, fields
from typing import Any

__all__ = ["Thresholds", "threshold_meanings"]

_PLANTED = "a starting value; the 126 planted runs of docs/verdict.md were judged with it"


def _number(default: float, decides: str, reason: str = _PLANTED) -> Any:
    """A threshold.

    Args:
        default: Its value.
        decides: The word that it decides, the condition, and the unit in brackets.
        reason: Why this value, and where it was measured.
    """
    return field(default=default, metadata={"decides": decides, "reason": reason})


@dataclass(frozen=True)
class Thresholds:
    """What decides a verdict; bounds are those of 95 % intervals."""

    nothing_gain: float = _number(
        0.01, "nothing: the whole interval of the held-out gain is nearer to 0 than this (bits per byte)"
    )
    worked_gain: float = _number(0.01, "worked: the lower bound of the held-out gain is above this (bits per byte)")
    style_position: float = _number(
        0.5, "worked: the lower bound of the position of every judge that speaks is at least this (0 base, 1 real)"
    )
    copied_excess: float = _number(
        0.02, "copied: the lower bound of the copy rate above that of real held-out text is above this (share)"
    )
    copied_run: int = _number(
        30, "copied: a verbatim run is longer than this, and longer than any in held-out text (words)"
    )
    forgot_rise: float = _number(
        0.05, "forgot: the lower bound of the relative rise of the loss on general text is above this (share)"
    )
    min_windows: int = _number(
        15, "unsure: there are fewer held-out windows than this",
        "the bootstrap of fewer blocks gives intervals that are too narrow",
    )  # fmt: skip
    seen_heldout: float = _number(
        0.1, "unsure: more of the held-out text's 12-grams than this occur in the training text (share)"
    )
    min_ngrams: float = _number(
        12.0, "unsure: a passage has fewer 12-grams than this on average, so copying cannot be measured",
        "12 of them are 23 words in a row",
    )  # fmt: skip
    reload_difference: float = _number(
        1e-4, "broken: the saved folder computes other logits than the trained model by more than this",
        "ten times what two loads of the same float32 weights may differ by; see ftkit.models.rounding",
    )  # fmt: skip
    repetition_excess: float = _number(
        0.1, "broken: more repetition than this above real text's and the base's (lower bound, share)",
        "honest runs on real books: at most 0.001",
    )  # fmt: skip
    diversity_loss: float = _number(
        0.1, "broken: less lexical diversity than this below real text's and the base's (lower bound)",
        "honest runs on real books: at most 0.028",
    )  # fmt: skip
    invented_words: float = _number(
        0.1, "broken: higher loss, and more words than this in no text, above the base's (lower bound, share)",
        "a starting value; 42 planted runs, two seeds, were judged with it",
    )  # fmt: skip
    word_order: float = _number(
        0.5, "broken: the order of words is worth less than this share of what it was to the base (upper bound)",
        "planted runs on shuffled words were called worked before this rule, and none of them since",
    )  # fmt: skip
    min_word_order: float = _number(
        0.1, "broken: word order counts only where it was worth this much to the base (bits per byte)",
        "below it the share is a quotient of two small numbers: its interval reached millions of percent",
    )  # fmt: skip
    tokenizer_misfit: float = _number(
        0.1, "broken: with the base's tokenizer the model would save more than this (bits per byte)"
    )


def threshold_meanings() -> dict[str, str]:
    """What each threshold decides, by name."""
    found: tuple[Field[Any], ...] = fields(Thresholds)
    return {threshold.name: threshold.metadata["decides"] for threshold in found}
