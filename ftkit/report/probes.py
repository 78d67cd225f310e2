"""Figures of what probes have measured while a model trained, and of what clipping had to do.

Each is of one model; a run of several models has one of each for each of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ftkit.display.figures import Figure, Kind, Lines, Rules, Stairs
from ftkit.display.wording import slug
from ftkit.report.renderer import moving_mean
from ftkit.report.run_files import Results

__all__ = ["PROBED", "probe_figures"]


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
        "Norm of one update over the norm of the weights before it. Too small and nothing is learned; near 1, chaos."
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


_LINES = (Lines(color="of"),)
PROBED = {
    "clipping": Kind("norm of the gradient", (Lines(color="of", mean="mean"), Rules("limit", color="of")), log="y"),
    "weight_change": Kind("relative change", _LINES, log="y"),
    "weight_distance": Kind("relative change since the start", _LINES),
    "update_ratio": Kind("norm of the update / norm of the weights", _LINES, log="y"),
    "token_groups": Kind("mean ln p", (*_LINES, Rules("chance"))),
    "activation_std": Kind("standard deviation", _LINES, log="y"),
    "weight_std": Kind("standard deviation", _LINES),
    "weight_histogram": Kind("density by step", (Stairs(color="step"),), x="low", x_label="weight"),
}
"""Kinds of figures by the beginning of their file's name."""
