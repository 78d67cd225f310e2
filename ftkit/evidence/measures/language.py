"""Does it write language? Its passages under a reference model, or a classifier of real against corrupted text."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ftkit.display.tables import Cell, Gauge, PageTable, Part, Row
from ftkit.display.wording import interval, number, percent, percent_interval
from ftkit.evidence.intervals import Interval, bootstrap, exact_share
from ftkit.evidence.measure import Advice, Case, Finding, Measure, OpenRule, Outcome, Remark, Support
from ftkit.evidence.texts import spread_evenly

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison
    from ftkit.evidence.language import PassageCosts, Reference

__all__ = ["MEASURE", "Language"]

_MIN_AUC = 0.95
"""At which real text must be told from corrupted text: the bar of the judges."""
_MIN_COMPETENCE = 0.25
"""Share of bits that a reference must save over counted letters. On *Alice* SmolLM2-135M saves 41 %;
stories260k and a base of 3.7 million parameters, which write no language of books, save nothing."""
_GIBBERISH = 0.5
"""Excess of one passage from which it counts as gibberish: halfway from real text to shuffled words. Under SmolLM2-135M
none of 313 real passages of *Alice*, *Gulliver* and Poe is there, and 84 % of a chain of letters of order 6 are."""
_MOST_READ = 192
"""Real passages that a reference reads, spread evenly, and as many with shuffled words: as many as both models write at
the first look. A held-out fifth of *Gulliver* has 300, and a longer text more: minutes that decided nothing."""
_FEWEST_WORDS = 200
"""Words of passages below which a share of invented words says nothing."""


@dataclass(frozen=True)
class Language:
    """What decided whether the passages are language, and what it says."""

    by: Literal["reference", "classifier", ""]
    """Empty where neither could be had."""
    reason: str
    """Which reader it is and which gates it passed, or why there is none."""
    auc: float | None = None
    """Of real held-out passages against corrupted ones."""
    competence: float | None = None
    """Share of bits per byte that the reference saves over counted letters on held-out text."""
    excess: Interval | None = None
    """Bits per byte of the passages above real text, over those of shuffled words above real text: 0 is real text."""
    base_excess: Interval | None = None
    worse_than_base: Interval | None = None
    """Excess of the tuned model minus that of the base."""
    gibberish: Interval | None = None
    """Share of passages that cost the reference more than halfway from real text to shuffled words."""
    base_gibberish: Interval | None = None
    heldout_gibberish: Interval | None = None
    real_side: Interval | None = None
    """Share of passages that the classifier takes for real text."""
    base_real_side: Interval | None = None
    heldout_real_side: Interval | None = None
    learned: float | None = None
    """Share of bits per byte that the tuned model itself saves over counted letters; looked at without a reference."""
    invented: Interval | None = None
    """Share of words that are in no text of the run, above that of real text; looked at where no reference reads."""


class LanguageMeasure(Measure[Language]):
    """Asks whether the passages are language before anything is praised."""

    name, place, result, unit = "language", 55, Language, "0: real text, 1: shuffled words"
    needs = ("passages", "texts", "losses")
    question = "Is what it writes language, by a competent reader?"
    thresholds = {
        "language_excess": (
            0.5, "worked: the upper bound of the passages' excess over real text is at most this (shuffled words: 1)"
        ),
        "language_gibberish": (
            0.35, "worked: under a reference, the upper bound of the share of passages that are gibberish, above real "
            "text's, is at most this",
        ),
        "language_real_side": (
            0.5, "worked: a classifier takes this share of the passages for real, as a share of real text's"
        ),
        "language_learned": (
            0.4, "worked: without a reference, the model itself saves this share of the bits per byte that counted "
            "letters need",
        ),
        "language_invented": (
            0.03, "worked: without a reference, the upper bound of invented words above real text's is at most this"
        ),
    }  # fmt: skip

    def compute(self, comparison: Comparison) -> Language | None:
        if not comparison.writes or not comparison.prose:
            return None
        if not comparison.passages.real:
            return Language("", "there is no real passage to compare with")
        reasons = []
        for reference in comparison.references:
            found = _by_reference(comparison, reference)
            if found.by:
                return found
            reasons.append(found.reason)
        found = _by_classifier(comparison)
        return Language(**vars(found) | {"reason": "; ".join([*reasons, found.reason])})

    def findings(self, result: Language, case: Case) -> Iterable[Finding]:
        if result.by == "reference" and result.excess is not None and result.worse_than_base is not None:
            most = case.limits.own("language_excess")
            if result.excess.low > most and result.worse_than_base.low > 0:
                yield Finding(
                    "damaged",
                    f"it writes no language: its passages cost {result.reason} {result.excess.value:.0%} of what "
                    "shuffled words cost above real text",
                    f"language excess.low {result.excess.low:z.3f} > language_excess {most}",
                )
        bounds, tuned, base = _side_bounds(result, case), result.real_side, result.base_real_side
        if bounds and tuned and base and bounds.high < 0 and base.low > tuned.high:
            yield Finding(
                "damaged",
                f"it writes no language: {_shown(result)}",
                f"language real_side above.high {bounds.high:z.3f} < 0, "
                f"base_real_side.low {base.low:z.3f} > real_side.high {tuned.high:z.3f}",
            )

    def support(self, result: Language, case: Case) -> Support | None:
        if case.evidence.from_scratch:
            return None
        state, by = self._state(result, case)
        reasons = {
            "holds": [],
            "damaged": [f"{_fault(result, case)}: {_shown(result)}"],
            "open": [f"whether it writes language was not decided: {_shown(result)}"],
            "": [f"language was not checked: {result.reason}"],
        }[state]
        return Support(state == "holds", reasons, [by] if by else [], open=state == "open")

    def open_rules(self, result: Language, case: Case) -> Iterable[OpenRule]:
        if self._state(result, case)[0] == "open":
            yield OpenRule("language", "worked")

    def _state(self, result: Language, case: Case) -> tuple[Literal["holds", "damaged", "open", ""], str]:
        """What the rule says, and the number that decided."""
        if result.by == "reference" and (excess := result.excess) is not None:
            most = case.limits.own("language_excess")
            holds, fails = excess.high <= most, excess.low > most
            by = f"language excess [{excess.low:z.3f}, {excess.high:z.3f}], language_excess {most}"
            if share := _above_real(result.gibberish, result.heldout_gibberish):
                most = case.limits.own("language_gibberish")
                holds, fails = holds and share.high <= most, fails or share.low > most
                by += f", gibberish above real text's [{share.low:z.3f}, {share.high:z.3f}], language_gibberish {most}"
        elif result.by == "classifier" and (bounds := _side_bounds(result, case)) is not None:
            invented, most = result.invented, case.limits.own("language_invented")
            few = invented is None or invented.high <= most
            many = invented is not None and invented.low > most
            least = case.limits.own("language_learned")
            knows = result.learned is None or result.learned >= least
            holds, fails = bounds.low > 0 and few and knows, bounds.high < 0 or many or not knows
            words = "" if invented is None else f", invented [{invented.low:z.3f}, {invented.high:z.3f}] of {most}"
            saved = "" if result.learned is None else f", learned {result.learned:.3f} of {least}"
            by = f"language real_side above [{bounds.low:z.3f}, {bounds.high:z.3f}] of 0{words}{saved}"
        else:
            return "", ""
        return ("holds" if holds else "damaged" if fails else "open"), by

    def remarks(self, result: Language, case: Case) -> Iterable[Remark]:
        if result.by:
            yield Remark(f"language: {_shown(result)}", "worked")

    def rows(self, result: Language) -> Iterable[Row]:
        if result.excess is not None:
            yield Row("language: excess over real text (shuffled words: 1)", result.excess, result.base_excess, 0)
        if result.gibberish is not None:
            real, base = result.heldout_gibberish, result.base_gibberish
            yield Row("language: passages that are gibberish", result.gibberish, base, real, percent=True)
        if result.real_side is not None:
            real, base = result.heldout_real_side, result.base_real_side
            yield Row("language: passages taken for real text", result.real_side, base, real, percent=True)
        if result.invented is not None:
            yield Row("invented words above real text's", result.invented, percent=True)

    def headline(self, result: Language, outcome: Outcome) -> Iterable[str]:
        share, base = result.gibberish, result.base_gibberish
        if not result.by:
            yield "language was not checked"
        elif result.excess is None or not (share and base):
            yield _shown(result)
        else:
            yield f"{share.value:.0%} of its passages are gibberish (the base's: {base.value:.0%})"

    def gauges(self, result: Language, outcome: Outcome) -> Iterable[Gauge]:
        if result.excess is not None:
            excess = result.excess
            position = Interval(1 - excess.value, 1 - excess.high, 1 - excess.low)
            yield Gauge("Language", position, zero="shuffled words")

    def parts(self, results: Mapping[str, Language], document: Mapping[str, Any]) -> Iterable[Part]:
        table = PageTable(
            "Language, with intervals at the level of the look",
            (
                "Model", "Read by", "AUC, real against corrupted", "Competence", "Tuned", "Base", "Real text",
                "Gibberish", "Invented",
            ),
            [
                (
                    name,
                    [[
                        Cell(found.reason, "long"), number(found.auc), percent(found.competence),
                        interval(found.excess) if found.excess else percent_interval(found.real_side),
                        interval(found.base_excess) if found.base_excess else percent_interval(found.base_real_side),
                        "0" if found.excess else percent_interval(found.heldout_real_side),
                        percent_interval(found.gibberish), percent_interval(found.invented),
                    ]],
                )
                for name, found in results.items()
            ],
        )  # fmt: skip
        yield Part(
            "language", "Language",
            "A reference is a language model that reads the text well: it tells real passages from the same words "
            "shuffled, and saves a quarter of the bits over counted letters. Excess: bits per byte of the passages "
            "above real text, over those of shuffled words above real text; 0 is real text. Gibberish: passages "
            "whose own excess is above one half. Where no reference passes, a classifier learns real text against "
            "shuffled words and chains of letters; shares are of passages that it takes for real.",
            [table], link="Language",
        )  # fmt: skip

    def advice(self, result: Language, outcome: Outcome) -> Iterable[str | Advice]:
        if not outcome.undecided:
            return
        if not result.by or (result.by == "classifier" and "worked" not in outcome.words):
            yield (
                "Give a language model that reads such text as a reference (ftkit verdict --reference "
                "FOLDER_OR_HUB_ID), or start from a base that writes sentences: read its samples."
            )


def _by_reference(comparison: Comparison, reference: Reference) -> Language:
    from sklearn.metrics import roc_auc_score

    from ftkit.evidence.language import passage_costs

    name = reference.name
    real, shuffled = comparison.once(f"{name} reads real text", lambda: _ends(comparison, reference))
    auc = float(roc_auc_score(np.repeat([0, 1], len(real.bits)), np.concatenate([real.each, shuffled.each])))
    cost, letters = comparison.once(f"competence of {name}", lambda: _competence(comparison, reference))
    saved = 1 - cost / letters if letters else 0.0
    if auc < _MIN_AUC:
        return Language(
            "", f"{name} does not tell real from shuffled text (AUC {auc:.2f}, {_MIN_AUC} is needed)", auc, saved
        )
    if not saved >= _MIN_COMPETENCE:
        return Language(
            "",
            f"{name} reads this text too badly to judge it: {cost:.2f} bits per byte, counted letters "
            f"{letters:.2f}, and {_MIN_COMPETENCE:.0%} less are needed",
            auc, saved,
        )  # fmt: skip
    level = comparison.shared_level

    def gibberish(passages: PassageCosts) -> Interval:
        return exact_share(int((passages.excess(real, shuffled) > _GIBBERISH).sum()), len(passages.bits), level)

    def excess(passages: np.ndarray, real_BT: np.ndarray, shuffled_BT: np.ndarray) -> np.ndarray:
        found, least, most = (
            group.sum(-2)[..., 0] / group.sum(-2)[..., 1] for group in (passages, real_BT, shuffled_BT)
        )
        return np.asarray((found - least) / np.maximum(most - least, 1e-6))

    tuned = passage_costs(reference, comparison.passages.tuned)
    base = comparison.once(
        f"{name} reads {len(comparison.passages.base)} of the base",
        lambda: passage_costs(reference, comparison.passages.base),
    )
    ends = (real.table, shuffled.table)
    return Language(
        "reference", name, auc, saved,
        excess=bootstrap(excess, tuned.table, *ends, level=level),
        gibberish=gibberish(tuned), base_gibberish=gibberish(base), heldout_gibberish=gibberish(real),
        base_excess=bootstrap(excess, base.table, *ends, level=level),
        worse_than_base=bootstrap(
            lambda t, b, r, s: excess(t, r, s) - excess(b, r, s), tuned.table, base.table, *ends, level=level
        ),
    )  # fmt: skip


def _ends(comparison: Comparison, reference: Reference) -> tuple[PassageCosts, PassageCosts]:
    """What real passages and the same with shuffled words cost a reference."""
    from ftkit.evidence.corrupted import shuffle_passages
    from ftkit.evidence.language import passage_costs

    real = spread_evenly(comparison.passages.real, _MOST_READ)
    return passage_costs(reference, real), passage_costs(reference, shuffle_passages(real, random.Random(0)))


def _competence(comparison: Comparison, reference: Reference) -> tuple[float, float]:
    """Bits per byte of held-out text under a reference, and under counted letters of the training text."""
    from ftkit.data import tokenize_texts
    from ftkit.training import HeldOutWindows, held_out_loss

    if reference.beneath or reference.model is comparison.base:
        loss = comparison.losses[0]
    else:
        store = tokenize_texts(["\n\n".join(comparison.passages.real)], reference.tokenizer)
        loss = held_out_loss(reference.model, HeldOutWindows(store, comparison.window_tokens), comparison.max_windows)
    return loss.bits_per_byte, comparison.once("counted letters", lambda: _letters(comparison))


def _by_classifier(comparison: Comparison) -> Language:
    from sklearn.metrics import roc_auc_score

    from ftkit.evidence.corrupted import shuffle_passages
    from ftkit.evidence.language import learn_language

    real = comparison.passages.real
    classifier = comparison.once("classifier of language", lambda: learn_language(comparison.train_passages))
    if classifier is None:
        return Language("", "the training text is too short for a classifier of language")
    right, wrong = classifier.real_side(real), classifier.real_side(shuffle_passages(real, random.Random(0)))
    auc = float(roc_auc_score(np.repeat([1, 0], [len(right), len(wrong)]), np.concatenate([right, wrong])))
    if auc < _MIN_AUC:
        why = f"a classifier does not tell held-out text from shuffled words (AUC {auc:.2f}, {_MIN_AUC} is needed)"
        return Language("", why, auc)
    level = comparison.shared_level

    def share(passages: Sequence[str]) -> Interval:
        return exact_share(int((classifier.real_side(passages) > 0.5).sum()), len(passages), level)

    tuned, base = share(comparison.passages.tuned), share(comparison.passages.base)
    return Language(
        "classifier", "a classifier of real against corrupted text", auc,
        real_side=tuned, base_real_side=base, heldout_real_side=share(real),
        learned=_learned(comparison), invented=_invented(comparison, level),
    )  # fmt: skip


def _learned(comparison: Comparison) -> float | None:
    letters = comparison.once("counted letters", lambda: _letters(comparison))
    cost = comparison.losses[1].bits_per_byte
    return 1 - cost / letters if letters and math.isfinite(cost) else None


def _letters(comparison: Comparison) -> float:
    """Bits per byte of held-out passages under counted letters of the training text."""
    from ftkit.evidence.language import counted_letters

    return counted_letters(comparison.train_passages, comparison.passages.real)


def _invented(comparison: Comparison, level: float) -> Interval | None:
    from ftkit.data.words import words_of

    def counts(passages: Sequence[str], known: frozenset[str]) -> np.ndarray:
        words = [words_of(passage) for passage in passages]
        return np.array([[sum(word not in known for word in row), len(row)] for row in words], dtype=float)

    tuned = counts(comparison.passages.tuned, comparison.known_words)
    real = counts(comparison.passages.real, comparison.known_beside_heldout)
    if min(tuned[:, 1].sum(), real[:, 1].sum()) < _FEWEST_WORDS:
        return None

    def share(table: np.ndarray) -> np.ndarray:
        sums = table.sum(-2)
        return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))

    return bootstrap(lambda t, r: share(t) - share(r), tuned, real, level=level)


def _side_bounds(result: Language, case: Case) -> Interval | None:
    """Share taken for real, minus the part of real text's that is needed; above 0 it holds."""
    return _above_real(result.real_side, result.heldout_real_side, case.limits.own("language_real_side"))


def _fault(result: Language, case: Case) -> str:
    """The condition on language that does not hold, as a clause."""
    bounds = _side_bounds(result, case)
    if bounds is None or bounds.low <= 0:
        return "it learned the words and writes no language"
    most, least = case.limits.own("language_invented"), case.limits.own("language_learned")
    if result.invented is not None and result.invented.low > most:
        return f"its passages look like language, but more of its words are invented than the {most:.0%} that may be"
    return f"its passages look like language, but it saves less than {least:.0%} of the bits that counted letters need"


def _above_real(share: Interval | None, real: Interval | None, part: float = 1.0) -> Interval | None:
    """A share minus a part of real text's."""
    if share is None or real is None:
        return None
    return Interval(share.value - part * real.value, share.low - part * real.high, share.high - part * real.low)


def _shown(result: Language) -> str:
    if result.excess is not None and result.base_excess is not None:
        share, base = result.gibberish, result.base_gibberish
        more = f"; {share.value:.0%} of them are gibberish (the base's: {base.value:.0%})" if share and base else ""
        return (
            f"under {result.reason} its passages are {result.excess.value:.0%} of the way from real text to shuffled "
            f"words (the base's: {result.base_excess.value:.0%}){more}"
        )
    if result.real_side is None or result.heldout_real_side is None:
        return result.reason
    words = "" if result.invented is None else f"; {max(result.invented.value, 0.0):.1%} of its words are invented"
    if result.learned is not None:
        than = f"{abs(result.learned):.0%} {'fewer' if result.learned > 0 else 'more'}"
        words += f"; it needs {than} bits per byte of held-out text than a count of letters"
    return (
        f"a classifier takes {result.real_side.value:.0%} of its passages for real text (real text: "
        f"{result.heldout_real_side.value:.0%}){words}"
    )


MEASURE = LanguageMeasure()
