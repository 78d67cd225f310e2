"""How a value is written for people: numbers, shares and intervals, and text of any origin."""

import math
import re
from collections.abc import Mapping
from typing import Any

__all__ = [
    "MISSING",
    "best_step",
    "fixed",
    "interval",
    "is_number",
    "number",
    "percent",
    "percent_interval",
    "slug",
    "table_cell",
    "visible",
]

MISSING = "not measured"

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_SYMBOLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}


def visible(text: str) -> str:
    """A text that every format can hold: control characters as their symbols, lone surrogates replaced."""
    return text.translate(_SYMBOLS).encode("utf-8", "replace").decode("utf-8")


def is_number(value: Any) -> bool:
    """Whether a value was measured and is finite."""
    return isinstance(value, int | float) and math.isfinite(value)


def fixed(value: float, decimals: int) -> str:
    """A number with a true minus sign and no negative zero."""
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "" if not any(digit in text for digit in "123456789") else "−")


def _decimals(largest: float, most: int) -> int:
    """Decimals that show three significant digits of the largest of some values."""
    return 2 if largest == 0 else min(max(2 - math.floor(math.log10(largest)), 0), most)


def _with_range(value: str, low: str, high: str) -> str:
    """A line may break before the bracket, not inside it."""
    return f"{value} [{low},\u00a0{high}]"


def number(value: Any) -> str:
    """Three significant digits, or all digits of a whole number, thousands separated."""
    if not is_number(value):
        return MISSING
    if isinstance(value, int) or value == 0:
        return f"{value or 0:,.0f}".replace("-", "−")
    if abs(value) < 1e-3:
        mantissa, _, power = f"{value:.2e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".").replace("-", "−")
        return f"{mantissa} × 10{str(int(power)).translate(_RAISED)}"
    return fixed(value, _decimals(abs(value), most=5))


def percent(value: Any) -> str:
    """A share in percent, one decimal."""
    return f"{fixed(100 * value, 1)}\u00a0%" if is_number(value) else MISSING


def _ends(measured: Any) -> list[float] | None:
    """Value, low and high of an interval, from keys or attributes; ``None`` where one is not a finite number."""
    found = measured if measured is None or isinstance(measured, Mapping) else vars(measured)
    values = [] if found is None else [found[key] for key in ("value", "low", "high")]
    return values if values and all(map(is_number, values)) else None


def interval(measured: Any) -> str:
    """A value and its interval with the same decimals, such as "0.340 [0.310, 0.371]"; has keys or attributes
    ``value``, ``low`` and ``high``."""
    if (values := _ends(measured)) is None:
        return MISSING
    value, low, high = (fixed(item, _decimals(max(map(abs, values)), most=3)) for item in values)
    return _with_range(value, low, high)


def percent_interval(measured: Any) -> str:
    """A share and its interval in percent, likewise."""
    if (values := _ends(measured)) is None:
        return MISSING
    value, low, high = (fixed(100 * item, 1) for item in values)
    return _with_range(f"{value}\u00a0%", low, high)


def table_cell(text: str, measured: Any = None) -> dict[str, Any]:
    """A cell of a table of arms: the text that is shown, and the exact number behind it.

    Args:
        text: What people read.
        measured: A number, or an interval with ``value``, ``low`` and ``high`` as attributes or keys; ``None``, like a
            number that is not finite, where the cell holds none.
    """
    if measured is None or isinstance(measured, int | float):
        return {"text": text, "value": measured if is_number(measured) else None}
    ends = measured if isinstance(measured, Mapping) else vars(measured)
    return {"text": text, **{key: ends[key] for key in ("value", "low", "high")}}


def best_step(found: Mapping[str, Any]) -> str:
    """The best step of a training in one line.

    Args:
        found: The model's entry under ``best`` in a run's manifest.
    """
    step, last = found["step"], found["last_step"]
    text = f"best at step {step:,} of {last:,}, held-out loss {fixed(found['loss'], 3)}"
    if step != last:
        text += f" ({fixed(found['last_loss'], 3)} at step {last:,})"
    if last < found["max_steps"]:
        text += f"; stopped before max_steps ({found['max_steps']:,})"
    return f"{text}; saved as it was at step {found['saved_step']:,}"


def slug(name: str) -> str:
    """Return a name as part of a file name and of an id."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "unnamed"
