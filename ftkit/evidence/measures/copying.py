"""Did it copy? Verbatim overlap with the training text, beside that of real text which was not trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ftkit.display.figures import Bars, Figure, Kind
from ftkit.display.tables import Cell, PageTable, Part, Row
from ftkit.display.wording import number, percent, percent_interval
from ftkit.evidence.copying import CopyIndex, Copying, copying
from ftkit.evidence.measure import Advice, Case, Finding, Measure, OpenRule, Outcome, Remark, RunResults

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE"]


class CopyingMeasure(Measure[Copying]):
    """Asks how much of its text occurs in the training text."""

    name, place, result, unit, needs = "copying", 50, Copying, "share of n-grams; words", ("passages", "texts")
    kinds = {
        "copying": Kind(
            "{ngram}-grams found in the training text, %",
            (
                Bars(where={"text": "generated"}, text="{value:.1f} %"),
                Bars(where={"text": "held-out"}, text="{value:.1f} %", color=None),
            ),
            rows="{model}, {text}",
            scale=100,
            covers=(0, 0.05),  # a bar of a small share is short
        )
    }
    thresholds = {
        "not_copied": (
            0.1, "not copied: the upper bound of copied passages above real text's and the base's is below this (share)"
        )
    }  # fmt: skip
    question = "How much of what it writes occurs in the training text, beside real text that was not trained on?"

    def compute(self, comparison: Comparison) -> Copying | None:
        if comparison.examples is not None:
            return _of_answers(comparison)
        if not comparison.writes:
            return None
        passages = comparison.passages
        index = comparison.once("copy index", lambda: CopyIndex(comparison.texts.train_texts))
        recited, base = passages.tuned_recited, passages.base_recited
        found = copying(recited or passages.tuned, passages.real, index, base or passages.base, comparison.level)
        if not recited:
            return found
        spans = tuple(map(tuple, index.spans(passages.tuned)))
        return replace(found, spans=spans, recited_spans=found.spans)

    def findings(self, result: Copying, case: Case) -> Iterable[Finding]:
        limits, above = case.limits, result.copied_above
        of_examples = case.evidence.heldout.rows == "examples"
        passages = "answers to training prompts" if of_examples else "passages"
        if above is not None and result.copied is not None and above.low > limits.copied_excess:
            yield Finding(
                "copied",
                f"{result.copied.value:.0%} of its {passages} repeat {result.run} words or more of the training text "
                f"in a row; the longest such run has {result.longest_run} words",
                f"copied_above.low {above.low:z.3f} > copied_excess {limits.copied_excess}",
            )
        if of_examples:  # what completions have in common is no sign of a bad split; their prompts are compared
            return
        if above is None and result.excess.low > limits.copied_excess:
            yield Finding(
                "copied",
                f"{result.rate.value:.1%} of its word {result.ngram}-grams occur in the training text, "
                f"{result.heldout_rate.value:.1%} of real held-out text's",
                f"copying excess.low {result.excess.low:z.3f} > copied_excess {limits.copied_excess}",
            )
        if result.ngrams_per_passage < limits.min_ngrams:
            yield Finding(
                "too_little",
                f"copying could not be measured: a passage has {result.ngrams_per_passage:.1f} {result.ngram}-grams on "
                "average; set a larger passage_chars",
                f"ngrams_per_passage {result.ngrams_per_passage:.1f} < min_ngrams {limits.min_ngrams}",
            )
        if result.heldout_rate.value > limits.seen_heldout:
            yield Finding(
                "not_held_out",
                f"the text is not held out: {result.heldout_rate.value:.0%} of its {result.ngram}-grams occur in "
                "training text of the model or of the base; remove the duplicates",
                f"copying heldout_rate {result.heldout_rate.value:.3f} > seen_heldout {limits.seen_heldout}",
            )

    def open_rules(self, result: Copying, case: Case) -> Iterable[OpenRule]:
        above = result.copied_above
        if above is not None and above.low <= case.limits.copied_excess and above.high >= case.limits.own("not_copied"):
            yield OpenRule("copying", "copied")

    def remarks(self, result: Copying, case: Case) -> Iterable[Remark]:
        yield Remark(
            f"not copied: {result.rate.value:.1%} of its word {result.ngram}-grams occur in the training text (real "
            f"held-out text: {result.heldout_rate.value:.1%}), longest run {result.longest_run} words",
            "worked",
        )

    def rows(self, result: Copying) -> Iterable[Row]:
        for found in result.by_length or [result]:
            label = f"word {found.ngram}-grams copied from the training text"
            yield Row(label, found.rate, None, found.heldout_rate, percent=True)
        if result.copied is not None:
            label = f"passages that repeat {result.run} words of the training text in a row"
            yield Row(label, result.copied, result.base_copied, result.heldout_copied, percent=True)
        yield Row("longest copied run, words", result.longest_run, None, result.heldout_longest_run)

    def headline(self, result: Copying, outcome: Outcome) -> Iterable[str]:
        rate, real = percent(result.rate.value), percent(result.heldout_rate.value)
        yield f"{rate} of its {result.ngram}-grams are copied (real text: {real})"
        if outcome.words[0] == "copied":
            yield f"the longest copied run has {number(result.longest_run)} words"

    def parts(self, results: Mapping[str, Copying], document: Mapping[str, Any]) -> Iterable[Part]:
        tables = [
            PageTable(
                "Runs of words that occur in the training text, with 95 % intervals",
                ("Model", "Generated", "Held-out real text", "Excess", "Longest run, words", "The longest copied run"),
                [(name, [_run_cells(found)]) for name, found in results.items()],
            )
        ]
        if any(found.by_length for found in results.values()):
            by_length = PageTable(
                "By length of the run: share of n-grams and of passages with at least one, with 95 % intervals",
                (
                    "Model", "Words", "n-grams, generated", "n-grams, real text", "Passages, generated",
                    "Passages, real text",
                ),
                [
                    (
                        name,
                        [
                            [
                                number(c.ngram),
                                *map(percent_interval, (c.rate, c.heldout_rate, c.passages, c.heldout_passages)),
                            ]
                            for c in found.by_length
                        ],
                    )
                    for name, found in results.items()
                    if found.by_length
                ],
            )  # fmt: skip
            tables.append(by_length)
        yield Part(
            "copying", "Copying",
            "Real prose shares stock phrases with other prose of its author. What counts is the excess over real text "
            "that was not trained on.",
            tables, ("copying",), link="Copying",
        )  # fmt: skip

    def figures(self, results: RunResults) -> Iterable[Figure]:
        rows = [
            {"model": model, "text": text, "ngram": found.ngram, **vars(rate)}
            for model, found in results.measured_by(self.name).items()
            for text, rate in (("generated", found.rate), ("held-out", found.heldout_rate))
        ]
        caption = (
            "Share of runs of words that occur in the training text. Colour: generated. Grey: real text, held out."
        )
        yield Figure("copying", "Verbatim overlap with the training text", caption, rows)

    def marks(self, result: Copying) -> tuple[Sequence[Any], Sequence[Any]]:
        return result.spans, result.heldout_spans

    def advice(self, result: Copying, outcome: Outcome) -> Iterable[str | Advice]:
        if "copied" in outcome.words:
            passes = outcome.passes
            made = f"It trained for {number(passes)} epochs on its text" if passes else "It memorized its text"
            yield Advice(f"{made}: take fewer steps (max_steps), or give it more text.", "less")
            yield Advice("A lower learning_rate or fewer trainable weights also leave less room to memorize.", "less")
        if "unsure" not in outcome.words or outcome.rule == "unreadable":
            return
        if result.heldout_rate.value > outcome.limit("seen_heldout", 1.0):
            yield (
                f"{result.heldout_rate.value:.0%} of the held-out text's {result.ngram}-grams occur in training text, "
                "so the result is not valid. Take a text that is new to the base, or remove duplicates from the corpus."
            )
        elif result.ngrams_per_passage < (least := outcome.limit("min_ngrams", 0.0)):
            yield (
                f"Its passages have {result.ngrams_per_passage:.1f} {result.ngram}-grams on average, and {least:g} are "
                f"needed to see copying: raise passage_chars{outcome.was('passage_chars')}."
            )


def _of_answers(comparison: Comparison) -> Copying | None:
    """What answers to training prompts repeat of the completions; one that stands under several prompts is no copy.
    Short answers are alike without having been copied: of them nothing is measured."""
    examples, answers = comparison.examples, comparison.answers
    if examples is None or answers is None or not answers.recited:
        return None
    real = [example.completion for example in answers.examples]
    once = [text for text, count in Counter(examples.completions).items() if count == 1]
    index = comparison.once("copy index", lambda: CopyIndex(once))
    found = copying(answers.tuned_recited.texts, real, index, answers.base_recited.texts, comparison.level)
    return found if found.copied is not None else None


def _run_cells(found: Copying) -> list[str | Cell]:
    shortest = found.by_length[0].ngram if found.by_length else found.ngram
    text = found.longest_run_text
    return [
        percent_interval(found.rate), percent_interval(found.heldout_rate), percent_interval(found.excess),
        f"{number(found.longest_run)} (real text {number(found.heldout_longest_run)})",
        Cell(text, "quote") if text else Cell(f"no run of {shortest} words or more", "long"),
    ]  # fmt: skip


MEASURE = CopyingMeasure()
