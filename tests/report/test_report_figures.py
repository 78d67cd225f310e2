"""Figures are what their CSV says, one colour a model, whatever the values and names are."""

import json
import math
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from report_runs import empty_run

from ftkit.display.figures import Bars, Diagonal, Kind, Lines, Panels, Points, Rules, Stairs
from ftkit.report import renderer
from ftkit.report.figures import draw_csv, draw_figures, inline_svg
from ftkit.report.renderer import PALETTE

CURVES = ["heldout_bits", "train_loss", "learning_rate", "gradient_norm"]
JUDGED = ["judge_score-encoder", "judge_score-ngrams", "style"]
MEASURED = ["predictive", "attribution", "usage_matrix-frequent", "usage_matrix-distinctive", "scaling"]


def test_every_figure_is_redrawn_from_its_csv_alone(full_report: Path) -> None:
    folder = full_report.parent / "figures"
    names = sorted(path.stem for path in folder.glob("*.csv"))
    assert names == sorted([*CURVES, *JUDGED, *MEASURED, "copying", "movement-blocks", "movement-groups"])
    for name in names:
        assert draw_csv(folder / f"{name}.csv", ["alice", "poe"]) == (folder / f"{name}.svg").read_text(
            encoding="utf-8"
        )
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_changed_csv_gives_another_figure(full_report: Path, tmp_path: Path) -> None:
    csv = full_report.parent / "figures" / "copying.csv"
    changed = tmp_path / "copying.csv"
    changed.write_text(csv.read_text().replace("generated,12,0.001,", "generated,12,0.2,", 1))
    assert draw_csv(changed, ["alice", "poe"]) != draw_csv(csv, ["alice", "poe"])
    assert "20.0 %" in draw_csv(changed, ["alice", "poe"])


@pytest.mark.parametrize("name", ["heldout_bits", "judge_score-encoder", "style", "copying", "movement-groups"])
def test_a_model_has_one_colour_in_all_figures(full_report: Path, tmp_path: Path, name: str) -> None:
    head, *rows = (full_report.parent / "figures" / f"{name}.csv").read_text().splitlines(keepends=True)
    only = tmp_path / f"{name}.csv"
    only.write_text(head + "".join(row for row in rows if row.startswith("poe")))
    assert {colour for colour in PALETTE if colour in draw_csv(only, ["alice", "poe"])} == {PALETTE[1]}


def test_a_run_that_only_began_has_no_figures(tmp_path: Path) -> None:
    assert draw_figures(empty_run(tmp_path)) == []


def test_values_that_are_not_finite_leave_gaps(tmp_path: Path) -> None:
    run = empty_run(tmp_path)
    losses = [3.0, math.nan, math.inf, 2.0, 1.9]
    for step, loss in enumerate(losses):
        run.log("metrics.jsonl", {"model": "a", "step": step, "split": "train", "loss": loss, "grad_norm": None})
    run.log("metrics.jsonl", {"model": "a", "step": 0, "split": "heldout", "bits_per_byte": math.nan})
    run.log("metrics.jsonl", {"model": "a", "step": 0, "split": "judge", "ngrams_probability": 0.5})
    drawn = draw_figures(run)
    assert [figure.name for figure in drawn] == ["train_loss", "judge_score-ngrams"]
    assert all("nan" not in figure.svg and "inf" not in figure.svg for figure in drawn)


def test_names_in_any_script_are_drawn_as_they_are(tmp_path: Path) -> None:
    name = "$x_1$ 夏目漱石 \x07<b>&"
    run = empty_run(tmp_path)
    for model in (name, "b"):
        run.log("metrics.jsonl", {"model": model, "step": 1, "split": "heldout", "bits_per_byte": 2.0})
    (figure,) = draw_figures(run)
    assert "$x_1$ 夏目漱石 ␇&lt;b&gt;&amp;" in figure.svg


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    run = empty_run(tmp_path)
    run.log("metrics.jsonl", {"model": "a", "step": 1, "split": "heldout", "bits_per_byte": 2.0})
    draw_figures(run)
    assert dict(matplotlib.rcParams) == before


def test_the_inlined_figure_takes_colours_from_the_page_and_refers_only_to_itself(tmp_path: Path) -> None:
    run = empty_run(tmp_path)
    run.log("metrics.jsonl", {"model": "a", "step": 1, "split": "heldout", "bits_per_byte": 2.0})
    (figure,) = draw_figures(run)
    svg = inline_svg(figure)
    assert svg.startswith("<svg ")
    assert "currentColor" in svg
    assert f"var(--model-0, {PALETTE[0]})" in svg
    assert renderer.INK not in svg
    for word in ("http", "xmlns", "<metadata", "<style", 'id="figure_1"'):
        assert word not in svg


def test_moving_mean_is_centred_and_shorter_at_the_ends() -> None:
    values = [1.0, 2.0, math.nan, 4.0, 9.0]
    assert renderer.moving_mean(values, 3) == [1.5, 1.5, 3.0, 6.5, 6.5]
    noise = np.random.default_rng(0).normal(size=50)
    inner = np.convolve(noise, np.ones(5) / 5, mode="valid")
    np.testing.assert_allclose(renderer.moving_mean(list(noise), 5)[2:-2], inner, atol=1e-12)


def test_thinning_keeps_every_peak() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    values[[777, 54_321]] = 99.0, -99.0
    kept = renderer.thinned(values)
    assert len(kept) <= renderer._MOST_POINTS + 2
    assert {777, 54_321, 0, 99_999} <= set(kept.tolist())


def test_the_csv_keeps_every_step(full_report: Path) -> None:
    records = [json.loads(line) for line in (full_report.parent / "metrics.jsonl").read_text().splitlines()]
    trained = [record for record in records if record["split"] == "train"]
    rows = (full_report.parent / "figures" / "train_loss.csv").read_text().splitlines()
    assert len(rows) - 1 == len(trained) == 96
    assert rows[1].startswith(f"alice,1,{trained[0]['loss']},")


def test_movement_adds_up_over_groups_as_norms_do(full_report: Path) -> None:
    from report_runs import evidence_of

    rows = evidence_of(0.82).weights.groups
    expected = math.hypot(*(row.change for row in rows if row.group == "mlp.in")) / math.sqrt(12)
    lines = (full_report.parent / "figures" / "movement-groups.csv").read_text().splitlines()
    found = [float(line.rsplit(",", 1)[1]) for line in lines if ",mlp.in," in line]
    assert any(abs(value - expected) < 1e-9 for value in found)


ROWS = [
    {"model": model, "part": part, "step": str(step), "value": str(step + 0.5), "low": str(step), "high": str(step + 1)}
    for model in ("<a>", "b")
    for part in ("one", "two")
    for step in (1, 2)
]
EVERY_MARK: dict[str, Panels] = {
    "curves": Kind(
        "{part}, %", (Lines(line="dashed"), Points(text="{value:.1f} %"), Rules(1.0, name="limit")), scale=100
    ),
    "rows": Kind(
        "share", (Bars(where={"step": "1"}, text="{value:.0f}"),), rows="{part}", beside="model", covers=(0, 7)
    ),
    "scatter": Kind("loss", (Points(filled=False), Diagonal(), Rules(2.0, across="x")), x="low", x_label="of {model}"),
    "stairs": Kind("density", (Stairs(color="step"),), x="low", log="y"),
    "names": Kind("loss", (Lines(color="model", stepped=True, sort=False),), x="part"),
    "panels": (Kind("left", (Lines(),)), Kind("right", (Points(color=None, small=True),), rows="{model}")),
}


@pytest.mark.parametrize("name", EVERY_MARK)
def test_every_mark_is_drawn_the_same_twice_escaped_and_with_ids_of_its_own(name: str) -> None:
    svg, png = renderer.drawn(name, EVERY_MARK[name], ROWS, ["<a>", "b"])
    assert (svg, png) == renderer.drawn(name, EVERY_MARK[name], ROWS, ["<a>", "b"])
    assert png.startswith(b"\x89PNG")
    ids = re.findall(r' id="([^"]+)"', svg)
    assert len(ids) == len(set(ids)) > 0
    assert "<a>" not in svg


def test_text_scale_rules_and_rows_follow_the_declaration() -> None:
    curves = renderer.drawn("curves", EVERY_MARK["curves"], ROWS, ["<a>", "b"])[0]
    for text in ("one, %", "150.0 %", "250.0 %", "limit", "&lt;a&gt;", "step"):
        assert f">{text}<" in curves, text
    rows = renderer.drawn("rows", EVERY_MARK["rows"], ROWS, ["<a>", "b"])[0]
    assert [rows.count(f">{text}<") for text in ("one", "two", "2", "3")] == [1, 1, 5, 0]  # 1.5 four times, and a tick
    assert ">of &lt;a&gt;<" in renderer.drawn("scatter", EVERY_MARK["scatter"], ROWS)[0]


def test_a_rule_that_does_not_extend_the_axis_is_left_out_where_it_is_far() -> None:
    near, far = (Kind("loss", (Lines(), Rules(value, extends=False))) for value in (2.6, 9.0))
    without = renderer.drawn("toy", Kind("loss", (Lines(),)), ROWS)[0]
    assert renderer.drawn("toy", far, ROWS)[0] == without != renderer.drawn("toy", near, ROWS)[0]


def test_long_names_that_begin_alike_and_names_like_numbers_stay_apart() -> None:
    names = ["a_model_with_a_long_name_of_alice", "a_model_with_a_long_name_of_poe", "124"]
    rows = [{"model": name, "step": "1", "value": "1", "low": "0", "high": "2"} for name in names]
    svg = renderer.drawn("toy", Kind("share", (Points(text="{value:.1f}"),), rows="{model}"), rows, names)[0]
    assert svg.count(">a_model_with_a_long_n…<") == 2
    assert svg.count(">124<") == 1
    assert svg.count(">1.0<") >= 3
    curves = renderer.drawn("toy", Kind("share", (Lines(),)), rows, names)[0]
    assert curves.count(">a_model_with_a_long_name_of…<") == 2
