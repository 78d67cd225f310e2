"""From the names in the settings to probes."""

import logging

import numpy as np
import torch
from transformers import PreTrainedModel

from ftkit.config import TrainingSettings
from ftkit.config.probes import split_probe
from ftkit.data import TokenGroup, token_groups
from ftkit.errors import ConfigError
from ftkit.training.datasets import HeldOutDataset
from ftkit.training.objectives import IGNORED, next_token_targets
from ftkit.training.probes.inside import Activations, GroupProbabilities
from ftkit.training.probes.probe import Probe
from ftkit.training.probes.weights import UpdateRatio, WeightChange, WeightDistributions
from ftkit.tuning import ParameterGroups, Selection, select

__all__ = ["build_probes"]

_logger = logging.getLogger("ftkit.training")
_OF_TEXT = ("activations", "token_groups")
_GROUP_SIZE = 100  # tokens of a frequency group where none is given: a hundred average out single tokens
_ACTIVATION_ROWS = 8
"""Rows of the fixed batch whose activations are described."""


def build_probes(
    settings: TrainingSettings,
    model: PreTrainedModel,
    train_ids: np.ndarray | None = None,
    heldout: HeldOutDataset | None = None,
) -> list[Probe]:
    """Make the probes that the settings name. Do it before the engine, which may load a checkpoint into the model.

    Args:
        settings: ``probes``, ``probe_steps``, ``window_tokens`` and ``eval_windows`` are read.
        model: The model as it starts.
        train_ids: All tokens of the text that says which tokens are frequent, rare and never used.
        heldout: Held-out rows, on which activations and probabilities are measured.

    Raises:
        ConfigError: A selector that matches nothing, a model without the part, or a training without text.
    """
    for text in settings.probes:
        if split_probe(text)[0] in _OF_TEXT and (train_ids is None or heldout is None):
            raise ConfigError(f"the probe {text!r} looks at a text, which this training has not; leave it out")
    every, named, made = settings.probe_steps, [split_probe(text) for text in settings.probes], list[Probe]()
    options = {"use_cache": False} if heldout and heldout.causal else {}
    for name in dict.fromkeys(name for name, _ in named):
        arguments = [argument for other, argument in named if other == name]
        if name == "weight_change":
            made.append(WeightChange(model, _selections(model, arguments), every))
        elif name == "update_ratio":
            made.append(UpdateRatio(model, _selections(model, arguments), every))
        elif name == "weights":
            made += [WeightDistributions(model, argument or "all", every) for argument in arguments]
        elif name == "activations" and heldout:
            inputs_BT, _ = _heldout_rows(heldout, _ACTIVATION_ROWS)
            made.append(Activations(model, inputs_BT, every, **options))
        elif name == "token_groups" and train_ids is not None and heldout:
            inputs_BT, asked_BT = _heldout_rows(heldout, settings.eval_windows)
            for size in (int(argument or _GROUP_SIZE) for argument in arguments):
                groups = _groups(model, train_ids, size)
                made.append(GroupProbabilities(model, groups, inputs_BT, asked_BT, every, **options))
    return made


def _selections(model: PreTrainedModel, arguments: list[str]) -> dict[str, Selection]:
    """What each argument selects, under its own name; without an argument each group of the model."""
    groups = ParameterGroups(model)
    found = {text: select(groups, text) for text in arguments if text}
    return ({} if all(arguments) else {name: groups.group(name) for name in groups.names}) | found


def _heldout_rows(heldout: HeldOutDataset, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows spread evenly over the held-out text, [B, T], and where the model is asked for a token."""
    batch = heldout.rows(heldout.spread(most))
    targets_BT = next_token_targets(batch["labels"]) if heldout.causal else batch["labels"]
    return batch["input_ids"], targets_BT != IGNORED


def _groups(model: PreTrainedModel, train_ids: np.ndarray, size: int) -> list[TokenGroup]:
    groups = token_groups(train_ids, int(model.config.get_text_config().vocab_size), size)
    if all(group.name != "unused" for group in groups):
        _logger.warning("token_groups: the text uses every token of the vocabulary, so no group is unused")
    return groups
