"""Numbers are written for people, sentences hold the deciding numbers, and advice follows the evidence."""

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from report_runs import around, evidence_of, style_score

from ftkit.display.wording import interval, number, percent, percent_interval, table_cell
from ftkit.evidence import Copying, Evidence, Interval, Thresholds, WordOrder, decide
from ftkit.report import advice
from ftkit.report.advice import next_steps
from ftkit.report.wording import headline, outcome
from ftkit.tuning import Movement


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.0, "0"),
        (7, "7"),
        (124439808, "124,439,808"),
        (-3, "−3"),
        (2.0149, "2.01"),
        (0.34, "0.340"),
        (1234.5, "1,234"),
        (0.00333, "0.00333"),
        (5e-5, "5 × 10⁻⁵"),
        (-1.25e-7, "−1.25 × 10⁻⁷"),
        (-0.5, "−0.500"),
        (None, "not measured"),
        (math.nan, "not measured"),
        (math.inf, "not measured"),
        ("5", "not measured"),
    ],
)
def test_numbers_have_three_significant_digits(value: Any, said: str) -> None:
    assert number(value) == said


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (0.34, 0.31, 0.371, "0.340 [0.310,\u00a00.371]"),
        (2.35, 2.31, 2.39, "2.35 [2.31,\u00a02.39]"),
        (0.0, 0.0, 0.0, "0.00 [0.00,\u00a00.00]"),
        (-0.0001, -0.1, 0.1, "0.000 [−0.100,\u00a00.100]"),
        (math.nan, 0.0, 1.0, "not measured"),
        (None, None, None, "not measured"),
    ],
)
def test_value_and_bounds_have_the_same_decimals(value: Any, low: Any, high: Any, said: str) -> None:
    assert interval({"value": value, "low": low, "high": high}) == said


def test_shares_are_written_in_percent() -> None:
    assert percent(0.0312) == "3.1\u00a0%"
    assert percent(None) == "not measured"
    assert percent_interval({"value": 0.031, "low": -0.0001, "high": 0.5}) == "3.1\u00a0% [0.0,\u00a050.0]"
    assert percent_interval(None) == "not measured"


def _headline(evidence: Evidence, of_text: bool = True) -> str:
    return headline("alice", decide(evidence).as_dict(), evidence.as_dict(), of_text).replace("\u00a0", " ")


def test_headline_holds_the_deciding_numbers() -> None:
    assert _headline(evidence_of(0.82)) == (
        "alice WORKED: it needs 2.02 bits per byte for unseen text of alice, the base 2.35 "
        "(gain 0.328 [0.298, 0.358]); "
        "judges place it at 0.82 (encoder) and 0.82 (ngrams) of the way from the base to real text; "
        "0.1 % of its 12-grams are copied (real text: 0.0 %)."
    )


def test_headline_names_what_made_a_model_broken_or_a_copy() -> None:
    assert _headline(evidence_of(finite=False)).startswith("alice BROKEN: weights or losses are not finite; it needs")
    copied = Copying(12, 60.0, around(0.3, 0.1), around(0.0, 0.0), around(0.3, 0.1), 44, "a run", 12)
    assert _headline(evidence_of(copying=copied)).endswith("; the longest copied run has 44 words.")


def test_headline_without_judges_or_general_text_says_less() -> None:
    said = _headline(evidence_of(styles=(), general_rise=None, gain_over_general=None), of_text=False)
    assert "judge" not in said
    assert "for unseen text, the base" in said
    assert "no judge may speak" in _headline(evidence_of(styles=(style_score("ngrams", 0.8, speaks=False),)))


def test_outcome_names_few_models_and_counts_many() -> None:
    assert outcome({}) == "No verdict yet"
    assert outcome({"a": {"verdict": "worked"}, "b": {"verdict": "unsure"}}) == "a worked, b is undecided"
    assert outcome({str(n): {"verdict": "worked" if n else "broken"} for n in range(6)}) == "5 of 6 models worked"


SITUATIONS: dict[str, tuple[Evidence, list[tuple[int, float]]]] = {
    "worked": (evidence_of(), []),
    "copied": (
        evidence_of(copying=Copying(12, 60.0, around(0.3, 0.1), around(0.0, 0.0), around(0.3, 0.1), 44, "a run", 12)),
        [],
    ),
    "not finite": (evidence_of(finite=False), []),
    "reload": (evidence_of(reload_difference=0.5), []),
    "tokenizer": (evidence_of(tokenizer_misfit=around(0.5, 0.01)), []),
    "disorder": (evidence_of(order=WordOrder(0.6, 0.1, around(0.17, 0.05))), []),
    "repeats": (evidence_of(finite=False), []),
    "no change": (evidence_of(movement=Movement(0.0, 0, 9, {})), []),
    "no effect": (evidence_of(gain=around(0.0, 0.001)), []),
    "forgot": (evidence_of(general_rise=around(0.2, 0.01)), []),
    "gain unsure": (evidence_of(gain=around(0.02, 0.03)), []),
    "no gain": (evidence_of(gain=around(-0.3, 0.03)), []),
    "little gain": (
        evidence_of(
            gain=around(0.006, 0.002),
            copying=Copying(12, 7.8, around(0.0, 0.0), around(0.0, 0.0), around(0.0, 0.0), 0, "", 12),
        ),
        [],
    ),
    "unwritten": (evidence_of(unknown_bytes=0.4, gain=around(math.nan, 0.0)), []),
    "seen": (
        evidence_of(copying=Copying(12, 60.0, around(0.0, 0.0), around(1.0, 0.0), around(0.0, 0.0), 0, "", 12)),
        [],
    ),
    "short passages": (
        evidence_of(copying=Copying(12, 7.8, around(0.0, 0.0), around(0.0, 0.0), around(0.0, 0.0), 0, "", 12)),
        [],
    ),
    "no general": (evidence_of(0.4, general_rise=None, gain_over_general=None), []),
    "no style": (evidence_of(gain_over_general=around(0.0, 0.05)), []),
    "judge silent": (evidence_of(styles=(style_score("ngrams", 0.8, speaks=False),), gain=around(0.0, 0.2)), []),
    "judge fooled": (
        evidence_of(
            styles=(style_score("ngrams", 0.8, speaks=False, score=around(0.99, 0.01)),), gain=around(0.0, 0.2)
        ),
        [],
    ),
    "judge unsure": (evidence_of(0.5), []),
    "judge low": (evidence_of(0.2), []),
    "overtrained": (evidence_of(), [(0, 2.4), (10, 2.0), (20, 2.1)]),
    "unfinished": (evidence_of(), [(0, 2.4), (10, 2.2), (20, 2.0)]),
}


@pytest.mark.parametrize("key", SITUATIONS)
def test_every_planted_situation_gets_its_advice(key: str) -> None:
    evidence, curve = SITUATIONS[key]
    said = next_steps(decide(evidence).as_dict(), evidence.as_dict(), {"learning_rate": 5e-5, "general": {}}, curve)
    for sentence in advice._ADVICE[key]:
        beginning = sentence.partition("{")[0]
        assert any(line.startswith(beginning) for line in said), said
    assert all("{" not in line for line in said)


def test_where_the_held_out_text_was_learnt_nothing_else_is_advised() -> None:
    evidence, _ = SITUATIONS["seen"]
    worse = replace(evidence, gain=around(-0.3, 0.03))
    said = next_steps(decide(worse).as_dict(), worse.as_dict(), {"learning_rate": 5e-5, "general": {}}, [])
    assert len(said) == 1
    assert said[0].startswith("100% of the held-out text's 12-grams")


def test_the_advice_of_a_section_stands_instead_of_that_on_text_and_training() -> None:
    verdict = {"verdict": "unsure", "also": [], "reasons": [], "thresholds": {}}
    evidence, curve = evidence_of(gain=around(0.001, 0.01)).as_dict(), [(0, 2.4), (10, 2.2), (20, 2.0)]
    assert len(next_steps(verdict, evidence, {}, curve)) > 1
    assert next_steps(verdict, evidence, {}, curve, lambda found: [found["verdict"]]) == ["unsure"]
    assert next_steps(verdict, evidence, {}, curve, lambda found: []) == list(advice._ADVICE["unknown"])


def test_a_model_that_forgot_is_not_told_to_train_longer() -> None:
    evidence, curve = evidence_of(general_rise=around(0.2, 0.01)), [(0, 2.4), (10, 2.2), (20, 2.0)]
    said = " ".join(next_steps(decide(evidence).as_dict(), evidence.as_dict(), {}, curve))
    assert "fewer steps" in said
    assert "higher max_steps" not in said


def test_every_number_that_decides_has_its_words_its_reason_and_its_row_in_the_docs() -> None:
    page = Path(__file__).parents[2].joinpath("docs/verdict.md").read_text(encoding="utf-8")
    for threshold in fields(Thresholds):
        words = ("worked", "copied", "broken", "nothing", "forgot", "unsure")
        assert threshold.metadata["decides"].startswith(words), threshold.name
        assert threshold.metadata["reason"], threshold.name
        assert f"| `{threshold.name}` | {threshold.default:g} |" in page, threshold.name


def test_a_cell_keeps_its_number_and_one_that_is_not_finite_is_none() -> None:
    assert table_cell("1.5", 1.5) == {"text": "1.5", "value": 1.5}
    assert table_cell("", None) == table_cell("", math.nan) == {"text": "", "value": None}
    ends = {"value": 0.1, "low": 0.0, "high": 0.2}
    assert table_cell("a", Interval(0.1, 0.0, 0.2)) == table_cell("a", ends) == {"text": "a", **ends}


def test_no_sentence_of_the_advice_is_unreachable() -> None:
    assert set(SITUATIONS) | {"unknown"} == set(advice._ADVICE)


def test_advice_survives_values_that_were_not_measured() -> None:
    nothing = Interval(None, None, None)  # type: ignore[arg-type]
    evidence = evidence_of(
        gain=nothing, gain_over_general=nothing, styles=(style_score("ngrams", 0.8, position=nothing),)
    )
    verdict = {"verdict": "unsure", "also": [], "reasons": [], "thresholds": {}}
    assert "uncertain" not in " ".join(next_steps(verdict, evidence.as_dict(), {}, [(0, math.nan)]))
    assert next_steps(verdict, {}, {}, []) == ["Read the reasons above."]
