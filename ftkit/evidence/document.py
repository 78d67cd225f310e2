"""``evidence.json`` as a typed document: what was measured on each model, with the schema that the docs show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError, create_model

from ftkit.display.tables import Row
from ftkit.errors import CheckpointError
from ftkit.evidence.intervals import LEVEL, Interval, Number
from ftkit.evidence.measures import all_measures
from ftkit.runs.notebook import html_table

__all__ = ["Evidence", "HeldOut", "evidence_schema", "parse_evidence", "summary_rows"]


@dataclass(frozen=True)
class HeldOut:
    """Held-out text of the target before and after: what every verdict begins with."""

    base: Interval
    """Bits per byte of the base model."""
    tuned: Interval
    gain: Interval
    """Bits per byte saved, paired."""
    windows: int
    """Windows of text, or examples, that these figures rest on."""
    blocks: dict[str, list[Number]] = field(default_factory=dict)
    """Sums over blocks of windows, by which arms of a study are compared in pairs; see ``loss_blocks``."""
    rows: str = "windows"
    """What is counted: ``windows`` or ``examples``."""
    unknown_bytes: float = 0.0
    """Share of the text's bytes that the base's or the tuned model's tokenizer cannot write."""
    unclaimed: str = ""
    """Why there are no bits per byte and no gain; empty where there are."""


@dataclass(frozen=True)
class Evidence:
    """Everything that was measured on one tuned model. ``evidence.copying`` is the result of the measure ``copying``,
    ``None`` where its question makes no sense for this model."""

    heldout: HeldOut
    measures: Mapping[str, Any]
    """Result of each measure by its name."""
    passes: float | None = None
    """Epochs: tokens trained on, divided by tokens of the training text; ``None`` if unknown."""
    assumptions: tuple[str, ...] = ()
    """What had to be assumed, and how the text was read."""
    passages: int = 0
    """Passages of each model that the results rest on."""
    level: float = LEVEL
    """How often intervals hold that rest on passages; others hold with 95 %."""
    from_scratch: bool = False
    """Whether the base is untrained."""

    def __getattr__(self, name: str) -> Any:
        measures = self.__dict__.get("measures", {})
        if name not in measures:
            raise AttributeError(f"evidence has no {name!r}; measured were {', '.join(measures)}")
        return measures[name]

    def as_dict(self) -> dict[str, Any]:
        """For ``evidence.json``."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """In a notebook: base, tuned model and real text."""
        rows = [(row.label, " | ".join(cell or "-" for cell in row.cells())) for row in summary_rows(self)]
        return html_table("ftkit evidence: base | tuned model | real text", rows)


def summary_rows(evidence: Evidence) -> list[Row]:
    """Base, tuned model and real text in one table, which page, card, recorded pages and notebook draw."""
    heldout = evidence.heldout
    text = "held-out text" if heldout.rows == "windows" else "held-out completions"
    rows = [Row(f"bits per byte on {text}", heldout.tuned, heldout.base), Row("gain, paired", heldout.gain)]
    for measure in all_measures():
        if (result := evidence.measures.get(measure.name)) is not None:
            rows += measure.rows(result)
    return rows


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    return {measure.name: TypeAdapter(measure.result) for measure in all_measures()}


def parse_evidence(found: Mapping[str, Any]) -> Evidence:
    """A model's entry in ``evidence.json``; results of measures that are not installed are left out.

    Args:
        found: As JSON holds it.

    Raises:
        CheckpointError: The entry is invalid; the message names the first wrong field.
    """
    known = found.get("measures", {})
    try:
        return Evidence(
            TypeAdapter(HeldOut).validate_python(found.get("heldout")),
            {
                name: None if known[name] is None else adapter.validate_python(known[name])
                for name, adapter in _adapters().items()
                if name in known
            },
            found.get("passes"),
            tuple(found.get("assumptions", ())),
            found.get("passages", 0),
            found.get("level", LEVEL),
            found.get("from_scratch", False),
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, (error.title, *first["loc"])))
        raise CheckpointError(
            f"evidence.json: {place}: {first['msg'].lower()}, found {first['input']!r:.80}; measure the saved models "
            "again with ftkit verdict"
        ) from None


def evidence_schema() -> dict[str, Any]:
    """JSON schema of ``evidence.json``, with the measures that are installed."""
    results: dict[str, Any] = {measure.name: (measure.result | None, None) for measure in all_measures()}
    measures = create_model("Measures", **results)
    model = create_model(
        "ModelEvidence",
        heldout=(HeldOut, ...),
        measures=(measures, ...),
        passes=(float | None, None),
        assumptions=(list[str], []),
        passages=(int, 0),
        level=(float, LEVEL),
        from_scratch=(bool, False),
    )
    whole: Any = create_model("Evidence", version=(int, ...), ftkit=(str, ...), models=(dict[str, model], {}))  # type: ignore[valid-type]
    schema: dict[str, Any] = whole.model_json_schema(mode="serialization")
    return schema
