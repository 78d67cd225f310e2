"""Metrics of the ``evaluate`` library that a user names beside ftkit's own, for classifiers.

Every such metric is a Python file that runs, from the Hub or from a folder, so it must be trusted like a model's code.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ftkit.errors import ConfigError, NetworkError
from ftkit.training import Predictions

__all__ = ["NamedMetric", "load_metrics"]

_logger = logging.getLogger("ftkit.evidence")
_SEPARATOR = ":"
_INPUTS = {"predictions", "references", "prediction_scores"}


@dataclass(frozen=True)
class NamedMetric:
    """One metric and what it is called with."""

    name: str
    metric: Any
    options: dict[str, Any]

    def compute(self, found: Predictions) -> dict[str, Any]:
        """What the metric says of a classifier's predictions.

        Args:
            found: Log-probabilities and true classes.

        Raises:
            ConfigError: It cannot be computed from classes, or not with these options.
        """
        asked = set(self.metric.features)
        if not asked <= _INPUTS:
            raise ConfigError(f"metrics: {self.name} asks for {sorted(asked - _INPUTS)}, which a classifier has not")
        probabilities = np.exp(found.log_probabilities)
        scores = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
        inputs = {
            "predictions": probabilities.argmax(1).tolist(),
            "references": found.labels.tolist(),
            "prediction_scores": scores.tolist(),
        }
        try:
            result = self.metric.compute(**{name: inputs[name] for name in asked}, **self.options)
        except Exception as error:  # a foreign metric may raise anything
            raise ConfigError(
                f"metrics: {self.name} cannot be computed from these classes: {error}. Options follow the name after "
                "a colon, such as f1:average=macro"
            ) from None
        return {key: np.asarray(value).tolist() for key, value in result.items()}


def load_metrics(specs: Sequence[str], num_classes: int, trusted: bool) -> list[NamedMetric]:
    """Load metrics and try each once, so that a wrong one is known before anything is trained.

    Args:
        specs: A folder or a Hub id each, options after it: ``f1:average=macro``.
        num_classes: How many classes the classifier has.
        trusted: Whether Python files of others may run.

    Raises:
        ConfigError: Not trusted, not found, or not computable.
        NetworkError: A Hub id, and the Hub cannot be reached.
    """
    if specs and not trusted:
        raise ConfigError(
            f"metrics: {specs[0]} is a Python file that would run here; read it first, then set trust_remote_code"
        )
    labels = np.arange(2 * num_classes) % num_classes
    trial = Predictions(np.log(np.where(np.eye(num_classes)[labels] == 1, 0.9, 0.1 / (num_classes - 1))), labels)
    found = [_load(spec) for spec in specs]
    for one in found:
        one.compute(trial)
    return found


def _load(spec: str) -> NamedMetric:
    name, *given = spec.split(_SEPARATOR)
    options = dict(_option(name, item) for item in given)
    local = name.startswith((".", "/", "~")) or Path(name).exists()
    where = str(Path(name).expanduser()) if local else name
    if local and not (Path(where).is_file() or (Path(where) / f"{Path(where).name}.py").is_file()):
        raise ConfigError(
            f"metrics: the folder {name} has no file {Path(where).name}.py, which the evaluate library loads"
        )
    import evaluate  # takes seconds

    try:
        metric = evaluate.load(where, module_type="metric")
    except (ImportError, SyntaxError) as error:
        raise ConfigError(f"metrics: {name} cannot be loaded: {error}") from None
    except Exception as error:  # evaluate passes on whatever the Hub's client raises
        if local:
            raise ConfigError(f"metrics: {name} cannot be loaded: {type(error).__name__}: {error}") from None
        raise NetworkError(
            f"metrics: {name} is no folder here, and it cannot be fetched from the Hub ({type(error).__name__}); "
            "without the network name a folder that holds the metric's Python file"
        ) from None
    return NamedMetric(Path(where).stem if local else name, metric, options)


def _option(name: str, item: str) -> tuple[str, Any]:
    """``key=value`` with a number or a word as value."""
    key, equals, value = item.partition("=")
    if not equals or not key:
        raise ConfigError(f"metrics: {item!r} after {name} is no option; write key=value")
    for kind in (int, float):
        try:
            return key, kind(value)
        except ValueError:
            continue
    return key, value
