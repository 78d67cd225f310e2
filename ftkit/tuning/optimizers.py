"""Optimizers and what they decay.

Weight decay pulls matrices and embeddings towards zero; a bias or a norm's gain has no reason to be small. Muon
orthogonalises the update of a matrix (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), which means
something for the linear maps inside the blocks and nothing for embeddings, heads, norms and biases: those keep AdamW.
"""

import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from ftkit.config import TrainingSettings
from ftkit.errors import ConfigError, nearest_name
from ftkit.tuning.frozen_parameters import freeze
from ftkit.tuning.groups import ParameterGroups, Selection, select

__all__ = [
    "build_optimizers",
    "check_tuning",
    "learning_rate_factor",
    "matrices_of_blocks",
    "peak_rates",
    "schedule_warning",
]

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


# The learning rate as a pure function of the step, so that there is no scheduler state to lose.


def learning_rate_factor(step: int, settings: TrainingSettings) -> float:
    """Factor on the peak learning rate that update ``step`` uses.

    The warm-up rises linearly and reaches the peak at update ``warmup`` (the first update is never wasted on rate 0);
    after it, linear and cosine fall towards ``min_lr_rate``, which they would reach one update after the last, so that
    the last update is not wasted either. The falling part equals transformers' schedules of the same names.

    ``schedule_steps`` lays the falling part out for another length than the run's: shorter, and the rate stays where
    it ended; longer, and the run ends above the floor (lesson 07/018).

    Args:
        step: The update, counted from 1.
        settings: ``lr_scheduler_type``, ``warmup_steps``, ``min_lr_rate``, ``lr_cycles``, ``schedule_steps`` and
            ``max_steps`` are read.

    Returns:
        A number from 0 to 1.
    """
    warmup = (
        int(settings.warmup_steps) if settings.warmup_steps >= 1 else round(settings.warmup_steps * settings.max_steps)
    )
    if step <= warmup:
        return step / warmup
    if settings.lr_scheduler_type == "constant":
        return 1.0
    length = settings.schedule_steps or settings.max_steps
    progress = min((step - 1 - warmup) / max(length - warmup, 1), 1.0)
    waves = 2 * math.pi * settings.lr_cycles
    shape = 1 - progress if settings.lr_scheduler_type == "linear" else 0.5 * (1 + math.cos(waves * progress))
    return settings.min_lr_rate + (1 - settings.min_lr_rate) * shape


def schedule_warning(settings: TrainingSettings) -> str:
    """What to say where all updates, or the last ones, would have the learning rate 0; else an empty text."""
    rates = [settings.learning_rate, *settings.learning_rates.values()]
    if not any(rates + [settings.muon_learning_rate] * (settings.optimizer == "muon")):
        return "learning_rate is 0: no update will change anything; set it above 0"
    if learning_rate_factor(settings.max_steps, settings) > 0:
        return ""
    last = settings.max_steps
    while last > 0 and learning_rate_factor(last, settings) == 0:
        last -= 1
    return (
        f"the learning rate is 0 after update {last}: the last {settings.max_steps - last} of {settings.max_steps} "
        "updates change nothing; set schedule_steps higher, max_steps lower, or min_lr_rate above 0"
    )


# Peak learning rates of single tensors: by selector, and falling from the head down to the embedding.


def peak_rates(model: nn.Module, settings: TrainingSettings, base_rates: Mapping[str, float]) -> dict[str, float]:
    """Peak learning rate of every parameter.

    With ``layer_lr_decay`` d, a tensor at depth k below the head has the factor d^k: 0 for head, classifier, pooler,
    adapters outside blocks and the final norm, 1 for the last block, blocks + 1 for what lies below them (Clark et al.
    2020, https://arxiv.org/abs/2003.10555, appendix A). A rate in ``learning_rates`` is taken as it is.

    Args:
        model: The model.
        settings: ``layer_lr_decay`` and ``learning_rates`` are read.
        base_rates: The optimizer's rate by parameter name.

    Returns:
        Rates by parameter name.

    Raises:
        ConfigError: A selector that matches nothing, that means a slice of a tensor (an optimizer has one rate for a
            tensor), or two that give one tensor different rates.
    """
    if settings.layer_lr_decay == 1 and not settings.learning_rates:
        return dict(base_rates)
    groups = ParameterGroups(model)
    factors = _depth_factors(groups, settings.layer_lr_decay)
    rates = {name: rate * factors[name] for name, rate in base_rates.items()}
    given: dict[str, tuple[str, float]] = {}
    for text, rate in settings.learning_rates.items():
        chosen = select(groups, text).masks
        if not chosen.keys() & rates.keys():
            raise ConfigError(f"learning_rates: {text!r} has no effect: nothing of it trains")
        for name, mask in chosen.items():
            if not mask.all():
                raise ConfigError(
                    f"learning_rates: {text!r} means a slice of {name}, and a tensor has one rate; select whole tensors"
                )
            before, other = given.setdefault(name, (text, rate))
            if other != rate:
                raise ConfigError(
                    f"learning_rates: {before!r} and {text!r} give {name} two rates, {other:g} and {rate:g}"
                )
            if name in rates:
                rates[name] = rate
    return rates


def _depth_factors(groups: ParameterGroups, decay: float) -> dict[str, float]:
    factors: dict[str, float] = {}
    for piece in groups.pieces:
        if piece.layer is not None:
            depth = groups.num_layers - piece.layer
        elif piece.name in groups.below_blocks:
            depth = groups.num_layers + 1
        else:
            depth = 0
        factors[piece.name] = decay**depth
    return factors
