"""What a run left in its folder, read once for figures and page; files that are not there are empty."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

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
        return "text" if any("texts" in plan for plan in self.manifest.get("plan", {}).values()) else "token"

    def evidence(self, model: str) -> dict[str, Any]:
        """What was measured on a model; empty where nothing was."""
        found: dict[str, Any] = self.measured.get("models", {}).get(model, {})
        return found

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
