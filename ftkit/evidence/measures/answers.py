"""Answers beside real completions: exact match, shared tokens, and the longest common subsequence of words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ftkit.data.words import words_of
from ftkit.display.tables import Cell, PageTable, Part, Row
from ftkit.display.wording import number, percent_interval
from ftkit.evidence.intervals import Interval, bootstrap, change_of_share, exact_share
from ftkit.evidence.measure import Case, Measure, Remark, Support

if TYPE_CHECKING:
    from ftkit.evidence.answers import Answers, ComparedAnswers
    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE", "AnswerScores", "ComparedScores"]

_SHOWN = 6
"""Prompts whose answers the page shows in full."""


@dataclass(frozen=True)
class AnswerScores:
    """Answers of one model beside real completions."""

    exact: Interval
    """Share whose answer is that of the completion, but for case, white space and a last stop."""
    token_f1: Interval
    """Mean F1 of words, as in SQuAD (Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250)."""
    rouge_l: Interval
    """Mean ROUGE-L F1 (Lin 2004, https://aclanthology.org/W04-1013), by the package ``rouge_score``."""


@dataclass(frozen=True)
class ComparedScores:
    """Scores of base and tuned model on the same prompts."""

    answers: int
    base: AnswerScores
    tuned: AnswerScores
    exact_change: Interval
    """Change of the exact match, paired."""
    few_shot: AnswerScores | None = None
    """Of the base with examples in its prompt, on the first prompts; means over draws of the examples."""
    few_shot_answers: int = 0
    samples: tuple[dict[str, str], ...] = ()
    """Prompts with the answers of base and tuned model and the real completion."""


class AnswersMeasure(Measure[ComparedScores]):
    """Asks how near answers are to real completions."""

    name, place, result, unit, needs = "answers", 14, ComparedScores, "share; F1", ("passages", "texts")
    thresholds = {
        "exact_loss": (
            0.02, "worked: the upper bound of the change in exact match is not below minus this (share)"
        )
    }  # fmt: skip
    question = "How many of its answers are right, and how near are they to real completions?"

    def compute(self, comparison: Comparison) -> ComparedScores | None:
        examples, answers = comparison.examples, comparison.answers
        if examples is None or answers is None or not answers.examples:
            return None
        real = [example.completion for example in answers.examples]
        pattern, level = examples.answer_pattern, comparison.level

        def right(of: Answers) -> np.ndarray:
            pairs = zip(of.texts, real, strict=False)
            return np.array([_same(text, completion, pattern) for text, completion in pairs])

        def scores(*draws: Answers) -> AnswerScores:
            exact = np.mean([right(of) for of in draws], axis=0)
            rouge = np.mean([_rouge(of.texts, real[: len(of)]) for of in draws], axis=0)
            f1 = np.mean([[token_f1(*pair) for pair in zip(of.texts, real, strict=False)] for of in draws], axis=0)
            return AnswerScores(
                exact_share(float(exact.sum()), len(exact), level), bootstrap(lambda x: x.mean(-1), f1, level=level),
                bootstrap(lambda x: x.mean(-1), rouge, level=level),
            )  # fmt: skip

        few = answers.few_shot
        return ComparedScores(
            len(real), scores(answers.base), scores(answers.tuned),
            change_of_share(right(answers.base), right(answers.tuned)), scores(*few) if few else None,
            len(few[0]) if few else 0, _samples(answers, _SHOWN),
        )  # fmt: skip

    def support(self, result: ComparedScores, case: Case) -> Support | None:
        most, change = case.limits.own("exact_loss"), result.exact_change
        holds = change.high >= -most
        said = f"exact match {result.tuned.exact.value:.1%} (base: {result.base.exact.value:.1%}, change {change})"
        by = f"exact_change.high {change.high:z.3f} {'>=' if holds else '<'} -exact_loss {most}"
        return Support(holds, [] if holds else [f"fewer of its answers are right: {said}"], [by])

    def remarks(self, result: ComparedScores, case: Case) -> Iterable[Remark]:
        change = result.exact_change
        yield Remark(
            f"exact match of {result.answers} answers: {result.tuned.exact.value:.1%}, base "
            f"{result.base.exact.value:.1%} (change {change.value:+.1%} [{change.low:+.1%}, {change.high:+.1%}])",
            "gain",
        )

    def rows(self, result: ComparedScores) -> Iterable[Row]:
        yield Row("exact match of answers", result.tuned.exact, result.base.exact, percent=True)
        yield Row("token F1 of answers", result.tuned.token_f1, result.base.token_f1, 1.0)
        yield Row("ROUGE-L F1 of answers", result.tuned.rouge_l, result.base.rouge_l, 1.0)
        if result.few_shot is not None:
            yield Row("exact match of the base after examples", None, result.few_shot.exact, percent=True)

    def parts(self, results: Mapping[str, ComparedScores], document: Mapping[str, Any]) -> Iterable[Part]:
        rows: list[tuple[str, list[list[str | Cell]]]] = []
        for name, found in results.items():
            sides = [("base", found.base, found.answers), ("tuned", found.tuned, found.answers)]
            if found.few_shot:
                sides.insert(1, ("base after examples", found.few_shot, found.few_shot_answers))
            cells: list[list[str | Cell]] = [
                [
                    Cell(side), number(count), percent_interval(scores.exact), percent_interval(scores.token_f1),
                    percent_interval(scores.rouge_l),
                ]
                for side, scores, count in sides
            ]  # fmt: skip
            rows.append((name, cells))
        table = PageTable(
            "Answers to held-out prompts beside real completions, with their intervals",
            ("Model", "Answers of", "Answers", "Exact match", "Token F1", "ROUGE-L F1"),
            rows,
        )
        shown = [
            PageTable(
                f"Prompts with all answers, {name}",
                ("Prompt", "Who", "Text"),
                [
                    (
                        each["prompt"],
                        [[Cell(who), Cell(each[key], "long")] for who, key in _WHO.items()],
                    )
                    for each in found.samples
                ],
            )
            for name, found in results.items()
            if found.samples
        ]
        yield Part("answers", "Answers", tables=[table, *shown], link="Answers", after_samples=False)
        if seen := document.get("shown_examples"):
            rows_seen = [(str(number), [[Cell(text, "long")]]) for number, text in enumerate(seen, start=1)]
            caption = "Training examples as the model sees them, targets in [[ ]]"
            yield Part("shown-examples", "Examples", tables=[PageTable(caption, ("Example", "Text"), rows_seen)])


_WHO = {"Base model": "base", "Tuned model": "tuned", "Real completion": "real"}


def normalized_answer(completion: str, pattern: str | None) -> str | None:
    """The answer in a completion, with white space and case evened out; ``None`` where the pattern finds none."""
    if pattern is not None:
        found = re.findall(pattern, completion)
        if not found:
            return None
        completion = found[-1] if isinstance(found[-1], str) else next(iter(found[-1]))
    return re.sub(r"\s+", " ", completion).strip().strip(".").casefold()


def _same(text: str, completion: str, pattern: str | None) -> bool:
    """Whether an answer is that of the completion."""
    answer, real = normalized_answer(text, pattern), normalized_answer(completion, pattern)
    return answer is not None and answer == real


def token_f1(text: str, real: str) -> float:
    """F1 of the words of two texts, without case and punctuation, each counted as often as it occurs."""
    words, true = (Counter(words_of(each)) for each in (text, real))
    shared = (words & true).total()
    if not shared:
        return float(words == true)
    precision, recall = shared / words.total(), shared / true.total()
    return 2 * precision * recall / (precision + recall)


def _rouge(texts: Sequence[str], real: Sequence[str]) -> np.ndarray:
    """ROUGE-L F1 of each answer."""
    from rouge_score.rouge_scorer import RougeScorer

    score: Callable[[str, str], Any] = RougeScorer(["rougeL"]).score
    return np.array([score(true, text)["rougeL"].fmeasure for text, true in zip(texts, real, strict=True)])


def _samples(answers: ComparedAnswers, most: int) -> tuple[dict[str, str], ...]:
    """The first prompts with all answers, for the page."""
    return tuple(
        {
            "prompt": example.prompt_text, "base": answers.base.texts[n], "tuned": answers.tuned.texts[n],
            "real": example.completion,
        }
        for n, example in enumerate(answers.examples[:most])
    )  # fmt: skip


MEASURE = AnswersMeasure()
