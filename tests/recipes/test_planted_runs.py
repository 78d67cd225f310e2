"""Runs that went wrong in a known way, and runs that went well: the verdict must name each."""

from pathlib import Path

import pytest
from planted_runs import CASES, counts, exact_interval, in_words, judge, make_base, run, table

from ftkit.evidence.measures.weights import Weights, why_nothing

QUICK = ("labels masked", "adapter not active", "wrong corpus", "degenerate", "diverged", "other tokenizer",
         "honest, 60 steps")  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("planted") / "base", "tiny")


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_run_is_named_rightly(name: str, base: str, tmp_path: Path) -> None:
    found = judge(CASES[name], base, tmp_path, seed=0)
    assert found["right"], found
    assert not found["false_worked"]
    assert found["decided_by"]


LONG = pytest.mark.nightly, pytest.mark.timeout(4 * 3600)


@pytest.mark.parametrize("seeds", [pytest.param(6, marks=LONG)])
def test_no_run_that_failed_is_said_to_have_worked(seeds: int, tmp_path: Path) -> None:
    rows = list(run(CASES, range(seeds), tmp_path))[-1]
    found = counts(rows)
    print(table(rows))
    print("negative runs named rightly:", in_words(found["negative_right"]))
    print("of them said to have worked:", in_words(found["negative_false_worked"]))
    assert found["negative_false_worked"]["of"] >= 60
    assert found["negative_false_worked"]["count"] == 0
    assert found["negative_right"]["count"] >= 0.95 * found["negative_right"]["of"]
    assert found["right"]["count"] >= 0.95 * found["right"]["of"]


def test_the_battery_holds_every_way_to_fail_that_is_claimed() -> None:
    claimed = {
        "untouched", "one step", "rate zero", "frozen by mistake", "wrong corpus", "memorised", "forgotten",
        "degenerate", "adapter not active", "labels masked", "other tokenizer",
    }  # fmt: skip
    assert claimed <= set(CASES)
    assert sum(not case.worked for case in CASES.values()) * 6 >= 60


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
