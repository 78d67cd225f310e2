"""evidence.json: the schema in the docs is that of the code, recorded pages are read, and what is wrong is named."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from ftkit.errors import CheckpointError
from ftkit.evidence import all_measures, decide, evidence_schema, parse_evidence
from ftkit.runs.evidence_file import EVIDENCE_VERSION

DOCS = Path(__file__).parents[2] / "docs"
RECORDED = sorted(DOCS.glob("evidence/*/evidence.json"))


def test_the_schema_in_the_docs_is_that_of_the_code() -> None:
    shown = json.loads((DOCS / "evidence.schema.json").read_text(encoding="utf-8"))
    assert shown == evidence_schema(), "write it anew: scripts/schema"
    assert set(shown["$defs"]["Measures"]["properties"]) == {measure.name for measure in all_measures()}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.parent.name)
def test_every_recorded_page_is_read_and_judged(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["version"] == EVIDENCE_VERSION
    for found in document.get("models", {}).values():
        evidence = parse_evidence(found)
        assert decide(evidence).verdict
        assert evidence.weights.tensors > 0


def test_what_is_wrong_in_a_file_is_named() -> None:
    interval = {"value": 1.0, "low": 0.9, "high": 1.1}
    whole = {"heldout": {"base": interval, "tuned": interval, "gain": interval, "windows": 3}}
    assert parse_evidence(whole).measures == {}
    with pytest.raises(CheckpointError, match=r"HeldOut.gain.low: input should be a valid number.*'low'"):
        parse_evidence({"heldout": whole["heldout"] | {"gain": interval | {"low": "low"}}})
    with pytest.raises(AttributeError, match="no 'copyng'; measured were style"):
        _ = parse_evidence(whole | {"measures": {"style": None}}).copyng


@pytest.mark.parametrize("measure", all_measures(), ids=lambda measure: measure.name)
def test_every_measure_says_what_it_asks(measure) -> None:
    assert measure.question.endswith("?")
    assert measure.unit
    assert measure.needs
    assert is_dataclass(measure.result)
    assert fields(measure.result)
    assert type(measure).__doc__


def test_the_places_of_measures_differ() -> None:
    places = [measure.place for measure in all_measures()]
    assert places == sorted(set(places))
