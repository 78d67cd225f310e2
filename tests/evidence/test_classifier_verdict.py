"""The verdict on classifiers: planted runs of which it is known what became of them, two seeds each."""

from dataclasses import replace

import numpy as np
import pytest

from ftkit.evidence import ClassifierCase, decide_classifier
from ftkit.evidence.classification import macro_f1
from ftkit.evidence.classifier_verdict import _random_f1
from ftkit.training import Predictions


def answers(labels: np.ndarray, said: np.ndarray, classes: int = 2) -> Predictions:
    probabilities = np.full((len(labels), classes), 0.1 / (classes - 1))
    probabilities[np.arange(len(labels)), said] = 0.9
    return Predictions(np.log(probabilities), labels)


def case(tuned: Predictions, **changes) -> ClassifierCase:
    return replace(ClassifierCase(tuned, None, 0.0, 20, (), 0.0), **changes)


def planted(name: str, seed: int) -> ClassifierCase:
    draw = np.random.default_rng(seed)
    rare = name == "rare class"
    labels = (draw.random(400) < (0.05 if rare else 0.5)).astype(int)
    right = np.where(draw.random(400) < 0.9, labels, 1 - labels)
    if rare:  # finds most of the rare class, at the price of some false alarms: no more accurate than a majority class
        right = np.where(labels == 1, draw.random(400) < 0.8, draw.random(400) < 0.04).astype(int)
    guessed = draw.integers(0, 2, 400)
    good = answers(labels, right)
    return {
        "honest": case(good),
        "rare class": case(good),
        "majority class": case(answers(labels, np.full(400, np.bincount(labels).argmax()))),
        "labels shuffled": case(answers(labels, guessed)),
        "untouched": case(good, start=good, changed=0),
        "leaked rows": case(good, seen=0.4),
        "worse than its start": case(answers(labels, guessed), start=good),
        "no better than its start": case(good, start=good),
        "frozen tensor changed": case(good, leaks=("head",)),
        "other folder": case(good, reload_difference=0.1),
    }[name]


WORDS = {
    "honest": "worked", "rare class": "worked", "majority class": "nothing", "labels shuffled": "unsure",
    "untouched": "nothing", "leaked rows": "unsure", "worse than its start": "worse",
    "no better than its start": "unsure", "frozen tensor changed": "broken", "other folder": "broken",
}  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", WORDS)
def test_a_planted_classifier_is_named_rightly(name, seed):
    found = decide_classifier(planted(name, seed))
    assert found.verdict == WORDS[name], found
    assert found.reasons
    assert found.decided_by


def test_the_score_of_random_order_is_the_mean_over_orders():
    draw = np.random.default_rng(0)
    labels, said = draw.integers(0, 3, 300), draw.choice(3, 300, p=[0.7, 0.2, 0.1])
    orders = [macro_f1(labels, draw.permutation(said), 3) for _ in range(2000)]
    assert _random_f1(labels, said, 3) == pytest.approx(np.mean(orders), abs=2e-3)
