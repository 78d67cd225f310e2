"""A study's table from planted points: who is best, what is a tie, and which interval each number has."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ftkit.config import TrainingSettings
from ftkit.config.sweeps import Point, Study, StudySettings
from ftkit.evidence.intervals import difference_of_blocks, gain_in_bits, loss_blocks
from ftkit.report.arms import read_study
from ftkit.report.study import write_study
from ftkit.runs import EVIDENCE_VERSION, RunFolder
from ftkit.runs.files import write_json
from ftkit.training import HeldOutLoss


def point(arm: str, seed: int = 1) -> Point:
    return Point(f"{arm}-{seed}", arm, {}, TrainingSettings(tokenizer="byte", seed=seed))


def plant(folder: Path, points: list[Point], evidence: list[dict[str, Any]], **status: Any) -> RunFolder:
    """A study's folder with what its points would have written."""
    run = RunFolder(folder, "any_recipe", {"phases": {}}, is_main=True)
    for planted, found in zip(points, evidence, strict=True):
        write_json(folder / "points" / planted.name / "evidence.json", {"version": EVIDENCE_VERSION, **found})
        run.manifest["phases"][planted.name] = status or {"status": "done"}
    return run


def accuracy(value: float, **more: Any) -> dict[str, Any]:
    return {
        "headline": {"metric": "accuracy", "higher_is_better": True},
        "metrics": {"model": {"accuracy": {"value": value, **more}}},
    }


def losses(seed: int, shift: float = 0.0) -> HeldOutLoss:
    generator = np.random.default_rng(7)
    nats = generator.uniform(80, 120, 90)
    noise = np.random.default_rng(seed).normal(shift, 1.0, 90)
    return HeldOutLoss(nats + noise, np.full(90, 63), np.full(90, 250))


def bits(base: HeldOutLoss, tuned: HeldOutLoss) -> dict[str, Any]:
    value = {"value": tuned.bits_per_byte, "low": tuned.bits_per_byte - 0.1, "high": tuned.bits_per_byte + 0.1}
    heldout = {"base": value, "tuned": value, "gain": value, "windows": 30, "blocks": loss_blocks(base, tuned)}
    return {"models": {"model": {"heldout": heldout, "measures": {}}}}


def test_a_recipes_own_metric_ranks_the_arms_and_more_may_be_better(tmp_path):
    numbers = {"plain": [0.80, 0.82, 0.81], "clipped": [0.90, 0.91, 0.93]}
    points = [point(arm, seed) for arm in numbers for seed in (1, 2, 3)]
    run = plant(tmp_path, points, [accuracy(value) for values in numbers.values() for value in values])
    found = read_study(run, points)
    assert (found.headline, found.higher_is_better) == ("accuracy", True)
    assert found.best("model").arm == "clipped"
    (pair,) = found.pairs
    oracle = stats.ttest_rel(numbers["plain"], numbers["clipped"]).confidence_interval()
    assert (pair.low, pair.high) == pytest.approx((oracle.low, oracle.high))
    assert pair.tie is False
    turned = found.pair("model", "clipped", "plain")
    assert (turned.difference, turned.low) == pytest.approx((-pair.difference, -oracle.high))


def test_arms_of_one_run_each_are_paired_item_by_item(tmp_path):
    generator = np.random.default_rng(0)
    items = generator.integers(0, 2, 400)
    better = np.where(generator.random(400) < 0.2, 1, items)
    points = [point("a"), point("b"), point("c")]
    planted = [accuracy(float(x.mean()), items=x.tolist()) for x in (items, better, items)]
    found = read_study(plant(tmp_path, points, planted), points)
    first, same, _ = found.pairs
    assert (first.over, first.tie) == ("evaluation", False)
    assert first.low < items.mean() - better.mean() < first.high < 0
    assert (same.difference, same.tie) == (0.0, True)


def test_held_out_losses_of_two_runs_are_paired_like_base_and_tuned():
    base, tuned = losses(1), losses(2, -3.0)
    gain = gain_in_bits(base, tuned)
    found = difference_of_blocks(loss_blocks(losses(5), base), loss_blocks(losses(6), tuned))
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((gain.value, gain.low, gain.high))
    shorter = HeldOutLoss(base.nats[:60], base.targets[:60], base.bytes[:60])
    assert difference_of_blocks(loss_blocks(shorter, shorter), loss_blocks(base, tuned)) is None


def test_equal_arms_tie_and_a_better_one_does_not(tmp_path):
    start = losses(1, 30.0)
    arms = {"one": losses(2), "two": losses(3), "better": losses(4, -10.0)}
    points = [point(arm) for arm in arms]
    found = read_study(plant(tmp_path, points, [bits(start, tuned) for tuned in arms.values()]), points)
    ties = {(pair.first, pair.second): pair.tie for pair in found.pairs}
    assert ties == {("one", "two"): True, ("one", "better"): False, ("two", "better"): False}
    assert found.arms[0].values["bits_per_byte"].over == "evaluation"


def test_bare_numbers_get_no_interval_and_no_claim(tmp_path):
    points = [point("a"), point("b")]
    found = read_study(plant(tmp_path, points, [{"metrics": {"model": {"loss": x}}} for x in (1.0, 2.0)]), points)
    (pair,) = found.pairs
    assert (found.headline, pair.over, pair.tie, pair.low) == ("loss", "none", None, None)


def test_a_page_holds_the_table_and_escapes_names(tmp_path):
    points = [point("<script>alert(1)</script>"), point("plain")]
    points = [Point(f"p{n}", p.arm, {}, p.settings) for n, p in enumerate(points)]
    run = plant(tmp_path, points, [accuracy(0.5), accuracy(0.75)])
    run.manifest["phases"]["p2"] = {"status": "diverged", "error": "step 3: the loss is nan"}
    points.append(Point("p2", "wild", {}, points[0].settings))
    write_study(run, Study(StudySettings(arms={"plain": {}}), tuple(points)))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "step 3: the loss is nan" in page
    said = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))["said"]
    assert said[0].startswith("plain is best, not told apart from <script>")
    assert "1 of 3 points without result" in said[0]
