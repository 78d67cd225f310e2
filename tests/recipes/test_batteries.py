"""Models that went wrong in a known way, and models that went well: the verdict must name each."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from batteries import examples, pretrained, synthetic
from batteries.expected import BATTERIES, WORDS, Case, cases_of, is_right, pairs
from batteries.results import Rows, counts, exact_interval, in_words, table
from batteries.slices import _SAYS, contradictions
from batteries.texts import GIBBERISH, harbor_story
from ftkit.evidence.measures.weights import Weights, why_nothing

QUICK = ("labels masked", "adapter not active", "wrong corpus", "degenerate", "diverged", "other tokenizer",
         "honest, 60 steps")  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batteries")


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_run_gets_its_word(name: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(synthetic.SIZES, "small", synthetic.SIZES["tiny"])
    rows = Rows(None)
    synthetic.run("synthetic", [name], [0], work, rows)
    (row,) = rows.found
    assert row["right"], row
    assert not row["false_worked"]
    assert row["decided_by"]


@pytest.mark.parametrize("name", ["honest", "end never learned", "rewrites in a style", "memorized"])
def test_a_planted_model_of_examples_gets_its_word(
    name: str, work: Path, stories260k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTKIT_STORIES260K", str(stories260k))
    rows = Rows(None)
    examples.run([name], [0], work, rows)
    (row,) = rows.found
    assert row["right"], row
    assert not row["false_worked"]
    assert any("on the way from the base model" in reason for reason in row["reasons"]) == ("style" in name)


LONG = pytest.mark.nightly, pytest.mark.timeout(4 * 3600)


@pytest.mark.parametrize("seeds", [pytest.param(6, marks=LONG)])
def test_no_synthetic_run_that_failed_is_worked(seeds: int, tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.json")
    synthetic.run("synthetic", cases_of("synthetic"), range(seeds), tmp_path, rows)
    found = counts(rows.found)
    print(table(rows.found))
    print("negative runs with the committed word:", in_words(found["negative_right"]))
    print("of them worked:", in_words(found["negative_false_worked"]))
    assert found["negative_false_worked"]["of"] == 84
    assert found["negative_false_worked"]["count"] == 0
    assert found["right"]["count"] >= 120


def test_every_case_of_the_file_has_a_model_and_every_model_a_case() -> None:
    for battery, makers in synthetic.MAKERS.items():
        assert set(makers) == set(cases_of(battery))
    sources = {"", "excerpt", "beginning", *GIBBERISH, "harbor", "alice", "gulliver", "poe"}
    sources |= {*examples.TARGETS, *examples.SPOILT}
    named = [case for battery in BATTERIES for case in cases_of(battery).values() if case.target]
    assert len(named) > 40
    for case in named:
        assert {case.target, case.trained_on} <= sources
        assert not case.model_of or case.model_of in {each.name for each in named}


def test_only_honest_cases_may_be_worked() -> None:
    for battery in BATTERIES:
        assert not [case.name for case in cases_of(battery).values() if "worked" in case.words and not case.honest]
    assert any("worked" in case.words for case in cases_of("stories260k").values())


def test_the_seed_study_has_nine_clear_pairs_and_three_borderline_ones() -> None:
    found = pairs()
    assert [pair.borderline for pair in found.values()].count(False) == 9
    assert [pair.borderline for pair in found.values()].count(True) == 3
    for pair in found.values():
        assert set(pair.words) <= set(cases_of(pair.like)[pair.case].words)


def test_a_word_is_right_with_what_must_be_beside_it_and_its_cause() -> None:
    case = Case("c", ("unsure",), says="language", beside="forgot", never="broken")
    assert is_right(case, "unsure", ["forgot"], ["no language was shown"])
    assert not is_right(case, "worked", ["forgot"], ["no language was shown"])
    assert not is_right(case, "unsure", [], ["no language was shown"])
    assert not is_right(case, "unsure", ["forgot", "broken"], ["no language was shown"])
    assert not is_right(case, "unsure", ["forgot"], ["too little text"])


@pytest.mark.parametrize("kind", GIBBERISH)
def test_gibberish_is_as_long_as_its_text_and_another_with_another_seed(kind: str) -> None:
    text = " ".join(f"the old keeper {number % 7} lit the lamp and wrote {number % 11} lines." for number in range(300))
    made = GIBBERISH[kind](text, 1)
    assert len(made) == pytest.approx(len(text), rel=0.1)
    assert made == GIBBERISH[kind](text, 1) != GIBBERISH[kind](text, 2)
    assert made != text


def test_a_story_is_moved_to_the_harbor_and_ends_with_the_refrain() -> None:
    moved = harbor_story("Lily went to the park.\nShe saw a dog and")
    assert moved == "Marit went to the harbor. And the tide came in."


def test_rows_are_kept_and_not_judged_again(tmp_path: Path) -> None:
    row = {"battery": "synthetic", "case": "untouched", "seed": 3, "verdict": "nothing", "also": [], "reasons": ["r"],
           "right": True, "false_worked": False, "seconds": 1.0}  # fmt: skip
    Rows.read(tmp_path / "rows.json").add(row)
    again = Rows.read(tmp_path / "rows.json")
    assert again.has("untouched", 3)
    assert not again.has("untouched", 4)
    assert "| untouched | nothing | 1 x nothing | 1 of 1 [2%, 100%] |" in table(again.found)


@pytest.fixture
def stories_bench(stories260k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = stories260k.parent / "books"
    monkeypatch.setenv("FTKIT_STORIES260K", str(stories260k))
    monkeypatch.setenv("FTKIT_BOOKS", os.environ.get("FTKIT_BOOKS") or str(beside))
    if missing := pretrained.missing_inputs("stories260k"):
        pytest.skip(missing)


IN_CI = {
    "stories260k": ["untouched", "honest stories", "honest Alice", "excerpt memorized", "wrong text", "noise",
                    "held-out text in the training text"],
    "stories260k_gibberish": ["Markov, order 6", "Markov, order 6, Alice", "mixture, Alice"],
}  # fmt: skip
"""One seed of these cases takes minutes; the nightly run has all cases with three seeds."""


def _judged(battery: str, names: Iterable[str], seeds: int, folder: Path) -> dict[str, Any]:
    rows = Rows(folder / f"{battery}.json")
    pretrained.run(battery, names, range(seeds), folder, rows)
    print(table(rows.found))
    found = counts(rows.found)
    assert found["right"]["of"] == seeds * len(list(names))
    assert found["negative_false_worked"]["count"] == 0
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("battery", IN_CI)
def test_stories260k_gets_its_words(battery: str, stories_bench: None, tmp_path: Path) -> None:
    found = _judged(battery, IN_CI[battery], 1, tmp_path)
    assert found["right"]["count"] == found["right"]["of"]


@pytest.mark.parametrize("battery", [pytest.param(name, marks=LONG) for name in IN_CI])
def test_stories260k_gets_its_words_with_three_seeds(battery: str, stories_bench: None, tmp_path: Path) -> None:
    found = _judged(battery, cases_of(battery), 3, tmp_path)
    assert found["right"]["count"] >= 0.9 * found["right"]["of"]


@pytest.mark.parametrize("battery", [pytest.param(name, marks=LONG) for name in ("smollm2", "smollm2_gibberish")])
def test_smollm2_gets_its_words(battery: str, tmp_path: Path) -> None:
    if missing := pretrained.missing_inputs(battery):
        pytest.skip(missing)
    found = _judged(battery, cases_of(battery), 1, tmp_path)
    assert found["right"]["count"] >= found["right"]["of"] - 1


def test_samples_contradict_each_other_where_they_claim_different_outcomes() -> None:
    def rows(*words: str) -> list[dict[str, Any]]:
        return [{"verdict": word} for word in words]

    assert contradictions(rows("worked", "unsure", "worked")) == 0
    assert contradictions(rows("worked", "worked", "copied")) == 1
    assert contradictions(rows("broken", "worse", "copied", "unsure")) == 0
    assert contradictions(rows("nothing", "broken", "broken")) == 1


def test_every_word_of_a_verdict_is_a_claim_or_claims_nothing() -> None:
    assert set(WORDS) - {"unsure", "refused", "forgot"} == set(_SAYS)


def test_the_exact_interval_is_that_of_the_binomial() -> None:
    low, high = exact_interval(0, 60)
    assert low == 0
    assert (1 - high) ** 60 == pytest.approx(0.025)
    low, high = exact_interval(60, 60)
    assert (low**60, high) == (pytest.approx(0.025), 1.0)


def _moved(idle: tuple[str, ...] = (), **changes: float) -> Weights:
    return Weights(0.001, sum(change > 0 for change in changes.values()), len(changes), changes, idle_matrices=idle)


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        (_moved(a=0.0, b=0.0), "bit for bit"),
        (_moved(("h.0.lora_B.default.weight",), a=0.0, b=0.0), "LoRA B matrices are zero"),
        (_moved(a=2e-4, b=2.001e-4, c=1.999e-4, d=0.0), "weight decay alone"),
        (_moved(a=2e-4, b=3e-4, c=1e-5), "of their norm"),
    ],
)
def test_the_cause_of_nothing_is_named_where_it_can_be_seen(moved, said) -> None:
    found = why_nothing(moved)
    assert said in " ".join(found)
    assert ("weight decay" in " ".join(found)) == (said == "weight decay alone")
