"""What a run left in its folder, read once for figures and page; files that are not there are empty."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ftkit.evidence.document import Evidence, parse_evidence
from ftkit.evidence.intervals import Interval
from ftkit.runs import RunFolder, read_evidence

__all__ = ["Results", "read_results"]


@dataclass(frozen=True)
class Results:
    """A run's files."""

    settings: dict[str, Any]
    manifest: dict[str, Any]
    verdicts: dict[str, Any]
    measured: dict[str, Any]
    """``evidence.json``."""
    records: list[dict[str, Any]]
    """``metrics.jsonl``."""
    samples: list[dict[str, Any]]
    models: list[str]
    """Names of all models, in the order in which they were measured or trained."""

    @property
    def target(self) -> str:
        """What a loss is per: a token of a language model, a text of a classifier."""
        planned = any("texts" in plan for plan in self.manifest.get("plan", {}).values())
        return "text" if planned or "classifiers" in self.measured else "token"

    @property
    def asked(self) -> dict[str, Any]:
        """The run's settings; of a verdict, which has no ``config.yaml``, what was asked for."""
        return self.settings or self.manifest.get("request", {})

    @cached_property
    def models_measured(self) -> dict[str, Evidence]:
        """The evidence of every model that has some."""
        return {name: parse_evidence(found) for name, found in self.measured.get("models", {}).items()}

    def evidence(self, model: str) -> Evidence | None:
        """What was measured on a model; ``None`` where nothing was."""
        return self.models_measured.get(model)

    def measured_by(self, measure: str) -> dict[str, Any]:
        """A measure's results by model, of those that have it, in the order of the models."""
        found = {name: evidence.measures.get(measure) for name, evidence in self.models_measured.items()}
        return {name: found[name] for name in self.models if found.get(name) is not None}

    def gain(self, model: str) -> Interval:
        """Bits per byte that a measured model saves on held-out text."""
        return self.models_measured[model].heldout.gain

    def metrics(self, model: str, split: str) -> list[dict[str, Any]]:
        """A model's records of one split (``train``, ``heldout``, ``judge``)."""
        return [record for record in self.records if record.get("model") == model and record.get("split") == split]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def read_results(run: RunFolder) -> Results:
    """Read a run folder.

    Args:
        run: A run, finished or not.
    """
    path = run.path
    measured, verdicts = read_evidence(path), _read_json(path / "verdict.json")
    records, samples = run.records("metrics.jsonl"), run.records("samples.jsonl")
    config = path / "config.yaml"
    settings = yaml.safe_load(config.read_text(encoding="utf-8")) if config.exists() else {}
    named = [*measured.get("models", {}), *verdicts, *(str(record["model"]) for record in (*records, *samples))]
    return Results(settings or {}, run.manifest, verdicts, measured, records, samples, list(dict.fromkeys(named)))
