"""A toy section of a recipe: its figure, its part of the page, its lines, thresholds and advice; nothing without it."""

import json
import logging
from pathlib import Path

import pytest
from report_runs import empty_run

from ftkit.display.figures import CURVES, Figure, Kind
from ftkit.report import announce, write_report
from ftkit.report.figures import draw_csv
from ftkit.report.sections import Section
from ftkit.runs import RunFolder, write_evidence

VERDICT = {"verdict": "unsure", "also": [], "reasons": [], "thresholds": {"toy_limit": 2.0}}


@pytest.fixture
def section(tmp_path: Path) -> Section:
    template = tmp_path / "toy.html.j2"
    template.write_text(
        '<section id="toy"><h2>{{ found.title }}</h2>{% for f in drawn %}{{ panel(f) }}{% endfor %}</section>',
        encoding="utf-8",
    )
    return Section(
        "toy",
        lambda results: [Figure("toy_curve", "Toy", "A curve.", results.measured["toy"]["rows"])],
        {"toy_curve": Kind("toys", CURVES)},
        template=template,
        links=lambda found: [("toy", "Toys")],
        outcome=lambda found: f"{len(found['rows'])} toys",
        lines=lambda found: [f"toys: {row['value']}" for row in found["rows"]],
        thresholds={"toy_limit": "unsure: fewer toys than this"},
        advice=lambda verdict: ["Buy toys."],
    )


def toy_run(folder: Path) -> RunFolder:
    run = empty_run(folder)
    rows = [{"model": "toy", "step": step, "value": step * step, "mean": None} for step in (1, 2, 3)]
    write_evidence(run, {"toy": {"title": "<Toys>", "rows": rows}, "models": {}})
    run.write_json("verdict.json", {"toy": VERDICT})
    return run


def test_a_section_is_on_the_page_with_its_figure_and_escaped(section: Section, tmp_path: Path) -> None:
    run = toy_run(tmp_path / "run")
    page = write_report(run, section).read_text(encoding="utf-8")
    for part in (
        "<title>3 toys",
        '<a href="#toy">Toys</a>',
        "<h2>&lt;Toys&gt;</h2>",
        'id="toy_curve-',
        "fewer toys than",
    ):
        assert part in page, part
    assert {path.name for path in (run.path / "figures").iterdir()} == {
        f"toy_curve.{end}" for end in ("csv", "svg", "png")
    }
    assert draw_csv(run.path / "figures" / "toy_curve.csv", ["toy"], section).startswith("<?xml")


def test_a_section_is_announced(section: Section, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ftkit.report"):
        announce(toy_run(tmp_path / "run"), section)
    assert [line for line in caplog.text.splitlines() if line.startswith("toys: ")] == ["toys: 1", "toys: 4", "toys: 9"]


def test_a_run_without_its_evidence_has_no_such_section(section: Section, tmp_path: Path) -> None:
    run = empty_run(tmp_path / "run")
    without = write_report(run).read_text(encoding="utf-8")
    assert write_report(run, section).read_text(encoding="utf-8") == without
    assert "toy" not in without


def test_evidence_without_its_section_changes_nothing(tmp_path: Path) -> None:
    run = toy_run(tmp_path / "run")
    assert json.loads((run.path / "evidence.json").read_text(encoding="utf-8"))["toy"]
    assert "Toys" not in write_report(run).read_text(encoding="utf-8")
