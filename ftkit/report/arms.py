"""What came out of a study: the numbers of each point from its own files, each arm over its repeats, each pair of arms.

Three kinds of interval stand here and are never mixed: over repeats with other seeds, over what one model was measured
on, and none, where one run each gives nothing to draw from.
"""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ftkit.config.sweeps import Point
from ftkit.display.wording import is_number
from ftkit.evidence.intervals import Interval, difference_of_blocks, difference_of_items, mean_of_repeats
from ftkit.report.run_files import read_results
from ftkit.runs import RunFolder

__all__ = ["ArmResult", "Measured", "ModelResult", "Pair", "PointResult", "StudyResult", "read_study"]

BITS = "bits_per_byte"
SECONDS = "seconds_per_step"
_KNOWN_COLUMNS = {"held-out bits per byte", "gain", "seconds for a step"}
"""Columns of a recipe's own table of arms that have other names here."""


@dataclass(frozen=True)
class ModelResult:
    """What one point measured on one of its models."""

    values: dict[str, float]
    intervals: dict[str, Interval] = field(default_factory=dict)
    """Of those values that have one over what they were measured on."""
    verdict: str = ""
    items: Sequence[float] = ()
    """Of the headline, for each held-out item."""
    blocks: dict[str, Any] = field(default_factory=dict)
    """Held-out losses by block; see ``loss_blocks``."""
    heldout: list[tuple[int, float]] = field(default_factory=list)
    """(step, headline or loss on held-out data)."""
    train: list[tuple[int, float]] = field(default_factory=list)
    """(step, loss)."""


@dataclass(frozen=True)
class PointResult:
    """What became of one point."""

    name: str
    arm: str
    seed: int
    status: str
    """``done``, ``diverged``, ``failed``, or ``open`` where it has not been run to its end."""
    error: str = ""
    models: dict[str, ModelResult] = field(default_factory=dict)
    report: str = ""
    """Its page, from the study's folder."""


@dataclass(frozen=True)
class Measured:
    """One number of an arm over its repeats."""

    mean: float
    n: int
    sd: float | None = None
    """Over repeats; ``None`` for one."""
    low: float | None = None
    high: float | None = None
    over: str = "none"
    """What the interval is over: ``seeds``, ``evaluation`` (one run), or ``none``."""


@dataclass(frozen=True)
class ArmResult:
    """One arm and one of its models."""

    arm: str
    model: str
    n: int
    """Points that were measured."""
    missing: int
    """Points that diverged, failed or are open."""
    values: dict[str, Measured]
    verdicts: dict[str, int]


@dataclass(frozen=True)
class Pair:
    """Two arms, compared point by point."""

    model: str
    first: str
    second: str
    difference: float
    """Headline of the first minus that of the second."""
    low: float | None
    high: float | None
    over: str
    """``seeds``, ``evaluation`` or ``none``."""
    tie: bool | None
    """Whether the interval holds 0; ``None`` without an interval."""


@dataclass(frozen=True)
class StudyResult:
    """All that a study found."""

    headline: str
    """The number by which arms are ranked."""
    higher_is_better: bool
    points: list[PointResult]
    arms: list[ArmResult]
    pairs: list[Pair]

    def best(self, model: str) -> ArmResult | None:
        """The arm with the best mean among those that have this model."""
        ranked = [arm for arm in self.arms if arm.model == model and self.headline in arm.values]
        sign = -1 if self.higher_is_better else 1
        return min(ranked, key=lambda arm: sign * arm.values[self.headline].mean, default=None)

    def pair(self, model: str, first: str, second: str) -> Pair | None:
        """The comparison of two arms, in this order."""
        for pair in self.pairs:
            if pair.model == model and {pair.first, pair.second} == {first, second}:
                return pair if pair.first == first else _turned(pair)
        return None

    def as_dict(self) -> dict[str, Any]:
        """For ``study.json``, without the curves."""
        points = [
            {key: getattr(point, key) for key in ("name", "arm", "seed", "status", "error")}
            | {"models": {name: {"verdict": m.verdict, **m.values} for name, m in point.models.items()}}
            for point in self.points
        ]
        return {
            "headline": self.headline,
            "higher_is_better": self.higher_is_better,
            "arms": [asdict(arm) for arm in self.arms],
            "pairs": [asdict(pair) for pair in self.pairs],
            "points": points,
        }


def read_study(run: RunFolder, points: Sequence[Point], failures: Mapping[str, str] | None = None) -> StudyResult:
    """Read all points of a study.

    Args:
        run: The study's folder.
        points: Its points.
        failures: Why a point could not run, by its name.
    """
    headlines: list[tuple[str, bool]] = []
    found = [_read_point(run, point, (failures or {}).get(point.name, ""), headlines) for point in points]
    headline, higher = Counter(headlines).most_common(1)[0][0] if headlines else (BITS, False)
    models = list(dict.fromkeys(model for point in found for model in point.models))
    arms = list(dict.fromkeys(point.arm for point in found))
    rows = [row for model in models for arm in arms if (row := _arm(arm, model, found)).n]
    pairs = [
        pair
        for model in models
        for first, second in combinations([row.arm for row in rows if row.model == model], 2)
        if (pair := _pair(model, first, second, found, headline))
    ]
    return StudyResult(headline, higher, found, rows, pairs)


# --- One point ---


def _read_point(run: RunFolder, point: Point, failure: str, headlines: list[tuple[str, bool]]) -> PointResult:
    sealed = run.done_results(point.name) or {"status": "failed" if failure else "open", "error": failure}
    status, error = sealed["status"], sealed.get("error", "")
    models: dict[str, ModelResult] = {}
    folder = point.folder or run.path / "points" / point.name
    report = Path(os.path.relpath(folder / "report.html", run.path)).as_posix()
    if status == "done":
        results = read_results(RunFolder(folder, run.recipe, {}, is_main=False))
        said = results.measured.get("headline") or {}
        trained = [str(r["model"]) for r in results.records if r.get("split") == "heldout"]
        names = list(dict.fromkeys([*results.measured.get("models", {}), *results.measured.get("metrics", {})]))
        for name in names or list(dict.fromkeys(trained)):
            models[name] = _read_model(results, name, said.get("metric"))
        known = dict.fromkeys(key for model in models.values() for key in model.values)
        metric = said.get("metric") or next((key for key in (BITS, "loss") if key in known), None)
        if metric:
            headlines.append((metric, bool(said.get("higher_is_better", False))))
    return PointResult(point.name, point.arm, point.seed, status, error, models, report)


def _read_model(results: Any, name: str, headline: str | None) -> ModelResult:
    values: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    evidence, verdict = results.evidence(name), results.verdicts.get(name) or {}
    own = results.measured.get("metrics", {}).get(name, {})
    unseen = evidence.heldout if evidence else None
    measured = {BITS: unseen and vars(unseen.tuned), "gain": unseen and vars(unseen.gain), **own}
    for key, value in measured.items():
        found: Any = value if isinstance(value, Mapping) else {"value": value}
        if is_number(found.get("value")):
            values[key] = float(found["value"])
            if is_number(found.get("low")) and is_number(found.get("high")):
                intervals[key] = Interval(values[key], float(found["low"]), float(found["high"]))
    heldout, train = results.metrics(name, "heldout"), results.metrics(name, "train")
    last = heldout[-1] if heldout else {}
    numbers = {key: last[key] for key in last if key not in ("model", "step", "split") and is_number(last[key])}
    seconds = [record["seconds"] for record in train if is_number(record.get("seconds"))]
    numbers |= {SECONDS: float(np.median(seconds))} if seconds else {}
    columns = results.measured.get("arms", {}).get(name, {})
    numbers |= {
        heading: cell["value"]
        for heading, cell in columns.items()
        if heading not in _KNOWN_COLUMNS and is_number(cell["value"])
    }
    items = own[headline].get("items") if headline in own and isinstance(own[headline], Mapping) else None
    blocks = unseen.blocks if unseen else {}
    complete = blocks and all(is_number(number) for row in blocks.values() for number in row)
    curve = next((key for key in (headline, BITS, "loss") if key in last), "loss")
    return ModelResult(
        {key: float(value) for key, value in numbers.items()} | values,
        intervals,
        verdict.get("verdict", ""),
        items or (),
        blocks if complete else {},
        [(record["step"], record[curve]) for record in heldout if is_number(record.get(curve))],
        [(record["step"], record["loss"]) for record in train if is_number(record.get("loss"))],
    )


# --- Arms and pairs ---


def _of_arm(points: Sequence[PointResult], arm: str, model: str) -> dict[int, ModelResult]:
    """The arm's models by seed."""
    return {point.seed: point.models[model] for point in points if point.arm == arm and model in point.models}


def _arm(arm: str, model: str, points: Sequence[PointResult]) -> ArmResult:
    results = list(_of_arm(points, arm, model).values())
    keys = dict.fromkeys(key for result in results for key in result.values)
    values = {key: _measured(key, [result for result in results if key in result.values]) for key in keys}
    missing = sum(point.arm == arm and point.status != "done" for point in points)
    verdicts = Counter(result.verdict for result in results if result.verdict)
    return ArmResult(arm, model, len(results), missing, values, dict(verdicts))


def _measured(key: str, results: Sequence[ModelResult]) -> Measured:
    numbers = [result.values[key] for result in results]
    if len(numbers) > 1:
        interval = mean_of_repeats(numbers)
        return Measured(
            interval.value, len(numbers), float(np.std(numbers, ddof=1)), interval.low, interval.high, "seeds"
        )
    if own := results[0].intervals.get(key):
        return Measured(numbers[0], 1, None, own.low, own.high, "evaluation")
    return Measured(numbers[0], 1)


def _pair(model: str, first: str, second: str, points: Sequence[PointResult], headline: str) -> Pair | None:
    """Two arms on their common seeds, or of one run each; ``None`` where they have neither."""
    sides = [_of_arm(points, arm, model) for arm in (first, second)]
    runs = [(sides[0][seed], sides[1][seed]) for seed in sides[0] if seed in sides[1]]
    if not runs and all(len(side) == 1 for side in sides):
        runs = [(next(iter(sides[0].values())), next(iter(sides[1].values())))]
    runs = [pair for pair in runs if all(headline in one.values for one in pair)]
    if not runs:
        return None
    differences = [one.values[headline] - other.values[headline] for one, other in runs]
    if len(runs) > 1:
        return _interval_pair(model, first, second, mean_of_repeats(differences), "seeds")
    one, other = runs[0]
    interval = difference_of_items(one.items, other.items)
    if interval is None and headline == BITS and one.blocks and other.blocks:
        interval = difference_of_blocks(one.blocks, other.blocks)
    if interval is not None and math.isclose(interval.value, differences[0], abs_tol=1e-6):
        return _interval_pair(model, first, second, interval, "evaluation")
    return Pair(model, first, second, differences[0], None, None, "none", None)


def _interval_pair(model: str, first: str, second: str, interval: Interval, over: str) -> Pair:
    tie = interval.low <= 0 <= interval.high
    return Pair(model, first, second, interval.value, interval.low, interval.high, over, tie)


def _turned(pair: Pair) -> Pair:
    low, high = (None if end is None else 0.0 - end for end in (pair.high, pair.low))  # never -0.0
    return Pair(pair.model, pair.second, pair.first, 0.0 - pair.difference, low, high, pair.over, pair.tie)
