"""Evidence with parts set otherwise, for tests of rules and reports."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ftkit.evidence import Evidence


def changed(evidence: Evidence, changes: Mapping[str, Any]) -> Evidence:
    """The same evidence with other values.

    Args:
        evidence: Where to begin.
        changes: By place: ``passes``, ``heldout.gain``, a measure (``copying``) or one value of it (``general.rise``);
            ``__`` stands for the dot where the names are keywords.
    """
    for place, value in changes.items():
        whole, _, part = place.replace("__", ".").partition(".")
        if whole == "heldout" and part:
            evidence = replace(evidence, heldout=replace(evidence.heldout, **{part: value}))
        elif whole in ("heldout", "passes", "assumptions", "passages", "from_scratch"):
            evidence = replace(evidence, **{whole: value})
        else:
            result = replace(evidence.measures[whole], **{part: value}) if part else value
            evidence = replace(evidence, measures={**evidence.measures, whole: result})
    return evidence
