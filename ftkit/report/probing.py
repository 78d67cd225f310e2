"""Figures of what probes have measured while a model trained, and of what clipping had to do.

Each is of one model; a run of several models has one of each for each of them.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ftkit.display.figures import Figure, Kind, Row, Styles
from ftkit.report.drawing import (
    INK,
    PALETTE,
    cell,
    column,
    log_ticks,
    moving_mean,
    slug,
    step_ticks,
    thinned,
    value_ticks,
)
from ftkit.report.reading import Results

__all__ = ["PROBED", "probe_figures"]

_MOST_LABELS = 9
"""Lines whose names are written; the colours of more are explained by their ends."""


def probe_figures(results: Results) -> Iterator[Figure]:
    """Figures of what was probed, model by model; none for a run without probes and without clipping."""
    for place, model in enumerate(results.models):
        many = len(results.models) > 1
        end, of = (f"-{place + 1}-{slug(model)}", f" of {model}") if many else ("", "")
        for figure in (*_clipping_figures(results, model), *_probe_figures(results, model)):
            yield Figure(f"{figure.name}{end}", f"{figure.title}{of}", figure.caption, figure.rows)


def _probe_figures(results: Results, model: str) -> Iterator[Figure]:
    records: dict[str, list[dict[str, Any]]] = {}
    for record in results.metrics(model, "probe"):
        records.setdefault(record["probe"], []).append(record)
    yield from _change_figures(model, records.get("weight_change", []))
    rows = [
        _row(model, r["of"], r, "ratio", update=r["update"], weights=r["weights"])
        for r in records.get("update_ratio", [])
    ]
    caption = (
        "Norm of one update over the norm of the weights before it. Too small and nothing is learnt; near 1, chaos."
    )
    yield Figure("update_ratio", "Size of an update beside the weights", caption, rows)
    yield from _token_figures(model, records.get("token_groups", []))
    yield from _activation_figures(model, records.get("activations", []))
    yield from _weight_figures(model, records.get("weights", []))


def _row(model: str, of: str, record: Mapping[str, Any], key: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "of": of, "step": record["step"], "value": record[key], **more}


def _change_figures(model: str, records: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    longest = max((r["step"] - r["since"] for r in records), default=0)
    moved = [r for r in records if r["step"] > r["since"] and 2 * (r["step"] - r["since"]) >= longest]
    rows = [_row(model, r["of"], r, "relative", since=r["since"], change=r["change"]) for r in moved]
    caption = (
        "Norm of the change since the measurement before, over the norm of the weights then; whole stretches only."
    )
    yield Figure("weight_change", "How far each group moved since the last time", caption, rows)
    rows = [_row(model, r["of"], r, "relative_from_start", change=r["from_start"]) for r in records]
    caption = "Norm of the change since the start, over the norm of the start."
    yield Figure("weight_distance", "How far each group is from its start", caption, rows)


def _token_figures(model: str, records: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    sizes = list(dict.fromkeys((r["group"], r["tokens"]) for r in records))
    several = len(sizes) > len({group for group, _ in sizes})
    rows = [
        _row(
            model, f"{r['group']} ({r['tokens']})" if several else r["group"], r, "log_probability",
            probability=r["probability"], chance=r["chance"], tokens=r["tokens"], occurrences=r["occurrences"],
            places=r["places"],
        )
        for r in records
    ]  # fmt: skip
    counted = "; ".join(
        f"{r['group']}: {r['tokens']} tokens, {r['occurrences']:,} times" for r in records[: len(sizes)]
    )
    caption = (
        f"Mean ln p over places of held-out text and over the tokens of each group ({counted} in the training text). "
        "Dashed: ln(1/V), every token equally likely."
    )
    yield Figure("token_groups", "Frequent, rare and unused tokens", caption, rows)


def _activation_figures(model: str, records: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    keys = ("mean", "max_abs", "zeros", "not_finite")
    rows = [_row(model, f"block {r['layer']}", r, "std", **{key: r[key] for key in keys}) for r in records]
    caption = "Standard deviation of what leaves each block, on a fixed batch of held-out text."
    if first := next((r for r in records if r["not_finite"]), None):
        caption += f" At step {first['step']} the first block with numbers that are not finite is {first['layer']}."
    yield Figure("activation_std", "Activations by block", caption, rows)


def _weight_figures(model: str, records: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    for group in dict.fromkeys(r["group"] for r in records):
        found = [r for r in records if r["group"] == group]
        keys = ("layer", "mean", "minimum", "maximum", "zeros")
        rows = [_row(model, _place(r), r, "std", **{key: r[key] for key in keys}) for r in found]
        title = f"Spread of the weights, {group}"
        yield Figure(f"weight_std-{slug(group)}", title, "Standard deviation by step.", rows)
        rows = [row for r in found for row in _bins(model, r)]
        caption = "Density of all blocks together, from the first measured step (blue) to the last (orange)."
        yield Figure(f"weight_histogram-{slug(group)}", f"Distribution of the weights, {group}", caption, rows)


def _place(record: Mapping[str, Any]) -> str:
    return str(record["group"]) if record["layer"] is None else f"block {record['layer']}"


def _bins(model: str, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    edges = np.linspace(record["low"], record["high"], len(record["counts"]) + 1).tolist()
    for low, high, count in zip(edges[:-1], edges[1:], record["counts"], strict=True):
        yield {"model": model, "of": _place(record), "step": record["step"], "low": low, "high": high, "value": count}


def _clipping_figures(results: Results, model: str) -> Iterator[Figure]:
    """Gradient norms before clipping, global and of what is watched or limited, with the limits."""
    cut, watched = results.manifest.get("clipping", {}).get(model), results.settings.get("watch_gradients") or ()
    limits = cut["limits"] if cut else {}
    if not (cut or watched) or results.target == "text":  # classifiers have these norms side by side
        return
    records = results.metrics(model, "train")
    rows = []
    for of in dict.fromkeys(["global", *limits, *watched]):
        norms = ((r["step"], r.get("grad_norm") if of == "global" else r["group_norms"].get(of)) for r in records)
        points = [(step, norm) for step, norm in norms if norm is not None]
        means = moving_mean([norm for _, norm in points], max(len(points) // 25, 2) // 2 * 2 + 1)
        rows += [
            {"model": model, "of": of, "step": step, "value": norm, "mean": mean, "limit": limits.get(of)}
            for (step, norm), mean in zip(points, means, strict=True)
        ]
    caption = "Norms of the gradient before anything was cut. Thin: every step. Strong: centred mean."
    if cut:
        caption += (
            f" Dashed: the limit. {cut['clipped_share'] or 0:.0%} of {cut['steps']:,} steps were clipped and lost "
            f"{cut['mean_lost_norm']:.3g} of their norm on average."
        )
    yield Figure("clipping", "Gradient norms before clipping", caption, rows)


# --- Drawing ---


def _by_line(rows: Iterable[Row]) -> dict[str, list[Row]]:
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(row["of"], []).append(row)
    return lines


def _ramp(count: int) -> list[Any]:
    """Colours from blue to orange, all of them readable on white and on black."""
    from matplotlib.colors import to_hex, to_rgb

    first, last = np.array(to_rgb(PALETTE[0])), np.array(to_rgb(PALETTE[1]))
    return [to_hex((1 - place) * first + place * last) for place in np.linspace(0, 1, count)]


def _looks(lines: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Blocks by depth; other lines by colours, and by dashes where there are more than colours."""
    if all(name.startswith("block ") for name in lines) and len(lines) > 1:
        return [{"color": colour} for colour in _ramp(len(lines))]
    dashes = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
    return [
        {"color": PALETTE[n % len(PALETTE)], "linestyle": dashes[n // len(PALETTE) % len(dashes)]}
        for n in range(len(lines))
    ]


def _finish(axes: Any, lines: Mapping[str, Any]) -> None:
    axes.set_xlabel("step")
    step_ticks(axes.xaxis)
    (log_ticks if axes.get_yscale() == "log" else value_ticks)(axes.yaxis)
    if 1 < len(lines) <= _MOST_LABELS or (len(lines) > 1 and not all(name.startswith("block ") for name in lines)):
        axes.figure.legend(loc="outside lower left", ncols=3, handlelength=1.8, columnspacing=1.2, handletextpad=0.5)
    elif len(lines) > 1:
        names = list(lines)
        axes.set_title(f"{axes.get_title(loc='left')}, {names[0]} (blue) to {names[-1]} (orange)", pad=8)


def _draw_lines(axes: Any, rows: list[Row], styles: Styles, log: bool = False) -> None:
    lines = _by_line(rows)
    for (name, points), look in zip(lines.items(), _looks(lines), strict=True):
        steps, values = column(points, "step"), column(points, "value")
        kept = thinned(values)
        marker = "o" if len(values) <= 25 else None
        axes.plot(steps[kept], values[kept], label=name, marker=marker, markersize=2.5, linewidth=1.3, **look)
    if log and np.nanmax(column(rows, "value")) > 0:
        axes.set_yscale("log")
    if "chance" in rows[0]:
        axes.axhline(cell(rows[0], "chance"), color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    _finish(axes, lines)


def _draw_log(axes: Any, rows: list[Row], styles: Styles) -> None:
    _draw_lines(axes, rows, styles, log=True)


def _draw_clipping(axes: Any, rows: list[Row], styles: Styles) -> None:
    lines = _by_line(rows)
    for (name, points), look in zip(lines.items(), _looks(lines), strict=True):
        steps, values, means = (column(points, key) for key in ("step", "value", "mean"))
        kept, strong = thinned(values), thinned(means)
        axes.plot(steps[kept], values[kept], color=look["color"], linewidth=0.5, alpha=0.5 / len(lines) ** 0.5)
        axes.plot(steps[strong], means[strong], label=name, **look)
        if math.isfinite(limit := cell(points[0], "limit")):
            axes.axhline(limit, color=look["color"], linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yscale("log")
    _finish(axes, lines)


def _draw_histogram(axes: Any, rows: list[Row], styles: Styles) -> None:
    by_step = {step: list(found) for step, found in groupby(rows, key=lambda row: row["step"])}
    for colour, found in zip(_ramp(len(by_step)), by_step.values(), strict=True):
        counts: dict[tuple[float, float], float] = {}
        for row in found:  # the blocks of a group share their bins
            ends = (cell(row, "low"), cell(row, "high"))
            counts[ends] = counts.get(ends, 0.0) + cell(row, "value")
        lows, highs = (np.array(side) for side in zip(*counts, strict=True))
        edges, values = np.append(lows, highs[-1]), np.array(list(counts.values()))
        axes.stairs(values / values.sum() / (highs - lows), edges, color=colour, linewidth=0.9)
    axes.set_xlabel("weight")
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", nbins=5)
    value_ticks(axes.xaxis)


def _height(rows: list[Row]) -> float:
    lines = len(_by_line(rows))
    return 2.6 + (0.18 * math.ceil(lines / 3) if lines > 1 else 0)


def _kind(measure: str, draw: Callable[[Any, list[Row], Styles], None] = _draw_lines) -> Kind:
    return Kind(measure, draw, _height)


PROBED = {
    "clipping": _kind("norm of the gradient", _draw_clipping),
    "weight_change": _kind("relative change", _draw_log),
    "weight_distance": _kind("relative change since the start"),
    "update_ratio": _kind("norm of the update / norm of the weights", _draw_log),
    "token_groups": _kind("mean ln p"),
    "activation_std": _kind("standard deviation", _draw_log),
    "weight_std": _kind("standard deviation"),
    "weight_histogram": Kind("density", _draw_histogram, lambda rows: 2.4),
}
"""Kinds of figures by the beginning of their file's name."""
