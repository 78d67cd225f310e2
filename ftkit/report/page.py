"""``report.html``: one page that holds everything a person wants to know of a run, and needs nothing else.

It is made from the files in the run folder alone, so it can be made again later. Text that a model generated, names and
settings are escaped by the template; the only markup inserted as it is are our own style sheet, script and figures.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from textwrap import shorten
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from ftkit.display import wording
from ftkit.display.tables import Cell, Gauge, PageTable, Part, Row, shown
from ftkit.display.wording import visible
from ftkit.evidence.document import Evidence, summary_rows
from ftkit.evidence.measure import Measure, Outcome
from ftkit.evidence.measures import all_measures
from ftkit.evidence.thresholds import threshold_meanings
from ftkit.report.advice import advised, outcome_of
from ftkit.report.blind_test import blind_test
from ftkit.report.classification import CLASSIFIERS, classifier_headline
from ftkit.report.code_samples import CODE
from ftkit.report.comparisons import COMPARISONS
from ftkit.report.figures import DrawnFigure, draw_figures, inline_svg
from ftkit.report.measures import marked_parts
from ftkit.report.probes import PROBED
from ftkit.report.renderer import PALETTE
from ftkit.report.run_files import Results, read_results
from ftkit.report.sections import Section, sections_of
from ftkit.report.wording import headline, outcome
from ftkit.runs import RunFolder, written_passages

__all__ = ["write_report"]

_EXCERPT_CHARS = 260
"""Characters of a passage beside the verdict: three of them and the sentence fit on the first screen."""
_PASSAGES = 4
"""Passages shown side by side: tuned, base, real."""
_PASSAGE_CHARS = 1500
"""Characters that are shown of a passage: about a screen."""
_SAMPLE_BYTES = 2_000_000
"""Share of the page that samples may take; beyond it, steps are thinned evenly."""

Spans = Sequence[Sequence[int]]
"""First and end character of each run that occurs in the training text."""

_WEIGHTS = ("weight_std", "weight_histogram")
"""Figures of each group, which are many and are shown when asked for."""


def write_report(run: RunFolder, *sections: Section) -> Path:
    """Draw the figures of a run and write ``report.html``.

    Args:
        run: A run, finished or not: what is not there is left out.
        sections: What the run's recipe adds to the report.

    Returns:
        The page's path.
    """
    path = run.path / "report.html"
    if not run.is_main:
        return path
    results = read_results(run)
    figures = {figure.name: figure for figure in draw_figures(run, *sections)}
    script = _resource("report.js")
    own = sections_of(results, sections)
    page = _environment(own).from_string(_resource("report.html.j2"))
    finding = results.measured.get("finding", "")
    title = _outcome(results, own)
    text = page.render(
        title=f"{title} ({run.recipe})",
        outcome=title,
        alone=_only_word(results, title),
        finding=finding,
        target=results.target,
        classifiers=results.measured.get("classifiers", {}),
        named_metrics=results.measured.get("named_metrics", {}),
        mistakes=results.measured.get("mistakes", []),
        recipe=run.recipe,
        started=_day(results.manifest.get("started")),
        style_sheet=Markup(_resource("report.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        models=[_model(results, name, place) for place, name in enumerate(results.models)],
        advice=[(name, results.verdicts[name]["verdict"], steps) for name, steps in advised(results, own).items()],
        figures={name: Markup(inline_svg(figure)) for name, figure in figures.items()},
        curves=_select(figures, "heldout_bits", "train_loss", "learning_rate", "gradient_norm"),
        together=_select(figures, "predictive", "attribution", "usage_matrix"),
        predictive=results.measured.get("predictive"),
        usage=results.measured.get("usage_matrix", {}),
        heldout=_heldout_table(results),
        summary=_rows_table(
            "All measurements, with 95 % intervals; gains and rises are paired on the same windows of held-out text",
            {name: summary_rows(evidence) for name, evidence in results.models_measured.items()},
        ),
        parts=[(part, _select(figures, *part.figures)) for part in _parts(results)],
        classifying=_select(figures, *CLASSIFIERS),
        code=results.measured.get("code", {}),
        coding=_select(figures, *CODE),
        comparison=_select(figures, *_kinds_without_template(own), *COMPARISONS),
        probed=_select(figures, *(kind for kind in PROBED if kind not in _WEIGHTS)),
        distributions=_select(figures, *_WEIGHTS),
        palette=PALETTE,
        sections=[_shown_section(results, section, figures) for section in own if section.template],
        arms=results.measured.get("arms", {}),
        fills=any("masks" in sample for sample in results.samples),
        marked=any(any(_marks(results.evidence(name))) for name in results.models),
        settings=list(_flat(results.settings)),
        manifest=results.manifest,
        limits=_limits(results, own),
    )
    return run.write_text("report.html", visible(text))


def _resource(name: str) -> str:
    return files("ftkit.report").joinpath(name).read_text(encoding="utf-8")


def _environment(sections: Iterable[Section] = ()) -> Environment:
    """Everything is escaped, and a name that does not exist is an error; sections are included by their key."""
    loader = DictLoader({s.key: s.template.read_text(encoding="utf-8") for s in sections if s.template})
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "best_step": wording.best_step,
        "number": wording.number,
        "percent": wording.percent,
        "interval": wording.interval,
        "percent_interval": wording.percent_interval,
    }
    return environment


def _select(figures: Mapping[str, DrawnFigure], *kinds: str) -> list[DrawnFigure]:
    """Figures of some kinds, in the order of the kinds."""
    return [figure for kind in kinds for name, figure in figures.items() if name.partition("-")[0] == kind]


def _kinds_without_template(sections: Iterable[Section]) -> list[str]:
    return [kind for section in sections if not section.template for kind in section.kinds]


def _shown_section(results: Results, section: Section, figures: Mapping[str, DrawnFigure]) -> dict[str, Any]:
    """A section's value, figures and links."""
    found = results.measured[section.key]
    links = list(section.links(found)) if section.links else []
    return {"key": section.key, "found": found, "drawn": _select(figures, *section.kinds), "links": links}


def _day(moment: str | None) -> str:
    return f"{datetime.fromisoformat(moment):%d %B %Y, %H:%M} UTC" if moment else ""


# --- One model ---


def _model(results: Results, name: str, place: int) -> dict[str, Any]:
    """What the page says of one model."""
    evidence, verdict = results.evidence(name), results.verdicts.get(name)
    measured, said = _measured(evidence), verdict and outcome_of(verdict, evidence, results.asked)
    real = results.measured.get("real", {}).get(name, [])
    return {
        "name": name,
        "place": place,
        "colour": place % len(PALETTE),
        "verdict": verdict,
        "headline": _headline(results, name, said),
        "evidence": evidence,
        "excerpts": _excerpts(results, name, real),
        "gauges": [_gauge(gauge) for measure, result in measured if said for gauge in measure.gauges(result, said)],
        "steps": _steps(results, name),
        "base": _clipped(written_passages(results.measured, name)[0]),
        "real": _clipped(real, _marks(evidence)[1]),
        "blind": blind_test(written_passages(results.measured, name)[1], real, _PASSAGES),
        "plan": results.manifest.get("plan", {}).get(name),
        "best": results.manifest.get("best", {}).get(name),
        "seconds": sum(record.get("seconds") or 0.0 for record in results.metrics(name, "train")),
    }


def _excerpts(results: Results, name: str, real: Sequence[str]) -> list[tuple[str, str]]:
    """The beginning of one passage of base, tuned model and real text; nothing where one of them has none."""
    base, tuned = written_passages(results.measured, name)
    sources = {"Base model": base, "Tuned model": tuned, "Real text": real}
    if not all(sources.values()):
        return []
    return [(source, shorten(passages[0], _EXCERPT_CHARS, placeholder=" …")) for source, passages in sources.items()]


def _outcome(results: Results, sections: Iterable[Section]) -> str:
    """The run in one line."""
    for section in sections:
        if section.outcome:
            return section.outcome(results.measured[section.key])
    if results.target != "text" or results.verdicts:
        return outcome(results.verdicts)
    if arms := results.measured.get("arms"):
        return f"{len(arms)} arms compared"
    tested = [results.measured.get("classifiers", {}).get(name) for name in results.models]
    shares = [wording.percent(scores["accuracy"]["value"]) for scores in tested if scores]
    return f"{', '.join(shares)} of the test texts classified rightly" if shares else "Not tested yet"


def _only_word(results: Results, title: str) -> str:
    """The verdict's word where the title says it of the only model, so that its card need not say it again."""
    words = [verdict["verdict"] for verdict in results.verdicts.values()]
    return words[0] if len(words) == len(results.models) == 1 and title == outcome(results.verdicts) else ""


def _headline(results: Results, name: str, said: Outcome | None) -> str:
    """The verdict on a model, the test of a classifier, or that there is nothing yet."""
    if scores := results.measured.get("classifiers", {}).get(name):
        return classifier_headline(scores)
    if said is not None:
        named_after_text = name in (results.settings.get("corpora") or {})
        return headline(name, said, results.verdicts[name]["reasons"], results.evidence(name), named_after_text)
    return f"{name}: no verdict yet."


def _gauge(gauge: Gauge) -> dict[str, Any]:
    """A position as places on a bar that ends at real text (100 %)."""

    def along(value: float) -> float:
        return round(100 * min(max(value, 0.0), 1.0), 1)

    position = gauge.position
    low, high = along(position.low), along(position.high)
    return {
        "label": gauge.label,
        "zero": gauge.zero,
        "position": position,
        "low": low,
        "width": round(high - low, 1),
        "value": along(position.value),
    }


def _measured(evidence: Evidence | None) -> list[tuple[Measure[Any], Any]]:
    """The measures that have a result."""
    results = evidence.measures if evidence else {}
    return [(measure, results[measure.name]) for measure in all_measures() if results.get(measure.name) is not None]


def _marks(evidence: Evidence | None) -> tuple[Sequence[Spans], Sequence[Spans]]:
    """Runs to mark in generated and in real passages."""
    for measure, result in _measured(evidence):
        generated, real = measure.marks(result)
        if generated or real:
            return generated, real
    return (), ()


def _clipped(texts: Sequence[str], spans: Sequence[Spans] = ()) -> list[dict[str, Any]]:
    """The first passages; what is copied in them is marked."""
    marks = [*spans[:_PASSAGES], *([()] * _PASSAGES)]
    return [_shown("", text, copied) for text, copied in zip(texts[:_PASSAGES], marks, strict=False)]


def _shown(prompt: str, text: str, copied: Spans = ()) -> dict[str, Any]:
    parts = marked_parts(text[:_PASSAGE_CHARS], copied)
    if more := _clip(text)[len(text[:_PASSAGE_CHARS]) :]:
        parts.append((more, False))
    return {"prompt": prompt, "text": _clip(text), "parts": parts}


def _clip(text: str) -> str:
    return (
        text
        if len(text) <= _PASSAGE_CHARS
        else f"{text[:_PASSAGE_CHARS]} … ({len(text) - _PASSAGE_CHARS:,} more characters)"
    )


def _steps(results: Results, name: str) -> list[dict[str, Any]]:
    """Sampled steps, their passages and what was measured there; without samples the passages of the evidence."""
    by_step: dict[int, list[dict[str, Any]]] = {}
    for sample in results.samples:
        if sample.get("model") == name:
            shown = by_step.setdefault(sample["step"], [])
            if len(shown) < _PASSAGES:
                shown.append(_passage(sample))
    notes = _notes(results, name)
    steps: list[dict[str, Any]] = [
        {"step": step, "note": notes.get(step, ""), "passages": by_step[step]} for step in sorted(by_step)
    ]
    if not steps and (passages := written_passages(results.measured, name)[1]):
        return [{"step": None, "note": "", "passages": _clipped(passages, _marks(results.evidence(name))[0])}]
    largest = max(
        (sum(len(passage["text"].encode("utf-8", "replace")) for passage in step["passages"]) for step in steps),
        default=1,
    )
    return _evenly(steps, max(_SAMPLE_BYTES // len(results.models) // max(largest, 1), 2))


def _passage(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A sample as prompt and text; of an encoder's, the prompt has masks and the text is the prompt filled in."""
    prompt = sample.get("prompt") or ""
    if "masks" not in sample:
        return _shown(prompt, sample["text"], sample.get("copied") or ())
    score = f"{sample['right']} of {sample['masks']} right"
    return _shown(f"{prompt} → ", f"{_clip(sample['text'])} ({score}; it was: {_clip(sample['truth'])})")


def _evenly(steps: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most so many, spread evenly, with the first and the last."""
    if len(steps) <= most:
        return steps
    return [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]


def _notes(results: Results, name: str) -> dict[int, str]:
    """For each step: held-out loss and judges, as one line."""
    parts: dict[int, list[str]] = {}
    for record in results.metrics(name, "heldout"):
        parts.setdefault(record["step"], []).append(f"{wording.number(record.get('bits_per_byte'))} bits per byte")
    for record in results.metrics(name, "judge"):
        judged = {
            key.removesuffix("_probability"): value for key, value in record.items() if key.endswith("_probability")
        }
        parts.setdefault(record["step"], []).extend(
            f"{judge} {wording.number(value)}" for judge, value in judged.items()
        )
    return {step: ", ".join(said) for step, said in parts.items()}


# --- The run ---


def _parts(results: Results) -> Iterator[Part]:
    """What measures add to the page; a measure that has only rows gets a table of them."""
    for measure in all_measures():
        found = results.measured_by(measure.name)
        if not found:
            continue
        parts = list(measure.parts(found, results.measured))
        yield from parts or _table_of_rows(measure, found)


def _heldout_table(results: Results) -> PageTable:
    """Held-out loss of each model, and the columns that measures add to a table of models."""
    rows = {}
    for name, evidence in results.models_measured.items():
        heldout = evidence.heldout
        rows[name] = {"Base": shown(heldout.base), "Tuned": shown(heldout.tuned), "Gain": shown(heldout.gain)}
        for measure, result in _measured(evidence):
            rows[name] |= {head.capitalize(): text for head, (text, _) in measure.columns(result).items()}
    heads = list(dict.fromkeys(head for row in rows.values() for head in row))
    groups = [(name, [[row.get(head, "") for head in heads]]) for name, row in rows.items()]
    caption = "Held-out text: bits per byte and 95 % intervals, paired on the same windows"
    return PageTable(caption, ("Model", *heads), groups)


def _table_of_rows(measure: Measure[Any], found: Mapping[str, Any]) -> Iterator[Part]:
    table = _rows_table(f"In {measure.unit}", {name: measure.rows(result) for name, result in found.items()})
    if table.groups:
        title = measure.name.replace("_", " ").capitalize()
        yield Part(measure.name, title, measure.question, [table], [*measure.kinds], link=title)


def _rows_table(caption: str, by_model: Mapping[str, Iterable[Row]]) -> PageTable:
    """Rows of several models, one below the other."""
    groups: list[tuple[str, list[list[str | Cell]]]] = [
        (name, [[Cell(row.label), *row.cells()] for row in rows]) for name, rows in by_model.items()
    ]
    heads = ("Model", "Measured", "Base", "Tuned model", "Real text")
    return PageTable(caption, heads, [(name, rows) for name, rows in groups if rows])


def _limits(results: Results, sections: Iterable[Section]) -> list[tuple[str, str, float]]:
    """(setting, meaning, value) of every threshold that was used."""
    used: dict[str, float] = {}
    known = threshold_meanings()
    for section in sections:
        known |= section.thresholds
    for verdict in results.verdicts.values():
        used |= verdict.get("thresholds", {})
    return [(name, known.get(name, ""), value) for name, value in used.items()]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Settings as (name, value as YAML would show it), nested ones with a dot."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _as_yaml(value)


def _as_yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value == "":
        return "null" if value is None else "''"
    return str(value)
