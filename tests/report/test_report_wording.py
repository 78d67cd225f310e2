"""Numbers are written for people, sentences hold the deciding numbers, and advice follows the evidence."""

import math
import re
from dataclasses import fields
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import pytest
from made_evidence import changed
from report_runs import around, evidence_of, style_score

from ftkit.display.wording import interval, number, percent, percent_interval, table_cell
from ftkit.evidence import Copying, Damage, Evidence, Interval, Thresholds, WordOrder, decide
from ftkit.evidence.measure import Outcome
from ftkit.evidence.measures.style import Style
from ftkit.evidence.measures.weights import Weights
from ftkit.report.advice import next_steps, outcome_of
from ftkit.report.terminal import sample_lines
from ftkit.report.wording import headline, outcome


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


PART, AGAINST = (
    Style((style_score("ngrams", place, score=around(0.5, 0.05)),)) for place in (0.2, -0.2)
)  # fmt: skip


def _headline(evidence: Evidence, of_text: bool = True) -> str:
    verdict = decide(evidence).as_dict()
    said = headline("alice", outcome_of(verdict, evidence, {}), verdict["reasons"], evidence, of_text)
    return said.replace("\u00a0", " ")


def test_headline_holds_the_deciding_numbers() -> None:
    assert _headline(evidence_of(0.82)) == (
        "It needs 2.02 bits per byte for unseen text of alice, the base 2.35 (gain 0.328 [0.298, 0.358]); "
        "0.1 % of its 12-grams are copied (real text: 0.0 %)."
    )


def test_headline_names_what_made_a_model_broken_or_a_copy() -> None:
    assert _headline(evidence_of(integrity__finite=False)).startswith("Weights or losses are not finite; it needs")
    copied = Copying(12, 60.0, around(0.3, 0.1), around(0.0, 0.0), around(0.3, 0.1), 44, "a run", 12)
    assert _headline(evidence_of(copying=copied)).endswith("; the longest copied run has 44 words.")


def test_headline_without_judges_or_general_text_says_less() -> None:
    said = _headline(evidence_of(style=None, general__rise=None, general__gain_over=None), of_text=False)
    assert "for unseen text, the base" in said
    assert "style" not in said
    assert "style was not measured" in _headline(evidence_of(style=Style((style_score("ngrams", 0.8, speaks=False),))))


def test_outcome_names_few_models_and_counts_many() -> None:
    assert outcome({}) == "No verdict yet"
    assert outcome({"a": {"verdict": "worked"}, "b": {"verdict": "unsure"}}) == "a worked, b is undecided"
    assert outcome({str(n): {"verdict": "worked" if n else "broken"} for n in range(6)}) == "5 of 6 models worked"


UNCLAIMED = around(math.nan, 0.0)
SILENT = Style((style_score("ngrams", 0.8, speaks=False),))

SITUATIONS: dict[str, tuple[Evidence, list[tuple[int, float]]]] = {
    "worked": (evidence_of(), []),
    "copied": (
        evidence_of(copying=Copying(12, 60.0, around(0.3, 0.1), around(0.0, 0.0), around(0.3, 0.1), 44, "a run", 12)),
        [],
    ),
    "not finite": (evidence_of(integrity__finite=False), []),
    "reload": (evidence_of(integrity__reload_difference=0.5), []),
    "tokenizer": (evidence_of(integrity__tokenizer_misfit=around(0.5, 0.01)), []),
    "disorder": (evidence_of(word_order=WordOrder(0.6, 0.1, around(0.17, 0.05))), []),
    "repeats": (evidence_of(integrity__finite=False), []),
    "no change": (evidence_of(weights=Weights(0.0, 0, 9, {})), []),
    "no effect": (evidence_of(heldout__gain=around(0.0, 0.001), style=None), []),
    "forgot": (evidence_of(general__rise=around(0.2, 0.01)), []),
    "gain unsure": (evidence_of(heldout__gain=around(0.02, 0.03)), []),
    "no gain": (evidence_of(heldout__gain=around(-0.3, 0.03)), []),
    "little gain": (
        evidence_of(
            heldout__gain=around(0.006, 0.002),
            copying=Copying(12, 7.8, around(0.0, 0.0), around(0.0, 0.0), around(0.0, 0.0), 0, "", 12),
        ),
        [],
    ),
    "unwritten": (
        evidence_of(heldout__unknown_bytes=0.4, heldout__unclaimed="no bits", heldout__gain=around(math.nan, 0.0)),
        [],
    ),
    "seen": (
        evidence_of(copying=Copying(12, 60.0, around(0.0, 0.0), around(1.0, 0.0), around(0.0, 0.0), 0, "", 12)),
        [],
    ),
    "short passages": (
        evidence_of(copying=Copying(12, 7.8, around(0.0, 0.0), around(0.0, 0.0), around(0.0, 0.0), 0, "", 12)),
        [],
    ),
    "no general": (evidence_of(style=AGAINST, general__rise=None, general__gain_over=None), []),
    "no style": (evidence_of(general__gain_over=around(0.0, 0.05)), []),
    "judge silent": (
        evidence_of(style=Style((style_score("ngrams", 0.8, speaks=False),)), heldout__gain=around(0.0, 0.2)),
        [],
    ),
    "judge of an exaggeration": (
        evidence_of(style=Style((style_score("ngrams", 0.8, exaggerated=True),)), heldout__gain=around(0.0, 0.2)),
        [],
    ),
    "judge undecided": (evidence_of(style=Style((style_score("ngrams", 0.05),))), []),
    "judge low": (evidence_of(style=PART), []),
    "judge against": (evidence_of(style=AGAINST), []),
    "overtrained": (evidence_of(), [(0, 2.4), (10, 2.0), (20, 2.1)]),
    "unfinished": (evidence_of(), [(0, 2.4), (10, 2.2), (20, 2.0)]),
}


SAID = {
    "worked": "Read the samples below",
    "copied": "It trained for 6.40 epochs on its text: take fewer steps",
    "not finite": "Lower learning_rate (it was 5 × 10⁻⁵)",
    "reload": "Do not use the saved folder",
    "tokenizer": "Save the tokenizer that it was trained with",
    "disorder": "Check that the training text is not shuffled",
    "repeats": "If it repeats itself",
    "no change": "No weight changed",
    "no effect": "The weights moved by 0.0810",
    "forgot": "Take fewer steps or a lower learning_rate, or train fewer weights",
    "gain unsure": "The gain on held-out text is uncertain",
    "little gain": "It did get better on held-out text, by 0.006",
    "no gain": "It did not get better on held-out text",
    "seen": "100% of the held-out text's 12-grams",
    "short passages": "Its passages have 7.8 12-grams on average, and 12 are needed",
    "unwritten": "Its tokenizer cannot write 40% of the text's bytes",
    "no general": "Name a text in general",
    "no style": "The gain is not clearly larger than the gain on general text",
    "judge silent": "Judge ngrams is not used",
    "judge of an exaggeration": "Judge ngrams: the style is exaggerated. Use sampling: plain",
    "judge undecided": "Judge ngrams: position 0.050 [−0.010,\u00a00.110] is not decided: raise num_passages",
    "judge low": "Judge ngrams: position 0.200 [0.140,\u00a00.260] is below 0.5: train longer",
    "judge against": "Judge ngrams: position −0.200 [−0.260,\u00a0−0.140] is below 0.5: train longer",
    "overtrained": "Its held-out loss was lowest at step 10",
    "unfinished": "Its held-out loss was still falling at step 20",
}


def advised(evidence: Evidence, curve: list[tuple[int, float]] | None = None, **settings: Any) -> list[str]:
    """What is said after the verdict on some evidence."""
    asked = {"learning_rate": 5e-5, "general": {}} | settings
    return next_steps(outcome_of(decide(evidence).as_dict(), evidence, asked), evidence, curve or [])


@pytest.mark.parametrize("key", SAID)
def test_every_planted_situation_gets_its_advice(key: str) -> None:
    said = advised(*SITUATIONS[key])
    assert any(line.startswith(SAID[key]) for line in said), said


def test_where_the_held_out_text_was_learned_nothing_else_is_advised() -> None:
    evidence, _ = SITUATIONS["seen"]
    said = advised(changed(evidence, {"heldout.gain": around(-0.3, 0.03)}))
    assert len(said) == 1
    assert said[0].startswith("100% of the held-out text's 12-grams")


def test_the_advice_of_a_section_stands_instead_of_that_on_text_and_training() -> None:
    evidence, curve = evidence_of(heldout__gain=around(0.001, 0.01)), [(0, 2.4), (10, 2.2), (20, 2.0)]
    unsure = Outcome(("unsure",), rule="undecided")
    assert len(next_steps(unsure, evidence, curve)) > 1
    assert next_steps(unsure, evidence, curve, ["the section's"]) == ["the section's"]
    assert next_steps(unsure, evidence, curve, []) == ["Read the reasons above."]


def test_a_model_that_forgot_is_not_told_to_train_longer() -> None:
    evidence, curve = evidence_of(general__rise=around(0.2, 0.01)), [(0, 2.4), (10, 2.2), (20, 2.0)]
    said = " ".join(advised(evidence, curve))
    assert "fewer steps" in said
    assert "higher max_steps" not in said


def test_a_model_that_is_not_there_yet_needs_more_training_although_it_forgets() -> None:
    still_falling, ended = [(0, 2.4), (10, 2.2), (20, 2.0)], [(0, 2.4), (10, 2.0), (20, 2.0)]
    evidence = evidence_of(general__rise=around(0.2, 0.01), style=AGAINST)
    said = advised(evidence, still_falling)
    assert said[0].startswith("Its held-out loss was still falling")
    assert "fewer steps" not in " ".join(said)
    assert any("ftkit blend" in line for line in said)
    assert any("fewer steps" in line for line in advised(evidence, ended))
    lost = advised(changed(evidence, {"heldout.gain": around(-0.3, 0.03)}), still_falling)
    assert not any("higher max_steps" in line for line in lost)


def test_every_number_that_decides_has_its_words_its_reason_and_its_row_in_the_docs() -> None:
    page = Path(__file__).parents[2].joinpath("docs/verdict.md").read_text(encoding="utf-8")
    for threshold in (each for each in fields(Thresholds) if each.metadata):
        words = ("worked", "copied", "broken", "nothing", "forgot", "unsure")
        assert threshold.metadata["decides"].startswith(words), threshold.name
        assert threshold.metadata["reason"], threshold.name
        assert f"| `{threshold.name}` | {threshold.default:g} |" in page, threshold.name


def test_a_cell_keeps_its_number_and_one_that_is_not_finite_is_none() -> None:
    assert table_cell("1.5", 1.5) == {"text": "1.5", "value": 1.5}
    assert table_cell("", None) == table_cell("", math.nan) == {"text": "", "value": None}
    ends = {"value": 0.1, "low": 0.0, "high": 0.2}
    assert table_cell("a", Interval(0.1, 0.0, 0.2)) == table_cell("a", ends) == {"text": "a", **ends}


def test_advice_survives_values_that_were_not_measured() -> None:
    nothing = Interval(math.nan, math.nan, math.nan)
    evidence = evidence_of(
        heldout__gain=nothing, general__gain_over=nothing, style=Style((style_score("ngrams", 0.8, position=nothing),))
    )
    assert next_steps(Outcome(("unsure",), rule="undecided"), evidence, [(0, math.nan)])
    assert next_steps(Outcome(("unsure",)), None, []) == ["Read the reasons above."]


FINDINGS: dict[str, dict[str, Any]] = {
    "copied": {"copying": Copying(12, 60.0, around(0.3, 0.1), around(0.0, 0.0), around(0.3, 0.1), 44, "a run", 12)},
    "seen": {"copying": Copying(12, 60.0, around(0.0, 0.0), around(1.0, 0.0), around(0.0, 0.0), 0, "", 12)},
    "not finite": {"integrity.finite": False},
    "reload": {"integrity.reload_difference": 0.5},
    "disorder": {"word_order": WordOrder(0.6, 0.1, around(0.17, 0.05))},
    "repeats": {"fluency.damage": Damage(around(0.4, 0.05), around(0.0, 0.01), around(0.0, 0.01))},
    "no change": {"weights": Weights(0.0, 0, 9, {})},
    "no effect": {"heldout.gain": around(0.0, 0.001)},
    "little gain": {"heldout.gain": around(0.006, 0.002)},
    "gain unsure": {"heldout.gain": around(0.02, 0.03)},
    "no gain": {"heldout.gain": around(-0.3, 0.03)},
    "forgot": {"general.rise": around(0.2, 0.01)},
    "not specific": {"general.gain_over": around(0.0, 0.05)},
    "judge low": {"style": PART},
    "judge against": {"style": AGAINST},
    "judge undecided": {"style": Style((style_score("ngrams", 0.05),))},
}
CURVES_OF = {"falling": [(0, 2.4), (10, 2.2), (20, 2.0)], "turned": [(0, 2.4), (10, 2.0), (20, 2.1)]}
MORE = re.compile(r"train longer|[Rr]aise (?:max_steps|learning_rate)|higher max_steps|More steps")
LESS = re.compile(r"[Ff]ewer steps|[Ll]ower learning_rate|set max_steps to")


@pytest.mark.parametrize("curve", CURVES_OF)
@pytest.mark.parametrize("pair", list(combinations_with_replacement(FINDINGS, 2)), ids=" and ".join)
def test_advice_never_asks_for_more_and_for_less_training(pair: tuple[str, str], curve: str) -> None:
    evidence = evidence_of()
    for name in pair:
        evidence = changed(evidence, FINDINGS[name])
    said = " ".join(advised(evidence, CURVES_OF[curve]))
    assert said
    assert not (MORE.search(said) and LESS.search(said)), said


def test_a_sample_of_base_and_model_stands_beside_the_verdict_without_steering_the_terminal(monkeypatch):
    floor = {"base model, alice": ["Noon. " * 30], "base model": ["other"]}
    passages = {"alice": ["One day\n\x1b[2Jshe\u202e ran."], **floor}
    lines = sample_lines({"passages": passages}, "alice")
    listed = {"base model": ["short"], "tuned": ["\n".join(f"{n}. cheese" for n in range(50))]}
    assert sample_lines({"passages": listed}, "tuned")[-2:] == [
        "    9. cheese",
        "    ... (40 more lines)",
    ]
    assert lines[0] == "  base writes:"
    assert lines[1].startswith("    Noon. Noon.")
    for columns, longest in (("300", 110), ("72", 72), ("3", 40)):
        monkeypatch.setenv("COLUMNS", columns)
        widest = max(map(len, sample_lines({"passages": passages}, "alice")))
        assert longest - len(" Noon.") < widest <= longest
    assert lines[-3:] == ["  tuned writes:", "    One day", "     [2Jshe  ran."]
    shared, own = {"tuned": ["x"], "base model": ["y"]}, {"tuned": {"base": ["y"], "tuned": ["x"]}}
    for found in (shared, own):  # of several models after common prompts, and of a verdict
        assert sample_lines({"passages": found}, "tuned") == [
            "  base writes:", "    y", "  tuned writes:", "    x",
        ]  # fmt: skip
    assert sample_lines({"passages": {"base model": ["y"]}}, "tuned") == sample_lines({}, "tuned") == []
