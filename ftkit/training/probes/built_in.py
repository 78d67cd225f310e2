"""The probes that ship with ftkit: of weights, and of what a model computes; and how settings name them."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ftkit.config import TrainingSettings
from ftkit.config.probes import split_probe
from ftkit.data import TokenGroup, token_groups
from ftkit.errors import ConfigError
from ftkit.inspection import weight_statistics
from ftkit.training.datasets import HeldOutDataset
from ftkit.training.divergence import first_bad_module
from ftkit.training.objectives import IGNORED, next_token_targets
from ftkit.training.probes.probe import Probe, Row
from ftkit.tuning import ParameterGroups, Selection, select
from ftkit.tuning.movement import SelectedValues

__all__ = [
    "Activations",
    "GroupProbabilities",
    "UpdateRatio",
    "WeightChange",
    "WeightDistributions",
    "block_modules",
    "build_probes",
]

_logger = logging.getLogger("ftkit.training")


@contextmanager
def _looked_at(model: nn.Module) -> Iterator[torch.device]:
    """A model that computes without dropout and without gradients, and is left in the mode it was in; its device."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield next(model.parameters()).device
    finally:
        model.train(was_training)


def block_modules(model: nn.Module) -> dict[int, nn.Module]:
    """The blocks of a model by their number.

    Raises:
        ConfigError: The model has none, or its family is not declared.
    """
    groups = ParameterGroups(model)
    names = {
        piece.layer: piece.name.partition(f".{piece.layer}.")[0] + f".{piece.layer}"
        for piece in reversed(groups.pieces)
        if piece.layer is not None
    }
    if not names:
        raise ConfigError(
            f"activations: no blocks are known in this model of family {groups.family!r}; leave this probe out"
        )
    return {layer: model.get_submodule(names[layer]) for layer in sorted(names)}


class Activations(Probe):
    """What leaves each block, on a fixed batch: the watch for layers that die, grow or turn into NaN (lesson 04/09).

    Args:
        model: The model.
        input_ids_BT: The batch.
        every: Steps between measurements.
        options: Further arguments of the forward pass.

    Raises:
        ConfigError: The model has no blocks that are known.
    """

    name = "activations"

    def __init__(self, model: PreTrainedModel, input_ids_BT: Tensor, every: int, **options: Any) -> None:
        self.every, self._model, self._input_ids_BT, self._options = every, model, input_ids_BT, options
        block_modules(model)

    def measure(self, step: int) -> list[Row]:
        """Mean, standard deviation, largest absolute value and share of zeros of each block's output."""
        found: dict[int, Row] = {}
        hooks = [
            block.register_forward_hook(
                lambda module, inputs, output, layer=layer: found.update({layer: _described(output)})
            )
            for layer, block in block_modules(self._model).items()
        ]
        with _looked_at(self._model) as device:
            inputs = {"input_ids": self._input_ids_BT.to(device), **self._options}
            try:
                self._model(**inputs)
            finally:
                for hook in hooks:
                    hook.remove()
            if any(row["not_finite"] for row in found.values()):
                _logger.warning(
                    "step %d: not all activations are finite; %s", step, first_bad_module(self._model, inputs)
                )
        return [{"layer": layer, **found[layer]} for layer in sorted(found)]


def _described(output: Any) -> Row:
    """Numbers of one block's output; their mean and so on are of what is finite no more where something is not."""
    hidden = (output[0] if isinstance(output, tuple) else output).float()
    return {
        "mean": float(hidden.mean()),
        "std": float(hidden.std()),
        "max_abs": float(hidden.abs().max()),
        "zeros": float((hidden == 0).double().mean()),
        "not_finite": int((~torch.isfinite(hidden)).sum()),
    }


class GroupProbabilities(Probe):
    """How probable a model finds groups of tokens, wherever it is asked (lesson 06/019).

    Places whose own token belongs to a group are left out for it: where embedding and head share their weights, a
    token that was just read is favoured for that alone.

    Args:
        model: A language model.
        groups: Tokens by how often the training text uses them.
        input_ids_BT: Rows of held-out text, as the model reads them.
        asked_BT: Bool, the places where it is asked for a token.
        every: Steps between measurements.
        batch_rows: Rows in a forward pass.
        options: Further arguments of it.
    """

    name = "token_groups"

    def __init__(
        self,
        model: PreTrainedModel,
        groups: Sequence[TokenGroup],
        input_ids_BT: Tensor,
        asked_BT: Tensor,
        every: int,
        batch_rows: int = 16,
        **options: Any,
    ) -> None:
        self.every, self._model, self._groups = every, model, groups
        self._batch_rows, self._options = batch_rows, options
        self._input_ids_BT = input_ids_BT
        self._ids = [torch.from_numpy(group.ids) for group in groups]
        self._kept = [asked_BT & ~torch.isin(input_ids_BT, ids) for ids in self._ids]

    def measure(self, step: int) -> list[Row]:
        """Mean of ln p and mean of p over places and tokens of each group, beside ``chance``, ln(1/V)."""
        sums = torch.zeros(len(self._groups), 2, dtype=torch.float64)
        with _looked_at(self._model) as device:
            for first in range(0, len(self._input_ids_BT), self._batch_rows):
                part = slice(first, first + self._batch_rows)
                rows_BT = self._input_ids_BT[part].to(device)
                logits_BTV = self._model(input_ids=rows_BT, **self._options).logits
                log_p_BTV = logits_BTV[:, -rows_BT.shape[1] :].float().log_softmax(-1)  # after any virtual tokens
                for number, (ids, kept_BT) in enumerate(zip(self._ids, self._kept, strict=True)):
                    log_p = log_p_BTV[kept_BT[part].to(device)][:, ids.to(device)].double()
                    sums[number] += torch.stack([log_p.sum(), log_p.exp().sum()]).cpu()
        chance = -math.log(logits_BTV.shape[-1])
        counts = [int(kept.sum()) * len(ids) for kept, ids in zip(self._kept, self._ids, strict=True)]
        return [
            {
                "group": group.name,
                "tokens": len(group.ids),
                "occurrences": group.occurrences,
                "places": int(kept.sum()),
                "log_probability": float(logs) / count if count else None,
                "probability": float(plain) / count if count else None,
                "chance": chance,
            }
            for group, kept, count, (logs, plain) in zip(self._groups, self._kept, counts, sums, strict=True)
        ]


# Probes of the weights: how far they moved, how large an update is, and how they are distributed.


class WeightChange(Probe):
    """How far selections moved since the last measurement and since the start (lessons 07/010 and 07/011).

    Args:
        model: The model as it starts; two copies of what is selected are kept.
        selections: What is measured, by the name it gets in the records.
        every: Steps between measurements.
    """

    name = "weight_change"

    def __init__(self, model: nn.Module, selections: Mapping[str, Selection], every: int) -> None:
        self.every = every
        self._values = {label: SelectedValues(model, chosen) for label, chosen in selections.items()}
        self._start = {label: [v.cpu() for v in values.copies()] for label, values in self._values.items()}
        self._last, self._since = self._start, 0

    def begin(self, step: int) -> None:
        """Count from here: a resumed training no longer has the weights of the last measurement."""
        self._last, self._since = {label: values.copies() for label, values in self._values.items()}, step

    def measure(self, step: int) -> Iterator[Row]:
        """Frobenius norms of the change, plain and over the norm before it; ``since`` is the step of the last."""
        last, since = self._last, self._since
        self.begin(step)
        for label, now in self._last.items():
            change, total = SelectedValues.norm(now, last[label]), SelectedValues.norm(now, self._start[label])
            yield {
                "of": label,
                "since": since,
                "change": change,
                "relative": _share(change, SelectedValues.norm(last[label])),
                "from_start": total,
                "relative_from_start": _share(total, SelectedValues.norm(self._start[label])),
            }


class UpdateRatio(Probe):
    """How large a single update is beside the weights that it changes; around 0.001 is usual for AdamW.

    Args:
        model: The model; a copy of what is selected is held during the updates that are measured.
        selections: What is measured, by the name it gets in the records.
        every: Steps between measurements.
    """

    name = "update_ratio"

    def __init__(self, model: nn.Module, selections: Mapping[str, Selection], every: int) -> None:
        self.every = every
        self._values = {label: SelectedValues(model, chosen) for label, chosen in selections.items()}
        self._before: dict[str, list[Tensor]] = {}

    def before(self, step: int) -> None:
        """Remember the weights."""
        self._before = {label: values.copies() for label, values in self._values.items()}

    def measure(self, step: int) -> Iterator[Row]:
        """Norm of the update, norm of the weights before it, and their ratio; nothing at step 0."""
        for label, before in self._before.items():
            update = SelectedValues.norm(self._values[label].copies(), before)
            norm = SelectedValues.norm(before)
            yield {"of": label, "update": update, "weights": norm, "ratio": _share(update, norm)}
        self._before = {}


class WeightDistributions(Probe):
    """How the weights of each group and block are distributed (lesson 06/013).

    Args:
        model: The model.
        selectors: What to describe.
        every: Steps between measurements.
        bins: Bins of the histograms, which reach from a group's least to its largest value at that step.
    """

    name = "weights"

    def __init__(self, model: nn.Module, selectors: str, every: int, bins: int = 100) -> None:
        self.every, self._model, self._selectors, self._bins = every, model, selectors, bins

    def measure(self, step: int) -> Iterator[Row]:
        """Mean, standard deviation, ends, zeros and histogram of each group and block."""
        for found in weight_statistics(self._model, self._selectors, bins=self._bins):
            yield {**found.as_row(), "low": found.edges[0], "high": found.edges[-1], "counts": list(found.counts)}


def _share(change: float, norm: float) -> float | None:
    return change / norm if norm else None


# From the names in the settings to probes.


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
