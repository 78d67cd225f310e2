"""Equal passes: how many steps a text needs to be read as often as another (lesson 07/06).

The same number of steps reads a short text often and a long one hardly: 476 steps are 39 passes over *Alice* and 10
over Poe, which alone explains most of the difference between their losses.
"""

import logging
from typing import TypeVar

from ftkit.config import AdapterSettings
from ftkit.errors import ConfigError
from ftkit.runs.processes import num_processes
from ftkit.training.batches import TokenWindows

__all__ = ["with_steps_of_passes"]

_logger = logging.getLogger("ftkit.training")

S = TypeVar("S", bound=AdapterSettings)


def with_steps_of_passes(settings: S, source: TokenWindows) -> S:
    """The settings with ``max_steps`` instead of ``num_train_epochs``.

    Args:
        settings: As they were asked for; without ``num_train_epochs`` they come back as they are.
        source: The text to learn.

    Returns:
        Settings whose steps read the text as often as asked, rounded to whole steps, one at least.

    Raises:
        ConfigError: Other settings do not fit this number of steps, such as a longer warm-up.
    """
    if not (epochs := settings.num_train_epochs):
        return settings
    rows = settings.per_device_train_batch_size * settings.gradient_accumulation_steps * num_processes()
    steps = max(round(epochs * source.text_tokens / (rows * source.row_tokens)), 1)
    changed = settings.model_copy(update={"max_steps": steps, "num_train_epochs": 0.0})
    if problems := changed.problems():
        said = "; ".join(f"{name} {text}" for name, text in problems)
        raise ConfigError(f"num_train_epochs: {epochs:g} epochs of this text are {steps:,} steps, and {said}")
    _logger.info("%g epochs of %s tokens: %s steps", epochs, f"{source.text_tokens:,}", f"{steps:,}")
    return changed
