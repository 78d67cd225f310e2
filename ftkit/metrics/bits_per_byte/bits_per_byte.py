"""Bits per byte and perplexity of a text from the loss on its windows, as a module of ``evaluate``."""

import math
from typing import Any

import datasets
import evaluate
import numpy as np

from ftkit.evidence import bits_per_byte
from ftkit.training import HeldOutLoss


class BitsPerByte(evaluate.Metric):  # type: ignore[misc]
    """Loss in a unit that does not depend on the tokenizer."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Bits that a language model needs for each byte of a text, with a 95 % interval.",
            citation="",
            inputs_description=(
                "predictions: loss of each window in nats, summed. references: bytes of text of each window. "
                "tokens: predicted tokens of each window, for the perplexity; optional. unknown: bytes of each window "
                "that the tokenizer cannot write and references leave out; optional. Above 2 % there is no figure."
            ),
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(
        self,
        predictions: list[float],
        references: list[int],
        tokens: list[int] | None = None,
        unknown: list[int] | None = None,
    ) -> dict[str, Any]:
        nats, counts = np.asarray(predictions, dtype=float), np.asarray(references)
        loss = HeldOutLoss(nats, np.ones_like(counts), counts, None if unknown is None else np.asarray(unknown))
        found: dict[str, Any] = bits_per_byte(loss).as_dict()
        result = {"bits_per_byte": found["value"], "low": found["low"], "high": found["high"]}
        result |= {} if unknown is None else {"unknown_share": loss.unknown_share}
        return result | ({"perplexity": math.exp(nats.sum() / sum(tokens))} if tokens else {})
