"""Optimizers and what they decay.

Weight decay pulls matrices and embeddings towards zero; a bias or a norm's gain has no reason to be small. Muon
orthogonalises the update of a matrix (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), which means
something for the linear maps inside the blocks and nothing for embeddings, heads, norms and biases: those keep AdamW.
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from ftkit.config import TrainingSettings
from ftkit.errors import ConfigError, nearest_name
from ftkit.tuning.freezing import freeze
from ftkit.tuning.groups import Selection
from ftkit.tuning.schedules import peak_rates

__all__ = ["build_optimizers", "check_tuning", "matrices_of_blocks"]

_FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")
"""Where torch (2.11) has fused kernels of Adam, AdamW and SGD."""


def matrices_of_blocks(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weight matrices of linear maps inside the blocks: no embedding, no head, no classifier.

    Args:
        model: Any Hugging Face model.

    Returns:
        Parameter names and parameters that are trainable and 2-dimensional.
    """
    backbone: Any = model.base_model
    inside = {id(parameter) for parameter in backbone.parameters()}
    embeddings = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    linear = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear | Conv1D)}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) in (inside & linear) - embeddings
    }


def _groups(
    parameters: Mapping[str, nn.Parameter], rates: Mapping[str, float], weight_decay: float
) -> list[dict[str, Any]]:
    """Parameters of one rate and one decay together; each group carries its rate as ``peak_lr`` too."""
    together: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        together.setdefault((rates[name], weight_decay if parameter.ndim >= 2 else 0.0), []).append(parameter)
    return [
        {"params": members, "lr": rate, "peak_lr": rate, "weight_decay": decay}
        for (rate, decay), members in together.items()
    ]


def build_optimizers(model: nn.Module, settings: TrainingSettings) -> list[torch.optim.Optimizer]:
    """The optimizers of a model; every trainable parameter belongs to exactly one.

    Args:
        model: The model, before anything wraps it.
        settings: ``optimizer``, the learning rates and ``weight_decay`` are read.

    Returns:
        The optimizer that is named, or Muon for the matrices of the blocks and AdamW for the rest. Each group carries
        its peak rate as ``peak_lr``.

    Raises:
        ConfigError: Nothing can be trained.
    """
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trainable:
        raise ConfigError(f"nothing to train: all {sum(1 for _ in model.parameters())} tensors of the model are frozen")
    matrices = matrices_of_blocks(model) if settings.optimizer == "muon" else {}
    usual = {name: settings.muon_learning_rate if name in matrices else settings.learning_rate for name in trainable}
    rates = peak_rates(model, settings, usual)
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(torch.optim.Muon(_groups(matrices, rates, settings.weight_decay)))
    if rest := {name: parameter for name, parameter in trainable.items() if name not in matrices}:
        kind = _optimizer(settings)
        arguments = _fused(kind, rest.values()) | settings.optimizer_args
        optimizers.append(kind(_groups(rest, rates, settings.weight_decay), **arguments))
    return optimizers


def _fused(kind: Any, parameters: Iterable[nn.Parameter]) -> dict[str, bool]:
    """``fused=True`` where torch has one kernel for the whole update: on a CPU it takes a third of the time.

    Adagrad's exists for the CPU only, and a model without values (``meta``) has no device whose kernels could be asked.
    """
    known = kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
    return {"fused": True} if known and all(p.device.type in _FUSED_DEVICES for p in parameters) else {}


def _optimizer(settings: TrainingSettings) -> Any:
    """The class of torch.optim that the settings name, which must take the arguments that they give."""
    name = "adamw" if settings.optimizer == "muon" else settings.optimizer
    found = next(kind for key, kind in vars(torch.optim).items() if key.lower() == name and isinstance(kind, type))
    known = inspect.signature(found).parameters
    for key in settings.optimizer_args:
        if key not in known or key in ("params", "lr", "weight_decay"):
            allowed = sorted(set(known) - {"params", "lr", "weight_decay"})
            raise ConfigError(f"optimizer_args: {settings.optimizer} has no {key!r}{nearest_name(key, allowed)}")
    return found


def check_tuning(model: nn.Module, settings: TrainingSettings) -> Selection:
    """Read all selectors of a run against its model, before anything that costs time.

    Args:
        model: The model to be trained, or one of the same architecture; its ``requires_grad`` is set as for training.
        settings: As for ``freeze`` and ``build_optimizers``.

    Returns:
        What may ever change.

    Raises:
        ConfigError: A selector that matches nothing, a rate for a slice, or nothing to train.
    """
    trainable = freeze(model, settings).trainable
    build_optimizers(model, settings)
    return trainable
