"""``evidence.json``: one version of its shape is written, and no other one is read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftkit import __version__
from ftkit.errors import CheckpointError
from ftkit.runs.folder import RunFolder

__all__ = ["EVIDENCE_VERSION", "read_evidence", "write_evidence", "written_passages"]

EVIDENCE_VERSION = 3
"""Raised when a place or a meaning in the file changes. ftkit 0.1 wrote no version and kept cells of tables as text."""


def write_evidence(run: RunFolder, evidence: Mapping[str, Any]) -> None:
    """Write ``evidence.json`` with its version.

    Args:
        run: The run.
        evidence: All measurements, as JSON holds them.
    """
    run.write_json("evidence.json", {"version": EVIDENCE_VERSION, "ftkit": __version__, **evidence})


def read_evidence(folder: Path) -> dict[str, Any]:
    """Return the evidence of a run folder; empty where there is none yet.

    Args:
        folder: The run folder.

    Raises:
        CheckpointError: Evidence of another version.
    """
    path = folder / "evidence.json"
    if not path.exists():
        return {}
    evidence: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if (version := evidence.get("version", 1)) != EVIDENCE_VERSION:
        writer = evidence.get("ftkit", "0.1")
        raise CheckpointError(
            f"{path}: has version {version}, written by ftkit {writer}; this ftkit ({__version__}) reads version "
            f"{EVIDENCE_VERSION}. Read it with ftkit {writer}, or measure the saved models again with ftkit verdict"
        )
    return evidence


def written_passages(evidence: Mapping[str, Any], model: str) -> tuple[list[str], list[str]]:
    """Return what the base wrote after the prompts of a model, and what the model wrote; empty where nobody did.

    Args:
        evidence: What ``evidence.json`` holds.
        model: The model's name there.
    """
    passages = evidence.get("passages", {})
    own = passages.get(model, [])
    if isinstance(own, dict):
        return own.get("base", []), own.get("tuned", [])
    return passages.get(f"base model, {model}", passages.get("base model", [])), own
