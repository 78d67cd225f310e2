"""What probes and clipping recorded, in figures and on the page: every number is one that was recorded."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
from report_browser import Browser
from report_runs import empty_run
from test_report_browser import CONTRAST

from ftkit.report import write_report
from ftkit.report.figures import draw_csv, draw_figures
from ftkit.runs import RunFolder

STEPS = (0, 10, 20)


def probed_run(path: Path, models: tuple[str, ...] = ("alice",), blocks: int = 2) -> RunFolder:
    """A run as ``follow`` leaves it, with every probe."""
    run = empty_run(path)
    run.write_text("config.yaml", "watch_gradients: [mlp.out@1]\n")
    cut = {"limits": {"global": 0.5, "embedding": 0.1}, "steps": 20, "clipped_share": 0.25, "mean_lost_norm": 0.125}
    run.update_manifest(clipping=dict.fromkeys(models, cut))
    for model in models:
        short = {"of": "embedding", "since": 20, "relative": 1e-9, "change": 1e-9, "from_start": 1.0}
        last = {"model": model, "step": 21, "split": "probe", "probe": "weight_change", "relative_from_start": 0.1}
        run.log("metrics.jsonl", {**last, **short})
        for step in range(1, 21):
            norms = {"mlp.out@1": 0.3 / step, "embedding": 0.2 / step, "norm": 1.0}
            record = {"step": step, "split": "train", "loss": 5.0 / step, "grad_norm": 1.0 / step, "group_norms": norms}
            run.log("metrics.jsonl", {"model": model, **record, "learning_rate": 1e-3, "clip_factor": 1.0})
        for step in STEPS:
            for probe, row in rows_at(step, blocks):
                run.log("metrics.jsonl", {"model": model, "step": step, "split": "probe", "probe": probe, **row})
    return run


def rows_at(step: int, blocks: int) -> list[tuple[str, dict[str, Any]]]:
    rows: list[tuple[str, dict[str, Any]]] = []
    for number, of in enumerate(("embedding", "attention.k@1")):
        change = {
            "change": 0.1 * number,
            "relative": 0.01 * (number + 1),
            "from_start": 1.0,
            "relative_from_start": 0.1,
        }
        rows.append(("weight_change", {"of": of, "since": max(step - 10, 0), **change}))
        if step:
            rows.append(("update_ratio", {"of": of, "update": 0.1, "weights": 10.0, "ratio": 0.01 / step}))
    for number, group in enumerate(("frequent", "rare", "unused")):
        counted = {"tokens": 100, "occurrences": 100 * (2 - number), "places": 50, "chance": -math.log(2048)}
        rows.append(
            ("token_groups", {"group": group, **counted, "log_probability": -7.0 - number, "probability": 1e-3})
        )
    for layer in range(blocks):
        described = {"mean": 0.0, "std": 0.5 + layer, "max_abs": 3.0, "zeros": 0.0, "not_finite": 0}
        rows.append(("activations", {"layer": layer, **described}))
        statistics = {"elements": 10, "mean": 0.0, "std": 0.02 + step / 1000, "minimum": -0.1, "maximum": 0.1}
        histogram = {"zeros": 0.0, "low": -0.1, "high": 0.1, "counts": [1, 4, 4, 1]}
        rows.append(("weights", {"group": "mlp.in", "layer": layer, **statistics, **histogram}))
    return rows


NAMES = {
    "activation_std", "clipping", "token_groups", "update_ratio", "weight_change", "weight_distance",
    "weight_histogram-mlp-in", "weight_std-mlp-in",
}  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_probe_has_its_figure_drawn_from_its_csv_alone(tmp_path):
    run = probed_run(tmp_path)
    figures = {figure.name: figure for figure in draw_figures(run)}
    assert set(figures) >= NAMES
    for name in NAMES:
        assert draw_csv(figures[name].csv, ["alice"]) == figures[name].svg
        assert "mathdefault" not in figures[name].svg
    assert "25% of 20 steps were clipped and lost 0.125" in figures["clipping"].caption
    assert "unused: 100 tokens, 0 times" in figures["token_groups"].caption


def test_tables_hold_what_was_recorded(tmp_path):
    run = probed_run(tmp_path)
    draw_figures(run)
    folder = tmp_path / "figures"
    clipping = read(folder / "clipping.csv")
    assert {(row["of"], row["limit"]) for row in clipping} == {
        ("global", "0.5"),
        ("embedding", "0.1"),
        ("mlp.out@1", ""),
    }
    assert [float(row["value"]) for row in clipping if row["of"] == "mlp.out@1"] == [0.3 / n for n in range(1, 21)]
    tokens = read(folder / "token_groups.csv")
    assert [float(row["value"]) for row in tokens if row["of"] == "rare"] == [-8.0] * 3
    assert {float(row["chance"]) for row in tokens} == {-math.log(2048)}
    assert {row["step"] for row in read(folder / "weight_change.csv")} == {
        "10",
        "20",
    }  # not the start, not the last single step
    bins = read(folder / "weight_histogram-mlp-in.csv")
    assert len(bins) == 3 * 2 * 4
    assert sum(int(row["value"]) for row in bins) == 3 * 2 * 10


def test_each_model_has_figures_of_its_own_whatever_its_name(tmp_path):
    names = {figure.name for figure in draw_figures(probed_run(tmp_path, ("夏目", "漱石")))}
    assert {"update_ratio-1-unnamed", "update_ratio-2-unnamed", "weight_std-mlp-in-1-unnamed"} <= names


def test_many_blocks_are_told_by_colour_and_not_by_a_long_legend(tmp_path):
    figures = {figure.name: figure for figure in draw_figures(probed_run(tmp_path, blocks=24))}
    assert "block 0 (blue) to block 23 (orange)" in figures["activation_std"].svg
    assert "block 7" not in figures["activation_std"].svg


def test_a_run_without_probes_and_limits_has_no_such_section(tmp_path):
    run = empty_run(tmp_path)
    run.log("metrics.jsonl", {"model": "a", "step": 1, "split": "train", "loss": 2.0, "grad_norm": 1.0})
    assert 'id="probes"' not in write_report(run).read_text(encoding="utf-8")
    assert [figure.name for figure in draw_figures(run)] == ["train_loss", "gradient_norm"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_section_opens_silently_with_contrast_and_a_name_for_each_figure(browser: Browser, tmp_path, scheme):
    browser.open(write_report(probed_run(tmp_path)), scheme=scheme)
    assert browser.messages == []
    browser.run("document.querySelectorAll('#probes details').forEach(d => d.open = true)")
    figures = "[...document.querySelectorAll('#probes svg[role=img]')]"
    assert browser.run(f"{figures}.length") == len(NAMES)
    assert browser.run(f"{figures}.every(e => document.getElementById(e.getAttribute('aria-labelledby')).textContent)")
    assert browser.run("document.documentElement.scrollWidth") <= 1280
    count, ratio, where = browser.run(CONTRAST)
    assert count > 100
    assert ratio >= 4.5, where
