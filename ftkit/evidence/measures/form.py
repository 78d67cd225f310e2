"""The form of answers: whether they end by themselves, have a plausible length, and hold what all completions hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ftkit.data.words import count_words
from ftkit.display.tables import PageTable, Part, Row
from ftkit.display.wording import number, percent_interval
from ftkit.evidence.intervals import Interval, exact_share
from ftkit.evidence.measure import Advice, Case, Finding, Measure, OpenRule, Outcome, Support

if TYPE_CHECKING:
    from ftkit.evidence.answers import Answers
    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE", "Form"]

_ALL = 0.99
"""Share of training completions with a form from which on answers must have it: a few rows are always odd."""
_LONGER, _SHORTER = 2.0, 0.5
"""Times the longest and the shortest real completion that an answer may have: beyond, it is another kind of text."""


@dataclass(frozen=True)
class Form:
    """Answers to held-out prompts; shares with their intervals."""

    answers: int
    """Answers of each model."""
    base: Interval
    """Share of the base's answers that have the form."""
    tuned: Interval
    tuned_ended: Interval
    """Share that ends by itself before the limit."""
    base_ended: Interval
    length: float
    """Mean length of the tuned model's answers over that of real completions, in words."""
    base_length: float
    parts: tuple[str, ...] = ()
    """What the form consists of."""
    few_shot: Interval | None = None
    """Share of the base's answers after examples that have the form, mean over draws of them."""


class FormMeasure(Measure[Form]):
    """Asks whether answers have the form of real completions."""

    name, place, result, unit, needs = "form", 12, Form, "share of answers", ("passages", "texts")
    thresholds = {
        "form_share": (
            0.75,
            "worked: the lower bound of answers that have the form of completions is above this; broken: the upper "
            "bound is below it, and the base does better (share)",
        )
    }
    question = "Do its answers have the form of the completions: their end, their length, their pattern?"

    def compute(self, comparison: Comparison) -> Form | None:
        examples, answers = comparison.examples, comparison.answers
        if examples is None or answers is None or not answers.examples:
            return None
        real = [max(count_words(example.completion), 1) for example in answers.examples]
        parts = _parts(examples.completions, examples.answer_pattern, real)

        def share(held: Sequence[bool] | np.ndarray) -> Interval:
            return exact_share(float(np.sum(held)), len(held), comparison.level)

        def formed(*draws: Answers) -> Interval:
            held = [
                [ended and all(holds(text) for holds in parts.values()) for text, ended in zip(*each, strict=True)]
                for each in ((of.texts, of.ended) for of in draws)
            ]
            return share(np.mean(held, axis=0))

        def length(of: Answers) -> float:
            return float(np.mean([count_words(text) for text in of.texts]) / np.mean(real))

        return Form(
            len(answers.examples), formed(answers.base), formed(answers.tuned), share(answers.tuned.ended),
            share(answers.base.ended), length(answers.tuned), length(answers.base),
            ("an end of their own", *parts), formed(*answers.few_shot) if answers.few_shot else None,
        )  # fmt: skip

    def findings(self, result: Form, case: Case) -> Iterable[Finding]:
        least = case.limits.own("form_share")
        if result.tuned.high < least and result.base.low > result.tuned.high:
            yield Finding(
                "damaged",
                f"its answers lost their form: {result.tuned.value:.0%} have it, {result.base.value:.0%} of the base's "
                f"({', '.join(result.parts)})",
                f"form tuned.high {result.tuned.high:z.3f} < form_share {least}",
            )

    def support(self, result: Form, case: Case) -> Support | None:
        least = case.limits.own("form_share")
        holds, fails = result.tuned.low > least, result.tuned.high < least
        said = (
            f"{result.tuned.value:.0%} of its answers have the form of completions ({', '.join(result.parts)}; the "
            f"base's: {result.base.value:.0%})"
        )
        if result.tuned_ended.high < least:
            ended = result.tuned_ended.value
            said += f"; only {ended:.0%} end by themselves" if ended else "; none of them end by themselves"
        by = f"form tuned.low {result.tuned.low:z.3f} {'>' if holds else '<='} form_share {least}"
        return Support(holds, [said], [by], open=not holds and not fails)

    def open_rules(self, result: Form, case: Case) -> Iterable[OpenRule]:
        if result.tuned.low <= case.limits.own("form_share") <= result.tuned.high:
            yield OpenRule("form", "worked")

    def rows(self, result: Form) -> Iterable[Row]:
        yield Row("answers that have the form of completions", result.tuned, result.base, percent=True)
        if result.few_shot is not None:
            yield Row("answers of the base after examples that have the form", None, result.few_shot, percent=True)
        yield Row("answers that end by themselves", result.tuned_ended, result.base_ended, percent=True)
        yield Row("length of answers over that of real completions", result.length, result.base_length, 1.0)

    def headline(self, result: Form, outcome: Outcome) -> Iterable[str]:
        base = f"the base's: {result.base.value:.0%}"
        yield f"{result.tuned.value:.0%} of its answers have the form of completions ({base})"

    def parts(self, results: Mapping[str, Form], document: Mapping[str, Any]) -> Iterable[Part]:
        table = PageTable(
            "Form of answers to held-out prompts: shares with their intervals",
            (
                "Model", "Answers", "Base has the form", "Base after examples", "Tuned has the form",
                "Tuned ends by itself", "Length over real",
            ),
            [
                (
                    name,
                    [[
                        number(found.answers), percent_interval(found.base),
                        percent_interval(found.few_shot), percent_interval(found.tuned),
                        percent_interval(found.tuned_ended), number(found.length),
                    ]],
                )
                for name, found in results.items()
            ],
        )  # fmt: skip
        parts = ", ".join(next(iter(results.values())).parts)
        yield Part(
            "form", "Form of answers", f"Answers have the form of real completions if they have {parts}.", [table]
        )

    def advice(self, result: Form, outcome: Outcome) -> Iterable[str | Advice]:
        if "worked" in outcome.words or result.tuned.low > outcome.limit("form_share", 0.0):
            return
        if result.tuned_ended.value < 1 / 2:
            yield (
                "Its answers do not end by themselves. Look at the examples that the run showed before training: the "
                "token that ends an answer must be a target; use the template that it was trained with."
            )
        else:
            yield Advice("More steps (max_steps) teach the form better.", "more")


def _parts(completions: Sequence[str], pattern: str | None, lengths: Sequence[int]) -> dict[str, Callable[[str], bool]]:
    """What answers must have, by name: a plausible length, and what nearly all training completions have.

    Args:
        completions: Those that were trained on.
        pattern: Regular expression that finds the answer in a completion.
        lengths: Words of real completions.
    """
    shortest, longest = min(lengths) * _SHORTER, max(lengths) * _LONGER
    special: dict[str, Callable[[str], bool]] = {"valid JSON": _is_json}
    if pattern is not None:
        special[f"the pattern {pattern}"] = lambda text: re.search(pattern, text) is not None
    common = {name: has for name, has in special.items() if np.mean([has(text) for text in completions]) >= _ALL}
    return {"a plausible length": lambda text: shortest <= count_words(text) <= longest, **common}


def _is_json(text: str) -> bool:
    """Whether a text is a JSON object or list: a lone number or word is one by accident."""
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


MEASURE = FormMeasure()
