"""Which measure of style orders models best: the table of docs/judges.md.

    PYTHONPATH=scripts python -m benchmarks.style_measures --books FOLDER --base FOLDER [--kept FOLDER]

BASE is a folder ``stories260k`` or ``smollm``. The cases are real text, models tuned to a book, mixtures, other authors
and corrupted text. Each measure gives a position: 0 at the base model, 1 at real text.
"""

import argparse
import random
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy.stats import wasserstein_distance

from benchmarks.classification import installed_encoder
from benchmarks.style_passages import CHARACTERS, all_passages
from ftkit.data import load_tokenizer
from ftkit.data.words import shuffled_words
from ftkit.evidence import EnergyDistances, JudgeTexts, Panel, StyleScore, build_judges, character_chain
from ftkit.evidence.baselines import spelling_model, text_features
from ftkit.evidence.judges import labelled
from ftkit.models import load_model

TARGET, BASE = "target", "base model"
LOWEST = 1e-4
"""Probability to which smaller ones are raised in log-odds, as in the judges' vectors."""

Passages = Mapping[str, list[str]]
Measured = Callable[[list[str]], float]


def judge_texts(found: Passages) -> JudgeTexts:
    """Classes of the judge, as ``ftkit verdict`` makes them."""
    n = len(found["base"])
    return JudgeTexts(
        {TARGET: found["target train"], BASE: found["base for judges"][n:], "other": found["other train"]},
        {TARGET: found["target heldout"][::2], BASE: found["base for judges"][:n], "other": found["other heldout"]},
    )


def cases(found: Passages) -> Iterator[tuple[str, list[str]]]:
    """Passages by case, from the one that is most like the target on."""
    draw, n = random.Random(7), len(found["base"])
    train, more = found["target train"], found["target heldout"][1::2]
    half = [passage for pair in zip(more, found["base"], strict=False) for passage in pair]
    chain = character_chain(train, 5, len(more), CHARACTERS, draw)
    mixed = [chain[k] if k % 5 < 2 else passage for k, passage in enumerate(more)]
    yield "real text, other half", more
    yield "honest", found["honest"]
    yield "half trained", found["half trained"]
    yield "half real, half base", half[:n]
    yield "60 % real, 40 % chain of order 5", mixed[:n]
    yield "caricature (temperature 0.5)", found["caricature"]
    yield "other author, known to the judge", found["other heldout"][-n:]
    yield "other author, not known", found["unseen heldout"][:n]
    yield "shuffled words", [shuffled_words(passage, draw) for passage in train[-n:]]
    yield "chain of order 4", character_chain(train, 4, n, CHARACTERS, draw)
    yield "chain of order 6", character_chain(train, 6, n, CHARACTERS, draw)


def by_mean_score(found: Passages, texts: JudgeTexts) -> Measured:
    """The first edition's: mean probability of the target by a judge that knows no corrupted text."""
    passages, labels = labelled(texts.train)
    model = spelling_model().fit(passages, labels)
    low, high = (model.predict_proba(group)[:, 0].mean() for group in (found["base"], texts.heldout[TARGET]))
    return lambda case: float((model.predict_proba(case)[:, 0].mean() - low) / (high - low))


def by_log_odds(found: Passages, texts: JudgeTexts, panel: Panel) -> Measured:
    """Wasserstein distance of the log-odds of the target."""

    def odds(passages: list[str]) -> np.ndarray:
        shares = np.clip(panel.judges[0].probabilities(passages)[:, 0], LOWEST, 1 - LOWEST)
        return np.asarray(np.log(shares / (1 - shares)))

    real = odds(texts.heldout[TARGET])
    far = wasserstein_distance(odds(found["base"]), real)
    return lambda case: float(1 - wasserstein_distance(odds(case), real) / far)


def by_pooled_vectors(found: Passages, texts: JudgeTexts) -> Measured | None:
    """Energy distance of an encoder's mean vectors, without any training; ``None`` where it is not installed."""
    if (folder := installed_encoder()) is None:
        return None
    tokenizer, model = load_tokenizer(folder), load_model(folder, task="sequence-classification", labels=["a", "b"])

    def vectors(passages: list[str]) -> np.ndarray:
        return text_features(model.eval(), tokenizer, passages, 128)

    base, real = vectors(found["base"]), vectors(texts.heldout[TARGET])

    def position(case: list[str]) -> float:
        distances = EnergyDistances({"base": base, "tuned": vectors(case), "real": real})
        ratio = distances.squared("tuned", "real")[0] / distances.squared("base", "real")[0]
        return float(1 - np.sqrt(max(ratio, 0)))

    return position


def shown(score: StyleScore) -> str:
    """Position with its interval, and the answer; for a judge that is not used, why."""
    place, other = score.position, f" ({score.nearest_other})" if score.nearest_other else ""
    said = f"{score.answer()}{other}" if score.speaks else f"not used: {score.reason}"
    return f"{place.value:.2f} [{place.low:.2f}, {place.high:.2f}] {said}"


def table(found: Passages) -> Iterator[str]:
    """Lines of the table of one base and book."""
    texts = judge_texts(found)
    panel = build_judges(texts, [TARGET], seed=0)
    ngrams = panel.judges.index(next(judge for judge in panel.judges if judge.name == "ngrams"))
    pooled = by_pooled_vectors(found, texts)
    others = [by_mean_score(found, texts), by_log_odds(found, texts, panel), *([pooled] if pooled else [])]
    yield f"gate: {panel.gates['ngrams'].reason}"
    heads = ["case", "mean score", "log-odds", *(["encoder's vectors"] if pooled else []), "energy distance, answer"]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for name, passages in cases(found):
        score = panel.score(TARGET, found["base"], passages, texts.heldout[TARGET])[ngrams]
        numbers = [f"{measured(passages):.2f}" for measured in others]
        yield f"| {' | '.join([name, *numbers, shown(score)])} |"


def main() -> None:
    """Print a table for each base and book."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--books", type=Path, required=True, help="folder of Gutenberg texts")
    parser.add_argument("--base", type=Path, action="append", required=True, help="folder of a base model")
    parser.add_argument("--kept", type=Path, default=Path("style-passages"), help="where written passages are kept")
    asked = parser.parse_args()
    print(", ".join(f"{name} {version(name)}" for name in ("ftkit", "torch", "transformers", "scikit-learn")))
    for base, target, found in all_passages(asked.books, asked.base, asked.kept):
        print(f"\n{base}, {target}: {len(found['base'])} passages of each model", flush=True)
        for line in table(found):
            print(line, flush=True)


if __name__ == "__main__":
    main()
