"""Whose writing does it resemble? What judges say of base, tuned model and real text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftkit.display.figures import Figure, Kind, Lines, Points, Rules
from ftkit.display.tables import Cell, Gauge, PageTable, Part, Row
from ftkit.display.wording import MISSING, interval, is_number, number, percent, percent_interval, slug
from ftkit.evidence.judges import CORRUPTED
from ftkit.evidence.measure import Advice, Case, Measure, OpenRule, Outcome, RunResults, Support
from ftkit.evidence.style import HALF_WAY, StyleScore

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE", "Style"]

_LESSONS = (0.85, 0.90)
"""Mean probabilities at which the lessons call a style learned."""
_ANSWERS = {"for": "like it", "part": "part of the way", "against": "against", "undecided": "not decided"}
"""What is shown of each answer."""


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
        enough = case.limits.style_position
        found = [(score, score.answer(enough)) for score in result.speaking]
        reasons = [_said(score, answer) for score, answer in found]
        reasons += [_exaggerated(score) for score, _ in found if score.exaggerated]
        if not found:
            reasons.append("style was not measured")
        reasons += [f"judge {score.judge} is not used: {score.reason}" for score in result.judges if not score.speaks]
        by = [_compared(score, answer, enough) for score, answer in found]
        changes = any(answer in ("for", "part") for _, answer in found)
        return Support(all(answer != "against" for _, answer in found), reasons, by, change=changes)

    def open_rules(self, result: Style, case: Case) -> Iterable[OpenRule]:
        for score in result.speaking:
            if score.answer(case.limits.style_position) == "undecided":
                yield OpenRule(f"style, judge {score.judge}", "worked")

    def rows(self, result: Style) -> Iterable[Row]:
        for score in result.judges:
            silent = "" if score.speaks else " (is not used)"
            if score.speaks:
                yield Row(f"style position, judge {score.judge}", score.position, "0", "1")
            yield Row(
                f"mean probability of the target, judge {score.judge}{silent}", score.score, score.floor, score.ceiling
            )

    def headline(self, result: Style, outcome: Outcome) -> Iterable[str]:
        if not result.speaking:
            yield "style was not measured"

    def gauges(self, result: Style, outcome: Outcome) -> Iterable[Gauge]:
        enough = outcome.limit("style_position", HALF_WAY)
        for score in result.speaking:
            answer = score.answer(enough)
            said = "" if answer == "for" else f" ({_ANSWERS[answer]})"
            if is_number(score.position.value):
                yield Gauge(f"Style, judge {score.judge}{said}", score.position)

    def parts(self, results: Mapping[str, Style], document: Mapping[str, Any]) -> Iterable[Part]:
        judges = document.get("judges") or {}
        tables = [
            PageTable(
                "Distances to real text, squared, with their intervals",
                (
                    "Model", "Judge", "Answer", "Position", "Tuned model", "Base model", "Halves of real text",
                    "Nearest other class", "Nearer to it by", "Usable",
                ),
                [(name, [_distance_cells(score) for score in found.judges]) for name, found in results.items()],
            ),
            PageTable(
                "Mean probability of the target with 95 % intervals",
                ("Model", "Judge", "Base model", "Tuned model", "Real text", "Classified as target", "Left out"),
                [(name, [_score_cells(score) for score in found.judges]) for name, found in results.items()],
            ),
        ]  # fmt: skip
        if judges:
            tables += [_gates(judges), _pairs(judges)]
        if courses := document.get("courses"):
            tables.append(_courses(courses, judges, document.get("judging") or {}))
        yield Part(
            "style", "Style between base and real text",
            "A judge is trained to separate the target, other real text, the base's text, and corrupted text of the "
            "target: words in random order, and a character chain. Distances are energy distances between its "
            "log-probabilities. Position: 1 - sqrt(distance of the tuned model / distance of the base). Halves of real "
            "text: what is no distance. Gates are checked on held-out passages whose class is known. Swapped labels: "
            "best AUC of a control trained on wrong labels; it must be below the gate's minimum. Agreement, "
            "calibration error and log-loss (nats per passage) are reported and decide nothing.",
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
        if not outcome.undecided and "worked" not in outcome.words:
            return
        enough = outcome.limit("style_position", HALF_WAY)
        for score in result.judges:
            answer, judge = score.answer(enough), f"Judge {score.judge}"
            placed = f"{judge}: position {interval(score.position)}"
            if not score.speaks:
                better = "give more text, or a better judge (judge_model, judge_max_steps)"
                yield f"{judge} is not used ({score.reason}): {better}."
            elif score.exaggerated:
                plain = f"sampling: plain{outcome.was('sampling')}"
                yield f"{judge}: the style is exaggerated. Use {plain}, and read the samples."
            elif score.nearest_other in CORRUPTED:
                yield f"{judge}: it is nearest to corrupted target text ({score.nearest_other}). Read the samples."
            elif score.nearest_other:
                yield f"{judge}: the text is nearer to {score.nearest_other}. Check that the right text was trained on."
            elif answer == "undecided":
                yield f"{placed} is not decided: raise num_passages."
            elif answer != "for":
                remedy = "train longer, raise learning_rate, or start from a better base"
                yield Advice(f"{placed} is below {enough:g}: {remedy}.", "more")


def _said(score: StyleScore, answer: str) -> str:
    """What a judge that speaks says, in a sentence."""
    judge, placed = f"judge {score.judge}", f"position {score.position}"
    if answer == "for":
        return f"{judge} puts its text at {score.position} on the way from the base model (0) to real text (1)"
    if answer == "part":
        return f"{judge}: part of the way from the base model (0) to real text (1), {placed}"
    if answer == "undecided":
        return f"{judge}: style was not decided, {placed}"
    if score.nearest_other and score.distances:
        kind = "corrupted target text" if score.nearest_other in CORRUPTED else "other text"
        by = f"the distances differ by {score.distances.nearer}"
        return f"{judge}: nearer to {kind} ({score.nearest_other}) than to real text of the target, {by}"
    return f"{judge}: farther from real text than the base model, {placed}"


def _exaggerated(score: StyleScore) -> str:
    above = f"its mean probability of the target, {score.score.value:.3f}, is above real text's, {score.ceiling}"
    return f"judge {score.judge}: the style is exaggerated; {above}, and its distance from real text is above 0"


def _compared(score: StyleScore, answer: str, enough: float) -> str:
    """The number that decided, beside its threshold."""
    low, high = f"{score.judge} position.low {score.position.low:z.3f}", f"position.high {score.position.high:z.3f}"
    if answer == "against" and score.distances and score.distances.nearer and score.nearest_other:
        return f"{score.judge} nearer to {score.nearest_other}.low {score.distances.nearer.low:z.3f} > 0"
    if answer == "against":
        return f"{score.judge} {high} < 0"
    return {
        "for": f"{low} > style_position {enough}",
        "part": f"{low} > 0, <= style_position {enough}",
    }.get(answer, f"{low} <= 0 <= {high}")


def _distance_cells(score: StyleScore) -> list[str | Cell]:
    found = score.distances
    distances = (found.tuned, found.base, found.halves) if found else (None, None, None)
    return [
        Cell(score.judge), Cell(_ANSWERS[score.answer()] if score.speaks else MISSING),
        interval(score.position) if score.speaks else "", *map(interval, distances),
        Cell((found and found.other) or MISSING), interval(found and found.nearer),
        Cell("yes") if score.speaks else Cell(f"no: {score.reason}", "long"),
    ]  # fmt: skip


def _score_cells(score: StyleScore) -> list[str | Cell]:
    return [
        Cell(score.judge), *map(interval, (score.floor, score.score, score.ceiling)), percent_interval(score.accuracy),
        number(score.left_out),
    ]  # fmt: skip


def _gates(judges: Mapping[str, Any]) -> PageTable:
    heads = (
        "Judge", "Accuracy", "Lowest AUC, names masked", "Two seeds agree", "Calibration error", "Log-loss",
        "Swapped labels", "Shortest passage", "Usable",
    )  # fmt: skip
    groups = []
    for name, gate in judges.items():
        seeds = f" (seeds: {gate['agreement_between']})" if gate.get("agreement_between") else ""
        said = f"{'yes' if gate['speaks'] else 'no'}: {gate['reason']}{seeds}"
        cells: list[str | Cell] = [
            percent(gate["accuracy"]), number(_least(gate["auc_names_masked"])), percent(gate.get("agreement")),
            *(number(gate.get(key)) for key in ("calibration_error", "log_loss", "swapped_auc")),
            Cell(f"{number(gate.get('length'))} {gate.get('unit', '')}"), Cell(said, "long"),
        ]  # fmt: skip
        groups.append((name, [cells]))
    return PageTable("Gates: the checks that each judge must pass before it is used", heads, groups)


def _pairs(judges: Mapping[str, Any]) -> PageTable:
    """How well each judge separates the target from each other class."""
    groups = []
    for name, gate in judges.items():
        rows: list[list[str | Cell]] = [
            [Cell(target), Cell(other), number(auc)]
            for target, others in gate.get("auc_pairs", {}).items()
            for other, auc in others.items()
        ]
        groups.append((name, rows or [[Cell(MISSING), Cell(MISSING), Cell(MISSING)]]))
    return PageTable(
        "AUC of real text of the target against each other class", ("Judge", "Target", "Other", "AUC"), groups
    )


def _least(aucs: Mapping[str, float | None]) -> float | None:
    """The least AUC; a class without held-out passages has none."""
    return min((auc for auc in aucs.values() if auc is not None and is_number(auc)), default=None)


def _courses(courses: Mapping[str, Any], judges: Mapping[str, Any], times: Mapping[str, Any]) -> PageTable:
    """The lessons' fit of the share of passages given to the target on the logarithm of time."""
    bars = ("0.85", "0.90")
    groups = []
    for name, judged in courses.items():
        rows = []
        for judge, course in judged.items():
            fit, used = course["accuracy"], judges.get(judge, {}).get("speaks", True)
            cells: list[str | Cell] = [
                Cell(judge if used else f"{judge} (not used)"), number(course["last_accuracy"]),
                *(_step(course["first_step_at"].get(bar)) for bar in bars),
                interval(fit["slope"]), percent(fit["explained"]), *(_step(fit["bars"].get(bar)) for bar in bars),
                percent(times.get(name, {}).get("share")),
                Cell(f"{'accepted' if fit['holds'] else 'rejected'}: {fit['reason']}", "long"),
            ]  # fmt: skip
            rows.append(cells)
        groups.append((name, rows))
    return PageTable(
        "Share of passages classified as the target, by step; fit: a + b ln(step). Thresholds of the lessons: 0.85 "
        "acceptable, 0.90 learned. A rejected fit gives no step",
        (
            "Model", "Judge", "At the last step", "First step at 0.85", "First step at 0.90", "b",
            "Variance explained", "Fitted step at 0.85", "Fitted step at 0.90", "Time spent judging", "Fit",
        ),
        groups,
    )  # fmt: skip


def _step(step: float | None) -> str:
    return "none" if step is None else number(step)


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
