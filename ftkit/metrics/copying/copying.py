"""Verbatim overlap with a training text, beside that of real text, as a module of ``evaluate``."""

from dataclasses import asdict
from typing import Any

import datasets
import evaluate

from ftkit.evidence import CopyIndex
from ftkit.evidence import copying as measure


class Copying(evaluate.Metric):  # type: ignore[misc]
    """Whether generated text copies."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of word n-grams that occur in the training text, and its excess over real text's.",
            citation="",
            inputs_description=(
                "predictions: generated passages. train_texts: what was trained on. heldout: real passages that were "
                "not, of the same length. ngram: words in an n-gram, 12 without it."
            ),
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(
        self, predictions: list[str], train_texts: list[str], heldout: list[str], ngram: int = 12
    ) -> dict[str, Any]:
        return asdict(measure(predictions, heldout, CopyIndex(train_texts, ngram)))
