"""The learning rate as a pure function of the step, so that there is no scheduler state to lose."""

import math
from collections.abc import Mapping

from torch import nn

from ftkit.config import TrainingSettings
from ftkit.errors import ConfigError
from ftkit.tuning.groups import ParameterGroups, select

__all__ = ["learning_rate_factor", "peak_rates", "schedule_warning"]


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
