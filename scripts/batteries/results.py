"""Rows of judged cases: resumable files, counts with exact bounds, and tables."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import beta

from batteries.expected import Case, case_of, is_right
from ftkit.errors import FtkitError
from ftkit.jobs.example_verdicts import ExampleVerdictRequest, judge_examples
from ftkit.jobs.verdicts import VerdictRequest, judge_models
from ftkit.runs.files import write_json

__all__ = ["Row", "Rows", "counts", "exact_interval", "in_words", "judged_row", "table", "verdict_words"]

Row = dict[str, Any]
"""One judged case, as JSON holds it."""


def exact_interval(right: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share."""
    low = float(beta.ppf(0.025, right, of - right + 1)) if right else 0.0
    high = float(beta.ppf(0.975, right + 1, of - right)) if right < of else 1.0
    return low, high


def judged_row(case: Case, request: VerdictRequest | ExampleVerdictRequest, folder: Path) -> Row:
    """Judge one case with the public function and describe the outcome.

    Args:
        case: The case.
        request: What is judged.
        folder: Where the verdict's files are written.
    """
    started, used = time.perf_counter(), time.process_time()
    row: Row = {}
    try:
        if isinstance(request, ExampleVerdictRequest):
            judged = judge_examples(request, folder)
        else:
            judged = judge_models(request, folder)
    except FtkitError as error:
        row |= {"verdict": "refused", "also": [], "reasons": [str(error)], "decided_by": [f"exit {error.exit_code}"]}
    else:
        found = judged.verdict.as_dict()
        row |= {key: found[key] for key in ("verdict", "also", "reasons", "decided_by", "rule", "passages", "open")}
    return row | {
        "right": is_right(case, row["verdict"], row["also"], row["reasons"]),
        "false_worked": row["verdict"] == "worked" and not case.honest,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
    }


@dataclass
class Rows:
    """Rows of one battery in a file: each is kept as soon as it is known, and is not judged again."""

    file: Path | None
    found: list[Row] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path | None) -> "Rows":
        """What a file holds, or no rows."""
        found = json.loads(file.read_text(encoding="utf-8"))["rows"] if file and file.exists() else []
        return cls(file, found)

    def has(self, case: str, seed: int) -> bool:
        """Whether a case was judged with a seed."""
        return any((row["case"], row["seed"]) == (case, seed) for row in self.found)

    def add(self, row: Row) -> None:
        """Keep a row, print it in a line."""
        self.found.append(row)
        doubt = "" if row["right"] else f"NOT RIGHT: {row['reasons'][0]}"
        name = f"{row['battery']} {row['seed']} {row['case']}"
        print(f"{name:<58} {verdict_words(row):<24} {row['seconds']:>6} s {doubt}", flush=True)
        if self.file:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.file, {"counts": counts(self.found), "rows": self.found})


def verdict_words(row: Row) -> str:
    """The main word and those beside it."""
    return " + ".join([row["verdict"], *row["also"]])


def _share(rows: Sequence[Row], key: str) -> dict[str, Any]:
    count = sum(row[key] for row in rows)
    return {"count": count, "of": len(rows), "interval": exact_interval(count, len(rows)) if rows else None}


def counts(rows: Sequence[Row]) -> dict[str, Any]:
    """How many got a committed word, and how often ``worked`` was wrong, with exact intervals."""
    negative = [row for row in rows if not case_of(row["battery"], row["case"]).honest]
    names = dict.fromkeys((row["battery"], row["case"]) for row in rows)
    return {
        "right": _share(rows, "right"),
        "negative_right": _share(negative, "right"),
        "negative_false_worked": _share(negative, "false_worked"),
        "by_case": {
            f"{battery}: {name}": _share([r for r in rows if (r["battery"], r["case"]) == (battery, name)], "right")
            for battery, name in names
        },
    }


def table(rows: Sequence[Row]) -> str:
    """Counts by case in Markdown."""
    lines = ["| case | expected | verdict | right |", "|---|---|---|---|"]
    for battery, name in dict.fromkeys((row["battery"], row["case"]) for row in rows):
        each = [row for row in rows if (row["battery"], row["case"]) == (battery, name)]
        words = Counter(verdict_words(row) for row in each)
        given = ", ".join(f"{count} x {word}" for word, count in words.most_common())
        expected = " or ".join(case_of(battery, name).words)
        lines.append(f"| {name} | {expected} | {given} | {in_words(_share(each, 'right'))} |")
    return "\n".join(lines)


def in_words(share: dict[str, Any]) -> str:
    """A count and its interval."""
    low, high = share["interval"]
    return f"{share['count']} of {share['of']} [{low:.0%}, {high:.0%}]"
