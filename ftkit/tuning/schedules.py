"""The learning rate as a pure function of the step, so that there is no scheduler state to lose."""

import math

from ftkit.config import TrainingSettings

__all__ = ["learning_rate_factor", "schedule_warning"]


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
