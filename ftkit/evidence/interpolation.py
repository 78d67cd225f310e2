"""Points between a base and its tuned model: what each gains and forgets, and the figure of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftkit.display.figures import Figure, Kind, Lines, Points, Rules
from ftkit.evidence.intervals import Interval

__all__ = ["RISE", "SCALING", "ScaledPoint", "scaling_figure"]

RISE = {"rise": "value", "rise_low": "low", "rise_high": "high"}
"""Columns of figures, and parts of an interval."""
SCALING = Kind(
    "rise of the loss on general text, %",
    (Rules(0.0, line="solid"), Lines("rise"), Points("rise", text="{scale:g}")),
    x="value",
    x_label="gain on held-out text, bits per byte",
)
"""How ``scaling_figure`` looks."""


@dataclass(frozen=True)
class ScaledPoint:
    """A model whose change was scaled."""

    scale: float
    """0 is the base, 1 the tuned model."""
    gain: Interval
    """Bits per byte that it saves on held-out text of the target, paired."""
    rise: Interval
    """Relative rise of the loss on general text, paired."""


def scaling_figure(curves: Mapping[str, Sequence[ScaledPoint]]) -> Figure:
    """Gain against forgetting at every point.

    Args:
        curves: Points by model.
    """
    rows = [
        {"model": model, "scale": point.scale, **vars(point.gain)}
        | {key: 100 * getattr(point.rise, end) for key, end in RISE.items()}
        for model, points in curves.items()
        for point in points
    ]
    caption = (
        "The change of the weights, scaled: 0 is the base, 1 the trained model. Right: larger gain; "
        "lower: less forgetting; crosses are 95 % intervals."
    )
    return Figure("scaling", "Gain and forgetting of a scaled change", caption, rows)
