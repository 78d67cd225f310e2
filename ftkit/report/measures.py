"""Figures of what concerns all models of a run together, and of forgetting.

Who predicts whose text best, who uses whose words, and what a smaller part of the change would have cost.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ftkit.display.figures import Figure, Kind, Lines, Points, Rules
from ftkit.report.run_files import Results

__all__ = ["MEASURES", "marked_parts", "measure_figures"]

_BASE, _REAL = "base model", "real text"


def measure_figures(results: Results) -> Iterator[Figure]:
    """Figures of runs that measured these things; none for other runs."""
    if found := results.measured.get("predictive"):
        yield from _predictive_figures(found)
    for kind, matrix in results.measured.get("usage_matrix", {}).get("lists", {}).items():
        yield _usage_figure(kind, matrix)


def _predictive_figures(found: Mapping[str, Any]) -> Iterator[Figure]:
    rows = [
        {"corpus": corpus, "model": model, "own": "yes" if model == corpus else "no", **found["gain"][model][corpus]}
        for corpus in found["gain"]
        for model in found["gain"]
    ]
    caption = (
        "Bits per byte that each model saves over the base on unseen text. Filled: the model that learned this text. "
        "Open: the others. Bars are 95 % intervals."
    )
    yield Figure("predictive", "Who predicts whose text", caption, rows)
    lengths = [
        {"tokens": row["tokens"], "bytes": row["bytes"], **row["accuracy"], "chance": found["chance"]}
        for row in found["by_length"]
    ]
    caption = (
        "Unseen passages that go to the model that learned from their text, because it predicts them best. Bars are "
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
        f"Share of written tokens in the list of each text: its {matrix['top']} most {kind} tokens. Grey: the base "
        "model, and real text of that corpus, held out. Bars are 95 % intervals."
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


MEASURES = {
    "predictive": Kind(
        "bits per byte saved over the base",
        (
            Rules(0.0, line="solid"),
            Points(where={"own": "yes"}, text="{value:.3g}"),
            Points(where={"own": "no"}, text="{value:.3g}", filled=False),
        ),
        rows="{model} on {corpus}",
    ),
    "attribution": Kind(
        "passages attributed rightly, %",
        (Rules("chance"), Rules(0.9, line="dotted"), Lines(color=None), Points(color=None)),
        x="tokens",
        x_label="tokens of the passage",
        log="x",
        scale=100,
        covers=(0, 1),
    ),
    "usage_matrix": Kind(
        "share of tokens, %",
        (Points(color="source", text="{value:.3g}"),),
        rows="{source} in {list}",
        scale=100,
    ),
}
"""Kinds of figures by the beginning of their file's name."""
