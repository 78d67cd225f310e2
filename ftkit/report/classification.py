"""Figures and table lines of classifiers: loss and accuracy while they learn, gradient norms, and the test."""

from collections.abc import Iterator, Mapping
from typing import Any

from ftkit.display.figures import CURVES, Figure, Kind, Lines, Points, Rules
from ftkit.display.wording import interval, number, percent, percent_interval, slug
from ftkit.report.renderer import PALETTE, moving_mean
from ftkit.report.run_files import Results

__all__ = ["CLASSIFIERS", "classifier_figures", "classifier_headline", "classifier_steps"]

_NEXT = {
    "gain": (
        "Read the mistakes below: numbers cannot replace that.",
        "Repeat the run with two or three other values of seed before you build on the result.",
    ),
    "not_held_out": ("Take the texts that stand in the training texts out of the test, and test again.",),
    "unchanged": ("Look at learning_rate and at what is frozen: nothing was trained.",),
    "worse": ("Train with a lower learning_rate or fewer max_steps: the start was better.",),
    "no_change": ("Count the texts of each class, and train longer (max_steps) or with a higher learning_rate.",),
    "undecided": (
        "Give more test texts: the gains above are not sure.",
        "Compare with counted words: where they are as good, more training texts help more than more steps.",
    ),
}
"""What to do after each rule of ``decide_classifier``."""

_MOST_LINES = 2 * len(PALETTE)
"""Classes that one figure can tell apart."""


def classifier_figures(results: Results) -> Iterator[Figure]:
    """Figures of a run that trained classifiers; none for other runs."""
    if results.target != "text":
        return
    scores = results.measured.get("classifiers", {})
    rows = [{"model": name, **found["accuracy"], "chance": found["chance_accuracy"]} for name, found in scores.items()]
    caption = "On all test texts, with 95 % intervals. Dashed: the majority-class baseline."
    yield Figure("test_accuracy", "Accuracy", caption, rows)
    for key, title in (("accuracy", "Accuracy while they learn"), ("loss", "Test loss while they learn")):
        rows = [
            {"model": model, "step": record["step"], "value": record[key], "mean": None}
            for model in results.models
            for record in results.metrics(model, "test")
        ]
        yield Figure(
            f"looked_{key}", title, f"On a fixed sample of {results.settings.get('eval_texts')} test texts.", rows
        )
    yield from _norm_figures(results)
    for model in results.models:
        yield from _learning_figures(results, model)
    yield from _order_figures(results.measured.get("label_order", []))


def _order_figures(stretches: list[dict[str, Any]]) -> Iterator[Figure]:
    classes = list(stretches[0]["shares"]) if stretches else []
    rows = [
        {"class": label, "first": stretch["first"], "value": stretch["shares"][label]}
        for label in classes
        for stretch in stretches
    ]
    caption = "Share of each class along the source, before anything is shuffled. Steps: it is sorted by class."
    if 0 < len(classes) <= _MOST_LINES:
        yield Figure("label_order", "Order of the classes", caption, rows)


def _learning_figures(results: Results, model: str) -> Iterator[Figure]:
    """One model's two panels: training against test."""
    steps = results.metrics(model, "train")
    means = moving_mean([record["loss"] for record in steps], max(len(steps) // 25, 2) // 2 * 2 + 1)
    rows: list[dict[str, Any]] = [
        {"model": model, "texts": "batch", "step": r["step"], "value": r["loss"], "mean": mean}
        for r, mean in zip(steps, means, strict=True)
    ]
    looks = {split: results.metrics(model, split) for split in ("seen", "test")}
    for split, records in looks.items():
        rows += [{"model": model, "texts": split, "step": r["step"], "value": r["loss"], "mean": None} for r in records]
    caption = (
        "Dots: every batch. Grey line: their centred mean. Open: a fixed sample of training texts. Filled: test texts."
    )
    yield Figure(f"learning_loss-{slug(model)}", f"Loss of {model}", caption, rows)
    rows = [
        {"model": model, "texts": split, "step": r["step"], "value": r["accuracy"], "mean": None}
        for split, records in looks.items()
        for r in records
    ]
    caption = "Open: a fixed sample of training texts. Filled: test texts."
    yield Figure(f"learning_accuracy-{slug(model)}", f"Accuracy of {model}", caption, rows)


def _norm_figures(results: Results) -> Iterator[Figure]:
    """Gradient norms before clipping: global, and of what is watched, a panel each with a line for every model."""
    watched = results.settings.get("watch_gradients") or []
    limit = results.settings.get("max_grad_norm") or None
    dashed = f" Dashed: the limit {limit:g}, which holds for the global norm alone." if limit else ""
    for group in ("global", *dict.fromkeys([*watched, "classifier"])):
        rows = []
        for model in results.models:
            records = results.metrics(model, "train")
            norms = [r["grad_norm"] if group == "global" else r.get("group_norms", {}).get(group) for r in records]
            found = [(r["step"], norm) for r, norm in zip(records, norms, strict=True) if norm is not None]
            means = moving_mean([norm for _, norm in found], max(len(found) // 25, 2) // 2 * 2 + 1)
            rows += [
                {"model": model, "step": step, "value": norm, "mean": mean, "limit": limit}
                for (step, norm), mean in zip(found, means, strict=True)
            ]
        title = "Gradient norm, global" if group == "global" else f"Gradient norm of {group}"
        yield Figure(f"norm-{slug(group)}", title, f"Before clipping.{dashed}", rows)


_LEARNING = (
    Points(where={"texts": "batch"}, color=None, name="batches"),
    Lines("mean", where={"texts": "batch"}, color=None),
    Lines(where={"texts": "seen"}, name="training texts", line="dashed", filled=False),
    Lines(where={"texts": "test"}, name="test texts"),
)
CLASSIFIERS = {
    "test_accuracy": Kind(
        "test texts classified rightly, %", (Points(text="{value:.1f}"), Rules("chance")), rows="{model}", scale=100
    ),
    "looked_accuracy": Kind("share classified rightly", CURVES),
    "looked_loss": Kind("nats per text", CURVES),
    "norm": Kind("norm of the gradient", (*CURVES, Rules("limit")), covers=(0,)),
    "learning_loss": Kind("nats per text", _LEARNING),
    "label_order": Kind(
        "share of the texts",
        (Lines(color="class", stepped=True),),
        x="first",
        x_label="number of the text in the source",
        covers=(0, 1),
    ),
    "learning_accuracy": Kind("share classified rightly", _LEARNING),
}
"""Kinds of figures by the beginning of their file's name."""


def classifier_headline(scores: Mapping[str, Any]) -> str:
    """The test of one classifier in one sentence."""
    chance = percent(scores["chance_accuracy"])
    doubt = "" if scores["above_chance"] else ", which is not above chance"
    return (
        f"{percent_interval(scores['accuracy'])} of {number(scores['texts'])} test texts are classified "
        f"rightly (chance {chance}){doubt}; log-loss {interval(scores['log_loss'])} nats (chance "
        f"{number(scores['chance_log_loss'])})."
    )


def classifier_steps(verdict: Mapping[str, Any]) -> list[str]:
    """What to do after the verdict on a classifier."""
    return list(_NEXT.get(verdict["rule"], ("Read the reasons above.",)))
