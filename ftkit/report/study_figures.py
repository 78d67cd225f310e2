"""Figures of a study: the curves of all arms on shared axes, and the number by which they are ranked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ftkit.config.sweeps import Study, label
from ftkit.display.figures import CURVES, Bars, Figure, Kind, Lines, Panels, Points
from ftkit.report.arms import StudyResult
from ftkit.report.renderer import DrawnFigure, moving_mean, write_figure
from ftkit.runs import RunFolder

__all__ = ["draw_study", "metric_name"]

_EVERY = 7
"""Steps between the dots of the loss, as in the lesson's figure."""
_NAMES = {"bits_per_byte": "held-out bits per byte", "seconds_per_step": "seconds per step"}


_RUNS = (Points(where={"kind": "mean"}), Points(where={"kind": "run"}, small=True))
_USAGE = (
    Kind("nats per target", (Points(where={"panel": "loss"}),)),
    Kind(
        "share of tokens, %",
        (
            Bars(where={"when": "before"}, filled=False, text="{value:.0f}", name="before"),
            Bars(where={"when": "after"}, text="{value:.0f}", name="after"),
        ),
        rows="{model}",
        beside="when",
        scale=100,
    ),
)


def metric_name(key: str) -> str:
    """A number's name for people."""
    return _NAMES.get(key, key.replace("_", " "))


def draw_study(run: RunFolder, study: Study, result: StudyResult) -> list[DrawnFigure]:
    """Each figure beside its CSV in ``figures/``."""
    folder = run.path / "figures"
    return [write_figure(folder / f"{figure.name}.csv", figure, panels) for figure, panels in _figures(study, result)]


def _figures(study: Study, result: StudyResult) -> Iterator[tuple[Figure, Panels]]:
    """What can be drawn, and how."""
    name, repeats = metric_name(result.headline), max((arm.n for arm in result.arms), default=0) > 1
    mean = " Mean over the seeds." if repeats else ""
    curves = (("study_heldout", "heldout", f"{name} by step"), ("study_train_loss", "train", "Training loss by step"))
    for file, split, title in curves:
        if rows := list(_curve_rows(result, split)):
            batches = "" if any(point.folder for point in study.points) else "All arms on the same batches."
            caption = batches + mean + (" Thin: every step." if split == "train" else "")
            measure = name if split == "heldout" else "nats per target"
            yield Figure(file, title, caption, rows), Kind(measure, CURVES)
    rows = list(_metric_rows(study, result))
    caption = "With the 95 % interval of its evaluation, where there is one."
    if repeats:
        caption = "Small: each run. Large: mean over the seeds, with its 95 % interval."
    key = rows[0]["setting"] if rows else None
    if key:
        yield Figure("study_metric", f"{name} by {key}", caption, rows), _by_value(name, key, rows)
    elif rows:
        yield Figure("study_metric", f"{name} by arm", caption, rows), Kind(name, _RUNS, rows="{model}")
    if rows := list(_usage_rows(result)):
        caption = (
            f"Left: training loss, every {_EVERY}th step.{mean} Right: share of generated tokens that are among the"
        )
        caption += " text's most frequent ones; open: before training, with 95 % intervals."
        yield (
            Figure("study_usage", "Loss, and use of the text's frequent tokens", caption, rows),
            _USAGE,
        )


def _by_value(name: str, key: str, rows: Sequence[Mapping[str, Any]]) -> Kind:
    """A line through the means at the swept values, on a logarithmic axis where these span a factor of 10."""
    values = [row["x"] for row in rows]
    log = "x" if min(values) > 0 and max(values) / min(values) >= 10 else ""
    return Kind(name, (Lines(where={"kind": "mean"}, sort=True), *_RUNS), x="x", x_label=key, log=log)


def _title(arm: str, model: str, result: StudyResult) -> str:
    return arm if len({row.model for row in result.arms}) == 1 else f"{arm}: {model}"


def _curve_rows(result: StudyResult, kind: str) -> Iterator[dict[str, Any]]:
    """Mean over the seeds at each step that all of an arm's runs have."""
    for arm in result.arms:
        models = [
            point.models[arm.model] for point in result.points if point.arm == arm.arm and arm.model in point.models
        ]
        curves = [dict(getattr(model, kind)) for model in models]
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        values = [float(np.mean([curve[step] for curve in curves])) for step in steps]
        width = max(len(steps) // 25, 2) // 2 * 2 + 1
        means: Sequence[float | None] = moving_mean(values, width) if kind == "train" else [None] * len(steps)
        title = _title(arm.arm, arm.model, result)
        for step, value, mean in zip(steps, values, means, strict=True):
            yield {"model": title, "step": step, "value": value, "mean": mean}


def _numeric_key(study: Study) -> str | None:
    """The first setting of the sweep whose values are numbers."""
    return next(
        (
            key
            for key, values in study.settings.sweep.items()
            if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        ),
        None,
    )


def _metric_rows(study: Study, result: StudyResult) -> Iterator[dict[str, Any]]:
    """Each arm's headline with its runs; by swept value, what else differs is the line that it belongs to."""
    key = _numeric_key(study)
    swept = {point.arm: point.swept for point in study.points}
    for arm in result.arms:
        if (main := arm.values.get(result.headline)) is None:
            continue
        x = swept[arm.arm].get(key) if key else None
        line = arm.arm
        if key:
            parts = [part for part in arm.arm.split(", ") if part != f"{key}={label(x)}"]
            line = ", ".join(parts) or metric_name(result.headline)
        common = {"model": _title(line, arm.model, result), "arm": arm.arm, "setting": key, "x": x}
        yield common | {"kind": "mean", "seed": None, "value": main.mean, "low": main.low, "high": main.high}
        for point in result.points:
            if point.arm == arm.arm and arm.model in point.models and main.n > 1:
                value = point.models[arm.model].values.get(result.headline)
                yield common | {"kind": "run", "seed": point.seed, "value": value, "low": None, "high": None}


def _usage_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    """Training loss and use of frequent tokens, where every arm has counted them (lesson 07/03)."""
    if not all({"usage_before", "usage_after"} <= set(arm.values) for arm in result.arms):
        return
    for row in _curve_rows(result, "train"):
        if (row["step"] - 1) % _EVERY == 0:
            yield {"panel": "loss", **row, "when": None, "low": None, "high": None}
    for arm in result.arms:
        for when in ("before", "after"):
            found = arm.values[f"usage_{when}"]
            common = {"panel": "usage", "model": _title(arm.arm, arm.model, result), "step": None, "mean": None}
            yield common | {"value": found.mean, "when": when, "low": found.low, "high": found.high}
