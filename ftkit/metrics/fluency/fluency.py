"""Repetition, diversity and unknown words, as a module of ``evaluate``."""

from dataclasses import asdict
from typing import Any

import datasets
import evaluate

from ftkit.evidence import fluency as measure
from ftkit.evidence import vocabulary_of


class Fluency(evaluate.Metric):  # type: ignore[misc]
    """Whether generated text is broken."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Repetition, diversity and words that stand in no text, of passages of one length.",
            citation="",
            inputs_description="predictions: generated passages. known_texts: real text whose words are known.",
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions: list[str], known_texts: list[str]) -> dict[str, Any]:
        return asdict(measure(predictions, vocabulary_of(known_texts)))
