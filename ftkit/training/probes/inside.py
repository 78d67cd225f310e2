"""Probes of what a model computes: activations of its blocks, and probabilities of rare, frequent and unused tokens."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ftkit.data import TokenGroup
from ftkit.errors import ConfigError
from ftkit.training.divergence import first_bad_module
from ftkit.training.probes.probe import Probe, Row
from ftkit.tuning import ParameterGroups

__all__ = ["Activations", "GroupProbabilities", "block_modules"]

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
