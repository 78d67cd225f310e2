"""Whether the measure of memorization finds what was repeated: an excerpt of another book within an honest text."""

import random
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from batteries.pretrained import Bench
from batteries.tuning import make_folder
from ftkit.data import load_tokenizer
from ftkit.display.wording import percent_interval
from ftkit.evidence import Evidence
from ftkit.evidence.measures.memorization import Memorization
from ftkit.jobs.verdicts import VerdictRequest, judge_models
from ftkit.models import load_model
from ftkit.runs.files import write_atomically

__all__ = ["REPETITIONS", "run", "table"]

REPETITIONS = (0, 1, 4, 16)
"""How often the excerpt stands in the training text."""
_EXCERPT = slice(20_000, 20_800)
"""Characters of the other book: some sentences, as long as three windows of the training."""
_ALL_WINDOWS = 100_000
_CONTROLS = 200
_LONG_ENOUGH = 40
"""Characters of a sentence that becomes a canary."""


def _sentences(text: str) -> list[str]:
    return [" ".join(piece.split()) + "." for piece in text.split(". ") if len(piece) > _LONG_ENOUGH]


def run(bench: Bench, seed: int) -> list[dict[str, Any]]:
    """Train and judge a model for each number of repetitions.

    Args:
        bench: The base and its texts.
        seed: Of places in the text, training and sampling.

    Returns:
        For each number: shares, how many of the passages that are shown are the excerpt, and canaries that are known.
    """
    story, book = bench.text("harbor-train"), bench.text("poe-train")
    excerpt = book[_EXCERPT]
    excerpt = excerpt[excerpt.index(". ") + 2 : excerpt.rindex(". ") + 1]
    rows = []
    for times in REPETITIONS:
        draw, paragraphs = random.Random(seed), story.split("\n\n")
        for _ in range(times):
            paragraphs.insert(draw.randrange(len(paragraphs) + 1), excerpt)
        folder = bench.folder / "memorization" / f"{times}-times-{seed}"
        text = folder.with_suffix(".txt")
        write_atomically(text, "\n\n".join(paragraphs))
        if not folder.exists():
            make_folder(str(bench.base), "\n\n".join(paragraphs), bench.loop, folder)
        request = VerdictRequest(
            str(bench.base), str(folder), str(text), str(bench.texts / "harbor-heldout.txt"), num_passages=96,
            seed=seed, window_tokens=bench.loop.window_tokens, train_windows=_ALL_WINDOWS, canaries=_sentences(excerpt),
        )  # fmt: skip
        judged = judge_models(request, folder.with_name(f"{folder.name}-verdict"))
        assert isinstance(judged.evidence, Evidence)
        found = judged.evidence.measures["memorization"]
        assert isinstance(found, Memorization)
        assert found.canaries is not None
        known = [passage.place for passage in found.known if _words(passage.text) & _words(excerpt) - _words(story)]
        rows.append({
            "times": times, "verdict": judged.verdict.verdict, "found": found.found, "expected": found.expected,
            "shown": len(found.known), "of_excerpt": len(known), "canaries": found.canaries.found,
            "memaudit": _by_memaudit(bench, folder, _sentences(excerpt)),
        })  # fmt: skip
    return rows


def _words(text: str) -> set[str]:
    return {word.strip(".,;:!?\"'") for word in text.split()[1:-1]}


def _by_memaudit(bench: Bench, folder: Path, canaries: list[str]) -> str:
    """How many canaries memaudit's score puts above 99 % of sentences of the same book that were not in the text; empty
    where it is not installed."""
    if find_spec("memaudit") is None:
        return ""
    score_sequence = import_module("memaudit.scoring").score_sequence
    tokenizer, key = load_tokenizer(str(bench.base)), "min_k_plus_plus"
    base, tuned = load_model(str(bench.base)), load_model(str(folder))

    def scores(texts: list[str]) -> list[float]:
        ids = [tokenizer(text)["input_ids"] for text in texts]
        return [score_sequence(tuned, row)[key] - score_sequence(base, row)[key] for row in ids]

    controls = sorted(scores(_sentences(bench.text("poe-heldout"))[:_CONTROLS]), reverse=True)
    limit = controls[int(0.01 * len(controls))]
    return f"{sum(score > limit for score in scores(canaries))} of {len(canaries)}"


def table(rows: list[dict[str, Any]]) -> str:
    """The outcome in Markdown."""
    lines = [
        "| times | verdict | training passages found | by chance | shown passages of the excerpt | canaries known "
        "| memaudit's score |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['times']} | {row['verdict']} | {percent_interval(row['found'])} | {row['expected']:.1%} "
        f"| {row['of_excerpt']} of {row['shown']} | {row['canaries'].value:.0%} "
        f"| {row['memaudit'] or 'not installed'} |"
        for row in rows
    ]
    return "\n".join(lines)
