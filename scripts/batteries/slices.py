"""The seed study: how stable a word is when only the passages are drawn anew.

Each pair of folders has one pool of passages, cut into disjoint samples: sample i is what both models write with
seed i. Judges and losses are those of one seed. A clear pair must get its word in at least 17 of 20 samples, and no two
words of a pair may contradict each other.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from batteries import pretrained, synthetic
from batteries.expected import case_of, cases_of, pairs
from batteries.results import Row, Rows, exact_interval, judged_row
from ftkit.jobs.verdicts import VerdictRequest

__all__ = ["FEWEST_RIGHT", "SAMPLES", "contradictions", "run", "stability", "stability_table"]

SAMPLES = 20
"""Samples of a pair: with 17 of 20 the lower 95 % bound of the share is 62 %."""
FEWEST_RIGHT = 17
"""Of 20 samples of a clear pair."""
_SAYS = {"worked": "it worked", "nothing": "nothing happened", "copied": "it failed", "broken": "it failed",
         "worse": "it failed"}  # fmt: skip
"""What a main word claims: two claims contradict each other, ``unsure`` claims nothing."""
_FIRST_SEED = 1000
"""Seeds of samples are not those of the batteries."""


def run(names: Iterable[str], samples: int, folder: Path, rows: Rows) -> None:
    """Judge the pairs on so many samples; what ``rows`` holds is not judged again.

    Args:
        names: Pairs.
        samples: How many of each.
        folder: Where bases, texts and models are kept.
        rows: Where outcomes are kept.
    """
    for name in names:
        missing = [number for number in range(samples) if not rows.has(name, number)]
        if not missing:
            continue
        request = _request(name, folder)
        for number in missing:
            sample = replace(request, passages_seed=_FIRST_SEED + number)
            judged = judged_row(case_of("seed_study", name), sample, folder / "samples" / f"{name}-{number}")
            rows.add({"battery": "seed_study", "base": pairs()[name].like, "case": name, "seed": number, **judged})


def _request(name: str, folder: Path) -> VerdictRequest:
    """What is judged: the pair's models are made where they are not there."""
    pair = pairs()[name]
    if pair.like.startswith("synthetic"):
        place = folder / "pairs" / name
        place.mkdir(parents=True, exist_ok=True)
        base = synthetic.make_base(folder / "base-small")
        return synthetic.prepare(pair.like, pair.case, base, place, seed=0)
    return pretrained.bench_of(pair.like, folder).request(pair.like, cases_of(pair.like)[pair.case], seed=0)


def contradictions(rows: Sequence[Row]) -> int:
    """How many samples of one pair contradict the claim that most of its samples make."""
    claims = Counter(_SAYS[row["verdict"]] for row in rows if row["verdict"] in _SAYS)
    return claims.total() - max(claims.values(), default=0)


def stability(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts of the whole study, for JSON."""
    by_pair = {name: [row for row in rows if row["case"] == name] for name in pairs()}
    clear = [row for row in rows if not pairs()[row["case"]].borderline]
    right, honest = sum(row["right"] for row in clear), [row for row in clear if "worked" in pairs()[row["case"]].words]
    return {
        "contradictions": {"count": sum(map(contradictions, by_pair.values())), "of": len(rows)},
        "clear_right": {"count": right, "of": len(clear), "interval": exact_interval(right, len(clear))},
        "honest_unsure": {"count": sum(row["verdict"] == "unsure" for row in honest), "of": len(honest)},
        "by_pair": {name: sum(row["right"] for row in each) for name, each in by_pair.items() if each},
    }


def stability_table(rows: Sequence[Row]) -> str:
    """The study in Markdown."""
    lines = ["| pair | expected | words of the samples | expected word | contradictions |", "|---|---|---|---|---|"]
    for name, pair in pairs().items():
        each = [row for row in rows if row["case"] == name]
        if not each:
            continue
        words = ", ".join(f"{count} x {word}" for word, count in Counter(r["verdict"] for r in each).most_common())
        right = "borderline" if pair.borderline else f"{sum(row['right'] for row in each)} of {len(each)}"
        lines.append(f"| {name} | {' or '.join(pair.words)} | {words} | {right} | {contradictions(each)} |")
    return "\n".join(lines)
