"""Whether generated Python code is well formed, as a module of ``evaluate``; the code is never run."""

from typing import Any

import datasets
import evaluate

from ftkit.evidence import code_validity as measure


class CodeValidity(evaluate.Metric):  # type: ignore[misc]
    """Parse and compile rate, syntax overlap, imports and diversity."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Shares of samples of Python code that parse and compile, and how they resemble real code.",
            citation="",
            inputs_description="predictions: generated code. reference: real code; optional.",
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions: list[str], reference: list[str] | None = None) -> dict[str, Any]:
        return measure(predictions, reference or ()).as_dict()
