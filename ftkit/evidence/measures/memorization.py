"""What it knows by heart: passages of the training text whose loss fell further than that of text it never saw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ftkit.display.tables import Cell, PageTable, Part, Row
from ftkit.display.wording import number, percent, percent_interval
from ftkit.evidence.intervals import Interval, Number, exact_share
from ftkit.evidence.measure import Case, Measure, Remark

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison
    from ftkit.training import HeldOutDataset, HeldOutLoss

__all__ = ["MEASURE", "Canaries", "KnownPassage", "Memorization"]

_FALSE_POSITIVES = 0.01
"""Share of held-out passages that may be taken for known ones: the rate at which such tests are compared (Carlini et
al. 2022, https://arxiv.org/abs/2112.03570)."""
_SURE = 0.025
"""Chance below which it is said: one side of a 95 % interval."""
_PIECES = 400
"""Pieces of held-out text beside canaries: 1 % of them are four."""
_SHOWN = 10
"""Passages that are shown: enough to see what they have in common."""
_SHOWN_CHARACTERS = 300
"""Of a passage: about four lines of a table."""


@dataclass(frozen=True)
class KnownPassage:
    """A passage of the training text whose loss fell further than that of held-out text."""

    place: float
    """Where it stands in the training text, as a share of it: 0 is the beginning."""
    gain: Number
    """Bits per byte that the tuned model saves on it."""
    base: Number
    """Bits per byte of the base."""
    tuned: Number
    text: str
    """Its beginning; empty where the rows have no tokenizer."""


@dataclass(frozen=True)
class Canaries:
    """Short texts of a person's own, beside pieces of held-out text of their median length."""

    found: Interval
    """Share whose gain is above ``limit``; exact interval."""
    expected: float
    """Share of pieces of held-out text that would be found."""
    limit: Number
    """Bits per byte."""
    tokens: int
    """Of a piece of held-out text."""
    each: tuple[KnownPassage, ...]
    """All canaries in their order; ``place`` is 0 for the first."""


@dataclass(frozen=True)
class Memorization:
    """Passages of the training text that can be told from held-out ones by what was gained on them."""

    found: Interval
    """Share of the training passages whose gain is above ``limit``; exact interval."""
    expected: float
    """Share that would be found of text that was never trained on."""
    chance: float
    """How often as many or more would be found if nothing were memorized and passages were exchangeable."""
    limit: float
    """Bits per byte: gain that hardly any held-out passage has."""
    passages: int
    """Training passages that were looked at."""
    heldout_passages: int
    known: tuple[KnownPassage, ...] = ()
    """Those with the largest gains above the limit, the largest first."""
    canaries: Canaries | None = None
    """``None`` where none were given."""


class MemorizationMeasure(Measure[Memorization]):
    """Asks which passages of the training text it knows better than what it learned in general would explain."""

    name, place, result, unit, needs = "memorization", 15, Memorization, "share of passages; bits per byte", ("losses",)
    question = "Which passages of its training text can be told from held-out ones by their loss?"

    def compute(self, comparison: Comparison) -> Memorization | None:
        if (trained := comparison.train_losses) is None or comparison.from_scratch:
            return None
        before, after = _bits(trained)
        heldout_before, heldout_after = _bits(comparison.losses)
        gain, heldout = before - after, heldout_before - heldout_after
        if not len(gain) or not len(heldout) or not np.isfinite([*gain, *heldout]).all():
            return None
        limit, expected, place = _limit(heldout)
        assert comparison.texts.train is not None
        rows = comparison.rows_of(comparison.texts.train)
        numbers = rows.spread(len(trained[0].nats))[_readable(trained)]
        most = [at for at in np.argsort(-gain, kind="stable")[:_SHOWN] if gain[at] > limit]
        known = _known(rows, numbers[most], before[most], after[most], len(rows))
        count = int((gain > limit).sum())
        return Memorization(
            exact_share(count, len(gain)), expected, _as_many(count, len(gain), place, len(heldout)), limit, len(gain),
            len(heldout), known, _canaries(comparison),
        )  # fmt: skip

    def remarks(self, result: Memorization, case: Case) -> Iterable[Remark]:
        if result.chance < _SURE:
            yield Remark(
                f"{percent(result.found.value)} of {result.passages} training passages can be told from held-out ones "
                f"by their loss ({percent(result.expected)} would be by chance)",
                "gain",
            )

        if (canaries := result.canaries) is not None:
            yield Remark(
                f"canaries: {percent(canaries.found.value)} of {len(canaries.each)} gained more than "
                f"{1 - canaries.expected:.0%} of held-out pieces of their length"
            )

    def rows(self, result: Memorization) -> Iterable[Row]:
        label = "training passages that can be told from held-out ones"
        yield Row(label, result.found, None, result.expected, percent=True)
        if (canaries := result.canaries) is not None:
            yield Row("canaries that it knows", canaries.found, None, canaries.expected, percent=True)

    def parts(self, results: Mapping[str, Memorization], document: Mapping[str, Any]) -> Iterable[Part]:
        shares = PageTable(
            "Training passages on which it gained more than on nearly all held-out ones; exact 95 % intervals",
            ("Model", "Found", "By chance", "Gain above, bits per byte", "Training passages", "Held-out passages"),
            [
                (
                    name,
                    [[
                        percent_interval(found.found), percent(found.expected), number(found.limit),
                        number(found.passages), number(found.heldout_passages),
                    ]],
                )
                for name, found in results.items()
            ],
        )  # fmt: skip
        tables = [shares]
        if known := [(name, _shown(found.known)) for name, found in results.items() if found.known]:
            tables.append(PageTable("The passages with the largest gains", _HEADS, known))
        if canaries := [(name, _shown(found.canaries.each)) for name, found in results.items() if found.canaries]:
            tables.append(PageTable("Canaries", _HEADS, canaries))
        yield Part(
            "memorization", "Memorization",
            "A passage that was learned by heart gains more than text of the same kind that was never seen. This is no "
            "certificate of privacy: what is not found here can still be memorized.",
            tables,
        )  # fmt: skip


def _limit(heldout: np.ndarray) -> tuple[float, float, int]:
    """The gain that hardly any held-out passage has, the share of exchangeable ones above it, and its place from the
    top, which is 1 for the largest."""
    place = int(_FALSE_POSITIVES * len(heldout)) + 1
    return float(np.sort(heldout)[-place]), place / (len(heldout) + 1), place


def _known(
    rows: HeldOutDataset, numbers: np.ndarray, before: np.ndarray, after: np.ndarray, of: int
) -> tuple[KnownPassage, ...]:
    return tuple(
        KnownPassage(number / of, one - other, one, other, _beginning(rows, number))
        for number, one, other in zip(numbers.tolist(), before.tolist(), after.tolist(), strict=True)
    )


def _canaries(comparison: Comparison) -> Canaries | None:
    """Gains on the canaries beside those on pieces of held-out text as long as they are."""
    if (canaries := comparison.texts.canaries) is None or comparison.masking is not None:
        return None
    from ftkit.training import HeldOutWindows

    losses = comparison.pair_of_losses(canaries, most=len(canaries))
    tokens = int(np.median(losses[0].targets)) + 1
    pieces = HeldOutWindows(comparison.heldout_text, max(tokens, 2))
    compared = _bits(comparison.pair_of_losses(pieces, most=_PIECES))
    before, after = _bits(losses)
    if not len(before) or not len(compared[0]):
        return None
    limit, expected, _ = _limit(compared[0] - compared[1])
    numbers = np.arange(len(canaries))[_readable(losses)]
    found = exact_share(int((before - after > limit).sum()), len(before))
    return Canaries(found, expected, limit, tokens, _known(canaries, numbers, before, after, len(canaries)))


def _as_many(count: int, trained: int, place: int, heldout: int) -> float:
    """Chance that so many or more of some training passages stand above the one in this place of the held-out ones.

    If all passages are exchangeable, the number is that of the red balls that are drawn before the ``place``-th black
    one (negative hypergeometric distribution).
    """
    from scipy.stats import nhypergeom

    return float(nhypergeom.sf(count - 1, trained + heldout, trained, place))


_HEADS = ("Model", "Place", "Gain, bits per byte", "Base", "Tuned", "Its beginning")


def _shown(passages: Iterable[KnownPassage]) -> list[list[str | Cell]]:
    """Rows of a table of passages."""
    return [
        [percent(each.place), *map(number, (each.gain, each.base, each.tuned)), Cell(each.text, "quote")]
        for each in passages
    ]


def _readable(losses: tuple[HeldOutLoss, HeldOutLoss]) -> np.ndarray:
    """Rows with text that both tokenizers can write, bool [rows]."""
    return np.asarray((losses[0].bytes > 0) & (losses[1].bytes > 0))


def _bits(losses: tuple[HeldOutLoss, HeldOutLoss]) -> tuple[np.ndarray, np.ndarray]:
    """Bits per byte of each readable row, of base and tuned model."""
    rows = _readable(losses)
    before, after = (loss.nats[rows] / np.log(2) / loss.bytes[rows] for loss in losses)
    return before, after


def _beginning(rows: HeldOutDataset, number: int) -> str:
    """The first characters of what a row asks for."""
    if rows.tokenizer is None:
        return ""
    from ftkit.training.objectives import IGNORED

    labels = rows.rows(np.array([number]))["labels"][0]
    text = str(rows.tokenizer.decode(labels[labels != IGNORED].tolist()))
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " ..."


MEASURE = MemorizationMeasure()
