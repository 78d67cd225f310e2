"""A study side by side: one table as CSV, JSON, terminal lines and page; curves of all arms on shared axes."""

import json
import logging
from typing import Any

from markupsafe import Markup

from ftkit.config.sweeps import Study
from ftkit.display.tables import plain_table
from ftkit.display.wording import number, visible
from ftkit.report.arms import SECONDS, ArmResult, Measured, Pair, StudyResult, read_study
from ftkit.report.figures import inline_svg
from ftkit.report.page import _day, _environment, _flat, _resource
from ftkit.report.renderer import as_csv
from ftkit.report.study_figures import draw_study, metric_name
from ftkit.runs import RunFolder

__all__ = ["announce_study", "write_study"]

_logger = logging.getLogger("ftkit.report")
_OVER = {
    "seeds": "over seeds",
    "evaluation": "over held-out text, one run each",
    "none": "one run each: no interval",
}
_SETTINGS_NOTES = {
    "study": "This is config.yaml; given back, it reproduces the study.",
    "comparison": "What all runs have in common; in what they differ stands beside their names.",
}


def write_study(run: RunFolder, study: Study, failures: dict[str, str] | None = None) -> None:
    """Write ``study.csv``, ``points.csv``, ``study.json``, ``figures/`` and ``report.html`` of a study.

    Args:
        run: The study's folder.
        study: Its points.
        failures: Why points could not run.
    """
    result = read_study(run, study.points, failures)
    kind = "comparison" if any(point.folder for point in study.points) else "study"
    several = len({arm.model for arm in result.arms}) > 1
    heads, rows = _heads(result, several), [_cells(result, arm, several) for arm in result.arms]
    said = [_outcome(result), *(plain_table(heads, rows) if rows else ()), *_notes(result)]
    said += [f"{point.name}: {point.status}: {point.error}" for point in result.points if point.error]
    run.write_json("study.json", {**result.as_dict(), "said": said})
    if result.arms:
        run.write_text("study.csv", as_csv(_arm_rows(result)))
        run.write_text("points.csv", as_csv(_point_rows(result)))
    figures = draw_study(run, study, result)
    page = (
        _environment()
        .from_string(_resource("study.html.j2"))
        .render(
            title=f"{kind.capitalize()} of {run.recipe}",
            kind=kind,
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
            settings_note=_SETTINGS_NOTES[kind],
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


# --- The table ---


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
    usage = ["Use of frequent tokens"] if any("usage_after" in arm.values for arm in result.arms) else []
    verdicts = ["Verdicts"] if any(arm.verdicts for arm in result.arms) else []
    return [
        *(["Model"] if several else []), "Arm", "Runs", metric_name(result.headline), "Spread (sd)", *gain,
        *usage, "Beside the best", *verdicts, "Seconds per step",
    ]  # fmt: skip


def _cells(result: StudyResult, arm: ArmResult, several: bool) -> list[str]:
    heads = _heads(result, several)
    main = arm.values.get(result.headline)
    runs = f"{arm.n}" + (f" (and {arm.missing} without result)" if arm.missing else "")
    cells = [*([arm.model] if several else []), arm.arm, runs, _spread(main)]
    cells.append(number(main.sd) if main and main.sd is not None else "")
    cells += [_spread(arm.values.get("gain"))] if "Gain over base" in heads else []
    if "Use of frequent tokens" in heads:
        before, after = (arm.values.get(f"usage_{when}") for when in ("before", "after"))
        cells.append(f"{number(before.mean)} → {_spread(after)}" if before and after else "")
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
    bare = [
        point.name
        for point in result.points
        if point.status == "done" and not any(result.headline in model.values for model in point.models.values())
    ]
    if bare:
        said.append(f"Without {metric_name(result.headline)}, and so not in the table: {', '.join(bare)}.")
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
