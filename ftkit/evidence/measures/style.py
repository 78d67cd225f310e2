"""Whose writing does it resemble? What judges say of base, tuned model and real text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftkit.display.figures import Figure, Kind, Lines, Points, Rules
from ftkit.display.tables import Cell, Gauge, PageTable, Part, Row
from ftkit.display.wording import MISSING, fixed, interval, is_number, number, percent, percent_interval, slug
from ftkit.evidence.measure import Advice, Case, Measure, Outcome, RunResults, Support
from ftkit.evidence.style import StyleScore, disagreement

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE", "Style"]

_LESSONS = (0.85, 0.90)
"""Mean probabilities at which the lessons call a style learned."""


@dataclass(frozen=True)
class Style:
    """What every judge says."""

    judges: tuple[StyleScore, ...]

    @property
    def speaking(self) -> list[StyleScore]:
        """Those that passed their gate and are usable here."""
        return [score for score in self.judges if score.speaks]


class StyleMeasure(Measure[Style]):
    """Asks judges where the tuned model stands between its base and real text."""

    name, place, result, unit, needs = "style", 30, Style, "0: base model, 1: real text", ("judges", "passages")
    kinds = {
        "judge_score": Kind(
            "mean probability of the target",
            (
                Lines(where={"source": "tuned"}),
                *(Rules(limit, line="dotted") for limit in _LESSONS),
                Rules(where={"source": "base"}, color="model", name="base model"),
                Rules(where={"source": "real"}, color="model", name="real text", line="dashdot"),
            ),
            covers=(0, 1),
        ),
        "style": Kind(
            "mean probability of the target",
            (
                Points("floor", color=None, filled=False),
                Points("ceiling", color=None, filled=False, marker="D"),
                Points("score", where={"speaks": "yes"}, text="{score:.2f}"),
                Points("score", where={"speaks": "no"}, text="{score:.2f} (not used)"),
            ),
            rows="{model}\n{judge}",
            covers=(0, 1),
        ),
    }
    question = "Where does its writing stand between its base's and real text?"

    def compute(self, comparison: Comparison) -> Style | None:
        return Style(tuple(comparison.styles)) if comparison.styles else None

    def support(self, result: Style, case: Case) -> Support | None:
        enough, holds = case.limits.style_position, True
        reasons, by = [], []
        for score in result.speaking:
            reached = score.position.low >= enough
            holds = holds and reached
            reasons.append(
                f"judge {score.judge}: {score.score.value:.2f} between floor {score.floor.value:.2f} and ceiling "
                f"{score.ceiling.value:.2f}, position {score.position}"
                + ("" if reached else f"; the lower bound is below {enough}")
            )
            compared = ">=" if reached else "<"
            by.append(f"{score.judge} position.low {score.position.low:.3f} {compared} style_position {enough}")
        if opposite := disagreement(result.judges):
            holds = False
            reasons.append(opposite)
            by.append("judges disagree in order")
        silent = [score for score in result.judges if not score.speaks]
        reasons += [f"judge {score.judge} is not used: {score.reason}" for score in silent]
        if not result.speaking:
            reasons.append("no judge is usable, so style rests on held-out loss alone")
        return Support(holds, reasons, by)

    def rows(self, result: Style) -> Iterable[Row]:
        for score in result.judges:
            silent = "" if score.speaks else " (is not used)"
            yield Row(f"style, judge {score.judge}{silent}", score.score, score.floor, score.ceiling)
            if score.speaks:
                yield Row(f"position, judge {score.judge}", score.position, "0", "1")

    def headline(self, result: Style, outcome: Outcome) -> Iterable[str]:
        if not result.speaking:
            yield "no judge is usable for its style"
            return
        who = "judges place" if len(result.speaking) > 1 else "a judge places"
        places = " and ".join(f"{_place(score.position.value)} ({score.judge})" for score in result.speaking)
        yield f"{who} it at {places} of the way from the base to real text"

    def gauges(self, result: Style) -> Iterable[Gauge]:
        for score in result.speaking:
            if is_number(score.position.value):
                yield Gauge(f"Style, judge {score.judge}", score.position)

    def parts(self, results: Mapping[str, Style], document: Mapping[str, Any]) -> Iterable[Part]:
        judges = document.get("judges") or {}
        tables = [
            PageTable(
                "Mean probability of the target with 95 % intervals",
                (
                    "Model", "Judge", "AUC", "AUC, names masked", "Floor", "Score", "Ceiling", "Position",
                    "Classified as target", "Left out", "Usable",
                ),
                [
                    (name, [_score_cells(name, score, judges) for score in found.judges])
                    for name, found in results.items()
                ],
            )
        ]  # fmt: skip
        if judges:
            tables.append(_gates(judges))
        if courses := document.get("courses"):
            tables.append(_courses(courses))
        yield Part(
            "style", "Style between floor and ceiling",
            "A judge is trained to separate the target, other real text and the base's text. Floor: its mean score of "
            "the base's passages. Ceiling: that of real text which was not trained on. Position: (score - floor) / "
            "(ceiling - floor). Gates are checked on held-out passages whose author is known. Swapped labels: best AUC "
            "of a control trained on wrong labels; it must be below the gate's minimum. Calibration error: gap between "
            "confidence and accuracy. Log-loss: nats per passage.",
            tables, ("judge_score", "style"), link="Style", after_samples=False,
        )  # fmt: skip

    def figures(self, results: RunResults) -> Iterable[Figure]:
        found = results.measured_by(self.name)
        judges = dict.fromkeys(
            key.removesuffix("_probability")
            for model in results.models
            for record in results.metrics(model, "judge")
            for key in record
            if key.endswith("_probability")
        )
        for judge in judges:
            rows = [row for model in results.models for row in _by_step(results, found.get(model), model, judge)]
            caption = (
                "How sure the judge is, on average, that a passage is by the target. Dashed: the base model (floor). "
                "Dash-dotted: real held-out text (ceiling); bands are 95 % intervals. Dotted: 0.85 and 0.90, the "
                "lessons' bars."
            )
            yield Figure(f"judge_score-{slug(judge)}", f"Style by step, judge {judge}", caption, rows)
        rows = []
        for model, style in found.items():
            for score in style.judges:
                row = {"model": model, "judge": score.judge, "speaks": "yes" if score.speaks else "no"}
                for key in ("floor", "score", "ceiling"):
                    measured = getattr(score, key)
                    row |= {key: measured.value, f"{key}_low": measured.low, f"{key}_high": measured.high}
                rows.append(row)
        caption = (
            "Open circle: base model. Diamond: real held-out text. Between them the tuned model; bars are 95 % "
            "intervals."
        )
        yield Figure("style", "Style between floor and ceiling", caption, rows)

    def advice(self, result: Style, outcome: Outcome) -> Iterable[str | Advice]:
        if not outcome.undecided:
            return
        enough = outcome.limit("style_position", 0.5)
        for score in result.judges:
            high = score.ceiling.high if is_number(score.ceiling.high) and score.ceiling.high else math.inf
            if not score.speaks and score.score.value > high:
                yield (
                    f"Judge {score.judge} scores it above real text. Read the samples. Sampling other than plain can "
                    f"cause this{outcome.was('sampling')}."
                )
            elif not score.speaks:
                yield (
                    f"Judge {score.judge} is not used ({score.reason}): give more text, or a better judge "
                    "(judge_model, judge_max_steps)."
                )
            elif not score.position.low > enough:
                placed = f"Judge {score.judge}: {interval(score.position)}"
                if score.position.high > enough:
                    yield f"{placed} crosses {enough:g}: raise num_passages."
                else:
                    remedy = "train longer, raise learning_rate, or start from a better base"
                    yield Advice(f"{placed} is below {enough:g}: {remedy}.", "more")


def _place(value: float) -> str:
    return fixed(value, 2) if is_number(value) else MISSING


def _score_cells(name: str, score: StyleScore, judges: Mapping[str, Any]) -> list[str | Cell]:
    gate = judges.get(score.judge, {})
    asked = gate.get("auc", {})
    target = name if name in asked else "corpus" if "corpus" in asked else "text"
    return [
        Cell(score.judge), number(asked.get(target)), number(gate.get("auc_names_masked", {}).get(target)),
        *map(interval, (score.floor, score.score, score.ceiling)), interval(score.position) if score.speaks else "",
        percent_interval(score.accuracy), number(score.left_out),
        Cell("yes") if score.speaks else Cell(f"no: {score.reason}", "long"),
    ]  # fmt: skip


def _gates(judges: Mapping[str, Any]) -> PageTable:
    heads = (
        "Judge", "Accuracy", "Lowest AUC", "Lowest, names masked", "Two seeds agree", "Calibration error", "Log-loss",
        "Swapped labels", "Shortest passage", "Usable",
    )  # fmt: skip
    groups = []
    for name, gate in judges.items():
        seeds = f" (seeds: {gate['agreement_between']})" if gate.get("agreement_between") else ""
        said = f"{'yes' if gate['speaks'] else 'no'}: {gate['reason']}{seeds}"
        cells: list[str | Cell] = [
            percent(gate["accuracy"]), number(_least(gate["auc"])), number(_least(gate["auc_names_masked"])),
            percent(gate.get("agreement")),
            *(number(gate.get(key)) for key in ("calibration_error", "log_loss", "swapped_auc")),
            Cell(f"{number(gate.get('length'))} {gate.get('unit', '')}"), Cell(said, "long"),
        ]  # fmt: skip
        groups.append((name, [cells]))
    return PageTable("Gates: the checks that each judge must pass before its scores are used", heads, groups)


def _least(aucs: Mapping[str, float | None]) -> float | None:
    """The least AUC; a class without held-out passages has none."""
    return min((auc for auc in aucs.values() if auc is not None and is_number(auc)), default=None)


def _courses(courses: Mapping[str, Any]) -> PageTable:
    """The lessons' fit of the share of passages given to the target on the logarithm of time."""
    bars = ("0.85", "0.90")
    groups = []
    for name, judged in courses.items():
        rows = []
        for judge, course in judged.items():
            fit = course["accuracy"]
            cells: list[str | Cell] = [
                Cell(judge), number(course["last_accuracy"]),
                *(number(course["first_step_at"].get(bar)) for bar in bars),
                interval(fit["slope"]), percent(fit["explained"]), *(number(fit["bars"].get(bar)) for bar in bars),
                Cell(f"{'accepted' if fit['holds'] else 'rejected'}: {fit['reason']}", "long"),
            ]  # fmt: skip
            rows.append(cells)
        groups.append((name, rows))
    return PageTable(
        "Share of passages classified as the target, by step; fit: a + b ln(step). Thresholds of the lessons: 0.85 "
        "acceptable, 0.90 learned. A rejected fit gives no step",
        (
            "Model", "Judge", "At the last step", "First step at 0.85", "First step at 0.90", "b",
            "Variance explained", "Fitted step at 0.85", "Fitted step at 0.90", "Fit",
        ),
        groups,
    )  # fmt: skip


def _by_step(results: RunResults, style: Style | None, model: str, judge: str) -> Iterable[dict[str, Any]]:
    """Floor, score by step, and ceiling."""
    empty = {"model": model, "source": "tuned", "step": None, "value": None, "low": None, "high": None}
    for record in results.metrics(model, "judge"):
        yield empty | {"step": record["step"], "value": record.get(f"{judge}_probability")}
    for score in style.judges if style else ():
        if score.judge == judge:
            yield empty | {"source": "base", **vars(score.floor)}
            yield empty | {"source": "real", **vars(score.ceiling)}


MEASURE = StyleMeasure()
