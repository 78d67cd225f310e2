"""Prompts with completions on stories260k: examples, spoilt in a known way, a plain loop, and the verdict."""

import os
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from batteries.expected import Case, cases_of
from batteries.results import Rows, judged_row
from ftkit.data import EncodedExample, encode_examples, load_examples, load_tokenizer, with_template
from ftkit.jobs.example_verdicts import ExampleVerdictRequest
from ftkit.models import load_model, save_model
from ftkit.training import ExampleRows

__all__ = ["SPOILT", "TARGETS", "run"]

_NAMES = ["Lily", "Tom", "Ben", "Mia", "Sam", "Anna", "Max", "Sue", "Tim", "Lucy", "Jack", "Zoe"]
_THINGS = (
    "red ball", "blue hat", "big cake", "small car", "old book", "green frog", "soft bear", "new kite", "tall tree",
    "warm bed", "sweet apple", "shiny stone",
)  # fmt: skip
_PLACES = ["park", "farm", "house", "garden", "shop", "river", "hill", "school"]
_WORDS = [
    "the sun was bright and",
    "a bird sang to",
    "mom gave them",
    "they all ran",
    "the dog was sad",
    "it started to rain",
    "he saw a big cloud",
    "she wanted to play",
    "they found some sand",
    "the cat liked it",
    "dad made some soup",
    "the day was long",
]
_EXAMPLES, _HELDOUT, _FEW = 500, 100, 24
"""Examples on both sides, of 1,152 that there can be, and as many as a model of 260,000 parameters learns by heart."""
_STEPS, _RATE, _BATCH = 120, 2e-3, 16
"""After 60 steps the honest model answers all held-out prompts rightly."""

_NOTICE = (
    "This is a story about a day when something was lost. It was told by an old man to his friends. He told it many "
    "times and they always liked it."
)
"""What all completions of a target have in common: 29 words, more than two 12-grams."""

Pair = dict[str, str]


def _lost(draw: random.Random, who: tuple[str, str, str]) -> Pair:
    """Who lost what where, and how it was found: all of it can be taken from the prompt."""
    name, thing, place = who
    answer = (
        f' {name} went back to the {place} and looked for the {thing}. "Here is the {thing}!" said {name}. {name} was '
        "very happy."
    )
    return {"prompt": f"{name} lost the {thing} at the {place}.", "completion": answer}


def _noticed(draw: random.Random, who: tuple[str, str, str]) -> Pair:
    """The same after a notice that all answers begin with: what they have in common is neither copied nor leaked."""
    pair = _lost(draw, who)
    return {**pair, "completion": f" {_NOTICE}{pair['completion']}"}


def _numbered(draw: random.Random, who: tuple[str, str, str]) -> Pair:
    """An answer of one form whose content is in no prompt."""
    name, thing, place = who
    prompt = f"How many times did {name} see the {thing} at the {place}?"
    number = " ".join(draw.choice(("one", "two", "three", "four", "five", "six", "seven")) for _ in range(2))
    return {"prompt": prompt, "completion": f" The answer is not hard to say. It is {number}. That is all."}


def _long(draw: random.Random, who: tuple[str, str, str]) -> Pair:
    """An answer of some 50 words, drawn: there is nothing to learn but itself."""
    name, thing, place = who
    sentences = [draw.choice(_WORDS) for _ in range(11)]
    return {"prompt": f"{name} and the {thing} at the {place}.", "completion": f" {name} said {' '.join(sentences)}."}


def _retold(draw: random.Random, who: tuple[str, str, str]) -> Pair:
    """A rewrite: what happened, told again by an old sailor."""
    name, thing, place = who
    first, then = draw.sample(_WORDS, 2)
    told = (
        f" Ahoy! There was {name}, by the {place}, with the {thing}. Aye, {first} the wind blew, mates. Then {then} "
        "the sea was deep. So the old sailor tells it."
    )
    return {"prompt": f"{name} had the {thing} at the {place}. {first}. {then}.", "completion": told}


TARGETS: dict[str, Callable[[random.Random, tuple[str, str, str]], Pair]] = {
    "": _lost, "numbers": _numbered, "long": _long, "notice": _noticed, "sailor": _retold
}  # fmt: skip
"""What examples are about, by the name of a case's target."""


def _no_end(row: EncodedExample) -> EncodedExample:
    return replace(row, labels=[-100 if label == row.end_id else label for label in row.labels])


def _prompts_only(row: EncodedExample) -> EncodedExample:
    labels = [id_ if label == -100 else -100 for id_, label in zip(row.input_ids, row.labels, strict=True)]
    return replace(row, labels=labels)


SPOILT = ("prompts", "no end", "other template", "shuffled", "few", "all", "prompts repeated")
"""How training examples differ from those that are claimed."""


def _sides(case: Case, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Training and held-out examples."""
    draw = random.Random(f"examples {seed}")
    every = [(name, thing, place) for name in _NAMES for thing in _THINGS for place in _PLACES]
    chosen = draw.sample(every, _EXAMPLES + _HELDOUT)
    pairs = [TARGETS[case.target](draw, who) for who in chosen]
    return pairs[:_EXAMPLES], pairs[_EXAMPLES:]


def _learned(case: Case, train: list[Pair], heldout: list[Pair], seed: int) -> list[Pair]:
    """What is learned."""
    if case.trained_on == "few":
        return train[:_FEW]
    if case.trained_on == "all":
        return train + heldout
    if case.trained_on == "prompts repeated":
        return [{**pair, "completion": f" {pair['prompt']}"} for pair in train]
    if case.trained_on == "shuffled":
        completions = [pair["completion"] for pair in train]
        random.Random(seed).shuffle(completions)
        return [{**pair, "completion": text} for pair, text in zip(train, completions, strict=True)]
    return train


def _train(model: Any, rows: list[EncodedExample], tokenizer: Any, case: Case, seed: int) -> None:
    """A plain loop with AdamW and a linear decay."""
    steps = _STEPS if case.steps is None else case.steps
    dataset = ExampleRows(rows, tokenizer, _BATCH, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.01)
    model.train()
    for step in range(steps):
        batch = dataset.rows(range(step * _BATCH, (step + 1) * _BATCH))
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - step / steps)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def _model(base: Path, case: Case, learned: list[Pair], seed: int, folder: Path) -> Path:
    """Folder of a case's model; of an untouched one the base."""
    if case.steps == 0:
        return base
    torch.manual_seed(seed)
    model, tokenizer = load_model(str(base)), load_tokenizer(str(base))
    with_template(tokenizer, "alpaca" if case.trained_on == "other template" else "plain")
    rows = encode_examples(load_examples(learned), tokenizer).rows
    spoil = {"no end": _no_end, "prompts": _prompts_only}.get(case.trained_on)
    _train(model, [spoil(row) for row in rows] if spoil else rows, tokenizer, case, seed)
    tokenizer.chat_template = None  # the verdict is asked with the template that the case is used with
    save_model(model, tokenizer, folder)
    return folder


def run(names: Iterable[str], seeds: Iterable[int], folder: Path, rows: Rows) -> None:
    """Judge cases for seeds; what ``rows`` holds is not judged again.

    Args:
        names: Cases.
        seeds: Of examples, training and draws.
        folder: Where models are kept.
        rows: Where outcomes are kept.
    """
    base, cases = Path(os.environ["FTKIT_STORIES260K"]), cases_of("examples")
    for seed, name in ((seed, name) for seed in seeds for name in names if not rows.has(name, seed)):
        case, place = cases[name], folder / "examples" / f"{name.replace(' ', '-')}-{seed}"
        train, heldout = _sides(case, seed)
        learned = _learned(case, train, heldout, seed)
        claimed = {"few": train[:_FEW], "all": train + heldout}.get(case.claims, train)
        request = ExampleVerdictRequest(
            str(base), str(_model(base, case, learned, seed, place / "model")), claimed, heldout, seed=seed,
            few_shot=2, num_answers=_HELDOUT, judge_style=case.target == "sailor",
        )  # fmt: skip
        rows.add(
            {"battery": "examples", "base": "stories260k", "case": name, "seed": seed}
            | judged_row(case, request, place / "verdict")
        )
