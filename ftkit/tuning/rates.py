"""Peak learning rates of single tensors: by selector, and falling from the head down to the embedding."""

from collections.abc import Mapping

from torch import nn

from ftkit.config import TrainingSettings
from ftkit.errors import ConfigError
from ftkit.tuning.groups import ParameterGroups, select

__all__ = ["peak_rates"]


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
