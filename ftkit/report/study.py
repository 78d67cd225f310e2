"""A study side by side: one table as CSV, JSON, terminal lines and page; curves of all arms on shared axes."""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from ftkit.config.sweeps import Study, label
from ftkit.report.arms import SECONDS, ArmResult, Measured, Pair, StudyResult, read_study
from ftkit.report.drawing import (
    INK,
    PALETTE,
    Row,
    Styles,
    Table,
    as_csv,
    by_model,
    cell,
    draw_curves,
    legend,
    moving_mean,
    panel_height,
    rendered,
    short,
    value_ticks,
)
from ftkit.report.figures import Figure, inline_svg
from ftkit.report.page import _day, _environment, _flat, _resource
from ftkit.report.reading import visible
from ftkit.report.wording import number
from ftkit.runs import RunFolder
from ftkit.runs.files import write_atomically

__all__ = ["announce_study", "write_study"]

_logger = logging.getLogger("ftkit.report")
_MARKERS = "os^Dvp"
_NAMES = {"bits_per_byte": "held-out bits per byte", "seconds_per_step": "seconds per step"}
_OVER = {
    "seeds": "over seeds",
    "evaluation": "over held-out text, one run each",
    "none": "one run each: no interval",
}


def write_study(run: RunFolder, study: Study, failures: dict[str, str] | None = None) -> None:
    """Write ``study.csv``, ``points.csv``, ``study.json``, ``figures/`` and ``report.html`` of a study.

    Args:
        run: The study's folder.
        study: Its points.
        failures: Why points could not run.
    """
    result = read_study(run, study.points, failures)
    several = len({arm.model for arm in result.arms}) > 1
    heads, rows = _heads(result, several), [_cells(result, arm, several) for arm in result.arms]
    said = [_outcome(result), *(_lines(heads, rows) if rows else ()), *_notes(result)]
    said += [f"{point.name}: {point.status}: {point.error}" for point in result.points if point.error]
    run.write_json("study.json", {**result.as_dict(), "said": said})
    if result.arms:
        run.write_text("study.csv", as_csv(_arm_rows(result)))
        run.write_text("points.csv", as_csv(_point_rows(result)))
    figures = _draw(run, study, result)
    page = (
        _environment()
        .from_string(_resource("study.html.j2"))
        .render(
            title=f"Study of {run.recipe}",
            outcome=_outcome(result),
            recipe=run.recipe,
            started=_day(run.manifest.get("started")),
            style_sheet=Markup(_resource("report.css")),
            heads=heads,
            rows=rows,
            notes=_notes(result),
            pairs=[_pair_cells(pair, several) for pair in result.pairs],
            pair_heads=[*(["Model"] if several else []), "Pair", "Difference", "Interval", "Said"],
            points=result.points,
            figures=[{"figure": figure, "svg": Markup(inline_svg(figure))} for figure in figures],
            settings=list(_flat(study.settings.model_dump(mode="json"))),
            manifest=run.manifest,
        )
    )
    run.write_text("report.html", visible(page))


def announce_study(run: RunFolder) -> None:
    """Say what came out of a study, from ``study.json`` in its folder."""
    for line in json.loads((run.path / "study.json").read_text(encoding="utf-8"))["said"]:
        _logger.info("%s", line)
    _logger.info("\nreport: %s", (run.path / "report.html").resolve())


def metric_name(key: str) -> str:
    """A number's name for people."""
    return _NAMES.get(key, key.replace("_", " "))


# --- The table ---


def _lines(heads: list[str], rows: list[list[str]]) -> list[str]:
    """The table as plain lines."""
    widths = [max(len(row[n]) for row in [heads, *rows]) for n in range(len(heads))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in [heads, *rows]
    ]


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)


def _spread(measured: Measured | None) -> str:
    """A mean with its interval."""
    if measured is None:
        return ""
    if measured.low is None or measured.high is None:
        return number(measured.mean)
    return f"{number(measured.mean)} [{number(measured.low)}, {number(measured.high)}]"


def _versus(result: StudyResult, arm: ArmResult) -> str:
    """An arm beside the best of its model."""
    best = result.best(arm.model)
    if best is None or best.arm == arm.arm:
        return "best" if best else ""
    pair = result.pair(arm.model, arm.arm, best.arm)
    return _said(pair) if pair else "no common seed"


def _said(pair: Pair) -> str:
    """A difference and what may be said of it."""
    if pair.low is None or pair.high is None:
        return f"{_signed(pair.difference)} (one run each: no interval)"
    text = f"{_signed(pair.difference)} [{_signed(pair.low)}, {_signed(pair.high)}]"
    return f"tie: {text}" if pair.tie else text


def _heads(result: StudyResult, several: bool) -> list[str]:
    gain = ["Gain over base"] if any("gain" in arm.values for arm in result.arms) else []
    verdicts = ["Verdicts"] if any(arm.verdicts for arm in result.arms) else []
    return [
        *(["Model"] if several else []), "Arm", "Runs", metric_name(result.headline), "Spread (sd)", *gain,
        "Beside the best", *verdicts, "Seconds per step",
    ]  # fmt: skip


def _cells(result: StudyResult, arm: ArmResult, several: bool) -> list[str]:
    heads = _heads(result, several)
    main = arm.values.get(result.headline)
    runs = f"{arm.n}" + (f" (and {arm.missing} without result)" if arm.missing else "")
    cells = [*([arm.model] if several else []), arm.arm, runs, _spread(main)]
    cells.append(number(main.sd) if main and main.sd is not None else "")
    cells += [_spread(arm.values.get("gain"))] if "Gain over base" in heads else []
    cells.append(_versus(result, arm))
    cells += [", ".join(f"{n} {word}" for word, n in arm.verdicts.items())] if "Verdicts" in heads else []
    return [*cells, number(arm.values[SECONDS].mean) if SECONDS in arm.values else ""]


def _pair_cells(pair: Pair, several: bool) -> list[str]:
    tie = {True: "tie", False: "different", None: "cannot be told"}[pair.tie]
    return [
        *([pair.model] if several else []), f"{pair.first} − {pair.second}", _said(pair).removeprefix("tie: "),
        _OVER[pair.over], tie,
    ]  # fmt: skip


def _notes(result: StudyResult) -> list[str]:
    """What the intervals are, and what is missing."""
    kinds = dict.fromkeys(arm.values[result.headline].over for arm in result.arms if result.headline in arm.values)
    meant = {
        "seeds": "Intervals of arms with several runs are 95 % by Student's t over the runs' seeds.",
        "evaluation": "Intervals of arms with one run cover the held-out text it was measured on, not another seed.",
        "none": "Arms with one run and no interval of their own show the bare number.",
    }
    said = [meant[kind] for kind in kinds]
    if any(pair.tie is not None for pair in result.pairs):
        said.append(
            "Differences are paired; a tie is a pair whose interval holds 0. Of 20 pairs of equals one is no tie."
        )
    return said


def _outcome(result: StudyResult) -> str:
    """The study in one sentence."""
    missing = [point.name for point in result.points if point.status != "done"]
    tail = f"; {len(missing)} of {len(result.points)} points without result" if missing else ""
    models = list(dict.fromkeys(arm.model for arm in result.arms))
    if not models:
        return f"No point has a result{tail}"
    if len(models) > 1:
        return f"{len({arm.arm for arm in result.arms})} arms of {len(models)} models{tail}"
    best = result.best(models[0])
    if best is None:
        return f"No arm has {metric_name(result.headline)}{tail}"
    tied = [
        arm.arm
        for arm in result.arms
        if arm.arm != best.arm and (pair := result.pair(best.model, arm.arm, best.arm)) and pair.tie is not False
    ]
    beside = f", not told apart from {', '.join(tied)}" if tied else ""
    return f"{best.arm} is best{beside}{tail}"


def _arm_rows(result: StudyResult) -> list[dict[str, Any]]:
    """``study.csv``: a line for each arm and model."""
    keys = dict.fromkeys(key for arm in result.arms for key in arm.values)
    words = dict.fromkeys(word for arm in result.arms for word in arm.verdicts)
    rows = []
    for arm in result.arms:
        best = result.best(arm.model)
        pair = result.pair(arm.model, arm.arm, best.arm) if best and best.arm != arm.arm else None
        row: dict[str, Any] = {"arm": arm.arm, "model": arm.model, "n": arm.n, "missing": arm.missing}
        for key in [result.headline, *(key for key in keys if key != result.headline)]:
            found = arm.values.get(key)
            row |= {f"{key}_{part}": getattr(found, part, None) for part in ("mean", "sd", "low", "high", "over")}
        row |= {"best": best.arm if best else None}
        row |= {f"to_best_{part}": getattr(pair, part, None) for part in ("difference", "low", "high", "over", "tie")}
        rows.append(row | {f"verdict_{word}": arm.verdicts.get(word, 0) for word in words})
    return rows


def _point_rows(result: StudyResult) -> list[dict[str, Any]]:
    """``points.csv``: a line for each number of each point."""
    return [
        {"point": point.name, "arm": point.arm, "seed": point.seed, "model": name, "number": key, "value": value}
        for point in result.points
        for name, model in point.models.items()
        for key, value in model.values.items()
    ]


# --- Figures ---


def _draw(run: RunFolder, study: Study, result: StudyResult) -> list[Figure]:
    """Each figure beside its CSV in ``figures/``."""
    figures = []
    for table, measure, draw, height in _panels(study, result):
        path = run.path / "figures" / f"{table.name}.csv"
        write_atomically(path, as_csv(table.rows))
        rows: list[Row] = [
            {key: "" if value is None else visible(str(value)) for key, value in row.items()} for row in table.rows
        ]

        def panel(axes: Any, rows: list[Row] = rows, measure: str = measure, draw: Any = draw) -> None:
            axes.set_title(measure, pad=8)
            draw(axes, rows, _styles(rows))

        svg, png = rendered(table.name, height(rows), panel)
        write_atomically(path.with_suffix(".svg"), svg)
        write_atomically(path.with_suffix(".png"), png)
        figures.append(Figure(table.name, table.title, table.caption, svg, path))
    return figures


def _styles(rows: Sequence[Row]) -> Styles:
    """Colour and marker of each arm; beyond six arms the same colour has another marker."""
    return {
        name: (PALETTE[n % len(PALETTE)], _MARKERS[(n + n // len(PALETTE)) % len(_MARKERS)])
        for n, name in enumerate(by_model(rows))
    }


def _panels(study: Study, result: StudyResult) -> Iterator[tuple[Table, str, Any, Any]]:
    """What can be drawn: (table, what the axis shows, how to draw, how high)."""
    name, repeats = metric_name(result.headline), max((arm.n for arm in result.arms), default=0) > 1
    mean = " Mean over the seeds." if repeats else ""
    curves = (("study_heldout", "heldout", f"{name} by step"), ("study_train_loss", "train", "Training loss by step"))
    for file, kind, title in curves:
        if rows := list(_curve_rows(result, kind)):
            caption = "All arms on the same batches." + mean + (" Thin: every step." if kind == "train" else "")
            measure = name if kind == "heldout" else "nats per target"
            yield Table(file, title, caption, rows), measure, draw_curves, panel_height
    rows = list(_metric_rows(study, result))
    caption = "With the 95 % interval of its evaluation, where there is one."
    if repeats:
        caption = "Small: each run. Large: mean over the seeds, with its 95 % interval."
    key = rows[0]["setting"] if rows else None
    if key:
        yield Table("study_metric", f"{name} by {key}", caption, rows), name, _draw_by_value, panel_height
    elif rows:
        yield Table("study_metric", f"{name} by arm", caption, rows), name, _draw_by_arm, _rows_height


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


def _draw_by_value(axes: Any, rows: list[Row], styles: Styles) -> None:
    groups = by_model(rows)
    places = [cell(row, "x") for row in rows]
    if min(places) > 0 and max(places) / min(places) >= 10:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(sorted(set(places)), [f"{place:g}" for place in sorted(set(places))])
    for name, points in groups.items():
        colour, marker = styles[name]
        means = sorted((row for row in points if row["kind"] == "mean"), key=lambda row: cell(row, "x"))
        x, y = [cell(row, "x") for row in means], [cell(row, "value") for row in means]
        axes.plot(x, y, color=colour, marker=marker, label=short(name))
        for row in points:
            at = cell(row, "x")
            if row["kind"] == "run":
                axes.plot([at], [cell(row, "value")], color=colour, marker=marker, markersize=2, alpha=0.6)
            elif math.isfinite(cell(row, "low")):
                axes.plot([at, at], [cell(row, "low"), cell(row, "high")], color=colour, linewidth=1)
    axes.set_xlabel(rows[0]["setting"])
    value_ticks(axes.yaxis)
    legend(axes, groups)


def _draw_by_arm(axes: Any, rows: list[Row], styles: Styles) -> None:
    names = list(by_model(rows))
    for row in rows:
        (colour, marker), place = styles[row["model"]], names.index(row["model"])
        if row["kind"] == "run":
            axes.plot([cell(row, "value")], [place], color=colour, marker=marker, markersize=2, alpha=0.6)
            continue
        axes.plot([cell(row, "value")], [place], color=colour, marker=marker, linestyle="none")
        if math.isfinite(cell(row, "low")):
            axes.plot([cell(row, "low"), cell(row, "high")], [place, place], color=INK, linewidth=1)
    axes.set_yticks(range(len(names)), [short(name, 16) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    value_ticks(axes.xaxis)


def _rows_height(rows: list[Row]) -> float:
    return 0.8 + 0.28 * len(by_model(rows))
