"""The section of a run that learned code: how well formed its samples are, before and after, beside real code."""

from collections.abc import Iterator

from ftkit.display.figures import Bars, Figure, Kind
from ftkit.report.run_files import Results

__all__ = ["CODE", "code_figures"]

_SOURCES = {"base": "base model", "tuned": "tuned model", "real": "real code"}
_MEASURES = {
    "parses": "parses", "compiles": "compiles", "well_formed": "well-formed start", "node_overlap": "mixture of syntax",
}  # fmt: skip


def code_figures(results: Results) -> Iterator[Figure]:
    """Rates of the base, the tuned model and real code; none for other runs."""
    if not (found := results.measured.get("code")):
        return
    rows = [
        {"model": results.models[0], "measure": label, "source": source, **found["scores"][who][key]}
        for key, label in _MEASURES.items()
        for who, source in _SOURCES.items()
        if found["scores"][who].get(key)
    ]
    caption = (
        f"{found['samples']} samples of each, from the same places in code that was not trained on. Open: the base. "
        "Filled: the tuned model. Below them: real code, cut alike. Lines are 95 % intervals."
    )
    yield Figure("code_validity", "How well formed the code is", caption, rows)


CODE = {
    "code_validity": Kind(
        "%",
        (
            Bars(where={"source": "base model"}, filled=False, text="{value:.0f} %", name="base model"),
            Bars(where={"source": "tuned model"}, text="{value:.0f} %", name="tuned model"),
            Bars(where={"source": "real code"}, color=None, text="{value:.0f} %", name="real code"),
        ),
        rows="{measure}",
        beside="source",
        scale=100,
        covers=(0, 1),
    )
}
"""Kinds of figures by the beginning of their file's name."""
