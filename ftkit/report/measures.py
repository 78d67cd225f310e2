"""Figures of what concerns all models of a run together, and of forgetting.

Who predicts whose text best, who uses whose words, and what a smaller part of the change would have cost.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ftkit.display.figures import Figure, Kind, Row, Styles
from ftkit.report.drawing import INK, by_model, cell, column, legend, log_ticks, panel_height, short, value_ticks
from ftkit.report.reading import Results

__all__ = ["MEASURES", "marked_parts", "measure_figures"]

_BASE, _REAL = "base model", "real text"


def measure_figures(results: Results) -> Iterator[Figure]:
    """Figures of runs that measured these things; none for other runs."""
    if found := results.measured.get("predictive"):
        yield from _predictive_figures(found)
    for kind, matrix in results.measured.get("usage_matrix", {}).get("lists", {}).items():
        yield _usage_figure(kind, matrix)
    rows = [
        {"model": model, "scale": point["scale"], **_with_ends("value", point["gain"])}
        | _with_ends("rise", {key: 100 * number for key, number in point["rise"].items()})
        for model in results.models
        for point in (results.evidence(model).get("forgetting") or {}).get("curve", ())
    ]
    caption = (
        "The change of the weights, scaled: 0 is the base, 1 the trained model. Right is better learnt, down is less "
        "forgotten; crosses are 95 % intervals."
    )
    yield Figure("scaling", "What a part of the change learns and forgets", caption, rows)


def _with_ends(name: str, interval: Mapping[str, float]) -> dict[str, float]:
    ends = ("low", "high") if name == "value" else (f"{name}_low", f"{name}_high")
    return {name: interval["value"], ends[0]: interval["low"], ends[1]: interval["high"]}


def _predictive_figures(found: Mapping[str, Any]) -> Iterator[Figure]:
    rows = [
        {"corpus": corpus, "model": model, "own": "yes" if model == corpus else "no", **found["gain"][model][corpus]}
        for corpus in found["gain"]
        for model in found["gain"]
    ]
    caption = (
        "Bits per byte that each model saves over the base on unseen text. Filled: the model that learnt this text. "
        "Open: the others. Bars are 95 % intervals."
    )
    yield Figure("predictive", "Who predicts whose text", caption, rows)
    lengths = [
        {"tokens": row["tokens"], "bytes": row["bytes"], **row["accuracy"], "chance": found["chance"]}
        for row in found["by_length"]
    ]
    caption = (
        "Unseen passages that go to the model that learnt from their text, because it predicts them best. Bars are "
        "95 % intervals; dashed: chance; dotted: 90 %."
    )
    yield Figure(
        "attribution", "How much text tells the models apart", caption, lengths if len(found["gain"]) > 1 else []
    )


def _usage_figure(kind: str, matrix: Mapping[str, Any]) -> Figure:
    rows = [
        {"list": corpus, "source": source, **interval}
        for corpus in matrix["before"]
        for source, interval in (
            (_BASE, matrix["before"][corpus]),
            *((model, row[corpus]) for model, row in matrix["after"].items()),
            (_REAL, matrix["real"][corpus][corpus]),
        )
    ]
    caption = (
        f"Share of written tokens in the list of each text: its {matrix['top']} most {kind} tokens. Open circle: base "
        "model. Diamond: real text of that corpus, held out. Bars are 95 % intervals."
    )
    return Figure(f"usage_matrix-{kind}", f"Use of each text's {kind} tokens", caption, rows)


def marked_parts(text: str, spans: Sequence[Sequence[int]]) -> list[tuple[str, bool]]:
    """A text in pieces, each with whether it was copied.

    Args:
        text: The text.
        spans: First and end character of each copied run, ascending; what lies beyond the text is left out.
    """
    parts, place = [], 0
    for start, end in spans:
        if start >= len(text):
            break
        parts += [(text[place:start], False), (text[start:end], True)]
        place = min(end, len(text))
    return [part for part in (*parts, (text[place:], False)) if part[0]]


def _draw_rows(
    axes: Any, rows: list[Row], labels: list[str], looks: list[tuple[str, str, bool]], scale: float = 1.0
) -> None:
    """A point with its interval for each row; a look is colour, marker, and whether the point is filled."""
    for place, (row, (colour, marker, filled)) in enumerate(zip(rows, looks, strict=True)):
        value, low, high = (scale * cell(row, key) for key in ("value", "low", "high"))
        axes.plot([low, high], [place, place], color=colour, linewidth=4, alpha=0.45, solid_capstyle="butt")
        face = colour if filled else "none"
        axes.plot([value], [place], color=colour, marker=marker, markerfacecolor=face, markersize=5, linestyle="none")
        above = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center"}
        axes.annotate(f"{value:.3g}", (value, place), **above, fontsize=7)
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.4, -0.7)
    axes.margins(x=0.08)
    axes.grid(axis="y", visible=False)
    value_ticks(axes.xaxis)


def _draw_predictive(axes: Any, rows: list[Row], styles: Styles) -> None:
    looks = [(*styles[row["model"]], row["own"] == "yes") for row in rows]
    labels = [f"{short(row['model'], 14)} on {short(row['corpus'], 14)}" for row in rows]
    axes.axvline(0, color=INK, linewidth=0.6)
    _draw_rows(axes, rows, labels, looks)


def _draw_usage(axes: Any, rows: list[Row], styles: Styles) -> None:
    plain = {_BASE: (INK, "o", False), _REAL: (INK, "D", False)}
    looks = [plain.get(row["source"]) or (*styles.get(row["source"], (INK, "s")), True) for row in rows]
    labels = [f"{short(row['source'], 14)} in {short(row['list'], 14)}" for row in rows]
    _draw_rows(axes, rows, labels, looks, scale=100.0)


def _draw_attribution(axes: Any, rows: list[Row], styles: Styles) -> None:
    tokens, values, low, high = (column(rows, key) for key in ("tokens", "value", "low", "high"))
    axes.axhline(100 * cell(rows[0], "chance"), color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.axhline(90, color=INK, linewidth=0.6, linestyle=(0, (1, 2)), alpha=0.7)
    axes.vlines(tokens, 100 * low, 100 * high, color=INK, linewidth=3, alpha=0.4)
    axes.plot(tokens, 100 * values, color=INK, marker="o")
    axes.set(xscale="log", ylim=(0, 104), xlabel="tokens of the passage")
    log_ticks(axes.xaxis)
    axes.set_xticks(tokens, [f"{count:g}" for count in tokens])
    value_ticks(axes.yaxis)


def _draw_scaling(axes: Any, rows: list[Row], styles: Styles) -> None:
    groups = by_model(rows)
    axes.axhline(0, color=INK, linewidth=0.6)
    for model, points in groups.items():
        colour, marker = styles[model]
        x, y = column(points, "value"), column(points, "rise")
        axes.plot(x, y, color=colour, marker=marker, linewidth=1, label=short(model))
        axes.hlines(y, column(points, "low"), column(points, "high"), color=colour, linewidth=1, alpha=0.6)
        axes.vlines(x, column(points, "rise_low"), column(points, "rise_high"), color=colour, linewidth=1, alpha=0.6)
        for row, right, up in zip(points, x, y, strict=True):
            axes.annotate(
                f"{float(row['scale']):g}", (right, up), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
    axes.set_xlabel("gain on held-out text, bits per byte")
    value_ticks(axes.xaxis)
    value_ticks(axes.yaxis)
    legend(axes, groups)


def _rows_height(rows: list[Row]) -> float:
    return 0.85 + 0.27 * len(rows)


MEASURES = {
    "predictive": Kind("bits per byte saved over the base", _draw_predictive, _rows_height),
    "attribution": Kind("passages attributed rightly, %", _draw_attribution, lambda rows: 2.6),
    "usage_matrix": Kind("share of tokens, %", _draw_usage, _rows_height),
    "scaling": Kind("rise of the loss on general text, %", _draw_scaling, panel_height),
}
"""Kinds of figures by the beginning of their file's name."""
