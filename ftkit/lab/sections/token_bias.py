"""The section of a run that biases a model towards chosen tokens: rate by step, and rate against damage."""

from collections.abc import Iterator, Mapping
from typing import Any

from ftkit.display.figures import CURVES, Figure, Kind, Lines, Rules
from ftkit.report.run_files import Results
from ftkit.report.sections import Section

__all__ = ["TOKEN_BIAS"]


def _figures(results: Results) -> Iterator[Figure]:
    """Rate by step, and rate against damage."""
    found = results.measured["liking"]
    records = [(model, record) for model in results.models for record in results.metrics(model, "liking")]
    rows = [{"model": model, "step": r["step"], "value": 100 * r["rate"], "mean": None} for model, r in records]
    what = f"{found['pattern']!r}: {found['tokens']:,} tokens, {100 * found['share']:.1f} % of the vocabulary"
    caption = f"Share of generated tokens that match {what}."
    yield Figure("target_rate", "Rate of the chosen tokens", caption, rows)
    rows = [
        {"model": model, "step": r["step"], "value": 100 * r["rate"], "damage": r["damage"]} for model, r in records
    ]
    caption = (
        "A point is a measurement; training goes from the lower left. Higher: more of the chosen tokens; right: more "
        "damage."
    )
    yield Figure("liking_price", "Damage to ordinary text", caption, rows)


def _advice(verdict: Mapping[str, Any]) -> list[str]:
    weak = verdict["verdict"] == "unsure"
    return ["The bias is weak: a higher learning_rate or max_steps biases more, and damages more."] if weak else []


TOKEN_BIAS = Section(
    "liking",
    _figures,
    {
        "target_rate": Kind("share of tokens, %", CURVES),
        "liking_price": Kind(
            "share of tokens, %",
            (Rules(0.0, across="x", line="solid"), Lines()),
            x="damage",
            x_label="bits per byte that ordinary text costs more",
            covers=(0,),
        ),
    },
    replaces=frozenset({"tradeoff"}),  # one ordinary text would stand on both of its axes
    thresholds={"liked_share": "worked: the rate's lower bound is at least this share of the target mass"},
    advice=_advice,
)
