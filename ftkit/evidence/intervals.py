"""Values with 95 % intervals, by the bootstrap and, for repeats, by Student's t.

Bootstrap intervals cover the sampling of the evaluation (which windows, which passages) for one trained model. They say
nothing about what another training seed would give; for that, repeat the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BeforeValidator

if TYPE_CHECKING:
    from ftkit.training import HeldOutLoss

__all__ = [
    "LEVEL",
    "Interval",
    "Number",
    "bits_per_byte",
    "bootstrap",
    "change_of_share",
    "difference_of_blocks",
    "difference_of_items",
    "exact_share",
    "gain_in_bits",
    "gain_over",
    "loss_blocks",
    "mean_of_repeats",
    "relative_rise",
    "wilson",
]

_Z = 1.959963984540054
"""Quantile of the normal distribution for 95 %."""
LEVEL = 0.95
"""How often intervals hold that are looked at once."""
_DRAWS = 2000
"""Redraws of a bootstrap: an end of a 95 % interval then rests on 50 of them."""
_BLOCKS = 30
"""Blocks of neighbouring windows: enough for a bootstrap, and each as long as a text of this size allows."""
_AT_ONCE = 2**22
"""Items of all redraws that are held at a time."""


Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number that JSON holds as ``null`` where it is not finite."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: Number
    low: Number
    high: Number

    def __str__(self) -> str:
        return f"{self.value:z.3f} [{self.low:z.3f}, {self.high:z.3f}]"

    def negated(self) -> Interval:
        """The interval of the value with the other sign."""
        return Interval(-self.value, -self.high, -self.low)

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def bootstrap(
    statistic: Callable[..., np.ndarray], *samples: np.ndarray, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Percentile bootstrap of a statistic of one or several independent samples.

    Args:
        statistic: Reduces the axis of the items, and so serves the samples themselves ([n] or [n, k]) and all redraws
            at once ([draws, n] or [draws, n, k]).
        *samples: Arrays of shape [n] or [n, k]; the items of each are resampled with replacement on their own.
        seed: Seed of the redraws.
        level: How often such intervals hold.

    Returns:
        The statistic of the samples and its interval.

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    generator, wanted = np.random.default_rng(seed), _redraws(level)
    draws = min(max(_AT_ONCE // max(map(len, samples)), 1), wanted)  # small samples: all redraws at once
    found = []
    for first in range(0, wanted, draws):
        count = min(draws, wanted - first)
        redrawn = [sample[generator.integers(0, len(sample), size=(count, len(sample)))] for sample in samples]
        found.append(statistic(*redrawn))
    low, high = np.percentile(np.concatenate(found), [50 * (1 - level), 50 * (1 + level)])
    return Interval(float(statistic(*samples)), float(low), float(high))


def _redraws(level: float) -> int:
    """Redraws for an interval: as many beyond each end as a 95 % interval has."""
    return max(round(_DRAWS * (1 - LEVEL) / (1 - level)), _DRAWS)


def exact_share(count: float, total: int, level: float = LEVEL) -> Interval:
    """A share and its exact interval for independent draws; each bound alone holds with half the error.

    Args:
        count: What was counted; need not be whole, such as a sum of shares, for which the interval is too wide.
        total: Draws, at least one.
        level: How often both bounds hold.

    Source: Clopper and Pearson 1934, https://doi.org/10.1093/biomet/26.4.404.
    """
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, total - count)) if count < total else 1.0
    return Interval(count / total, low, high)


def wilson(count: float, total: int) -> Interval:
    """A share and its 95 % interval for independent draws; never of width 0, also where none or all were counted.

    Args:
        count: What was counted; need not be whole, such as a sum of shares.
        total: Draws.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    share, weight = count / total, _Z**2 / total
    middle = (share + weight / 2) / (1 + weight)
    half = _Z / (1 + weight) * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    return Interval(share, min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share))


def change_of_share(before: np.ndarray, after: np.ndarray) -> Interval:
    """Change of a share on the same items, after minus before; never of width 0, as the bootstrap is where all agree.

    Args:
        before: Whether each item counted, [n].
        after: The same items later, [n].

    Source: Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10: the Wilson intervals of both shares, put
    together by the correlation of the pairs.
    """
    first, second, n = before.astype(bool), after.astype(bool), len(before)
    old, new = wilson(float(first.sum()), n), wilson(float(second.sum()), n)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    lost, won = int((first & ~second).sum()), int((~first & second).sum())
    product = (both + lost) * (won + neither) * (both + won) * (lost + neither)
    excess = float(both * neither - lost * won)
    if excess > 0:
        excess = max(excess - n / 2, 0.0)  # Newcombe's correction for continuity
    correlation = excess / math.sqrt(product) if product else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one * one - 2 * correlation * one * other + other * other, 0.0))

    change = new.value - old.value
    low = change - reach(new.value - new.low, old.high - old.value)
    high = change + reach(new.high - new.value, old.value - old.low)
    return Interval(change, low, high)


def _block_sums(*arrays: np.ndarray, most: int = _BLOCKS) -> np.ndarray:
    """Sums over contiguous blocks of windows, [arrays, blocks]: neighbours resemble each other, blocks less."""
    count = min(_BLOCKS, most, len(arrays[0]))
    edges = np.linspace(0, len(arrays[0]), count + 1).astype(int)
    return np.array([np.add.reduceat(array.astype(float), edges[:-1]) for array in arrays])


def _resample_blocks(statistic: Callable[[np.ndarray], np.ndarray], sums: np.ndarray, seed: int) -> Interval:
    """Bootstrap over blocks; ``statistic`` takes totals [arrays, draws] or [arrays]."""
    blocks = sums.shape[1]
    drawn = np.random.default_rng(seed).integers(0, blocks, size=(_DRAWS, blocks))
    low, high = np.percentile(statistic(sums[:, drawn].sum(-1)), [2.5, 97.5])
    return Interval(float(statistic(sums.sum(-1))), float(low), float(high))


_UNCLAIMED = Interval(math.nan, math.nan, math.nan)
"""Of a text that a tokenizer cannot write (see ``HeldOutLoss.counts_bytes``)."""


def bits_per_byte(loss: HeldOutLoss, seed: int = 0) -> Interval:
    """Held-out loss in bits per byte, resampling contiguous blocks of windows; NaN, here and below, where too much of
    the text is unknown to the tokenizer."""
    if not loss.counts_bytes:
        return _UNCLAIMED
    return _resample_blocks(lambda t: t[0] / math.log(2) / t[1], _block_sums(loss.nats, loss.bytes), seed)


def ratio_of_sums(values: np.ndarray, sizes: np.ndarray, seed: int = 0) -> Interval:
    """The sum of some values over the sum of their sizes, resampling contiguous blocks of items.

    Args:
        values: A number for each item, [n]; of two models a difference, which then is paired.
        sizes: What they are divided by, such as nats of a bit times bytes, [n].
        seed: Seed of the redraws.
    """
    return _resample_blocks(lambda t: t[0] / t[1], _block_sums(values, sizes), seed)


def _paired_sums(base: HeldOutLoss, tuned: HeldOutLoss) -> np.ndarray:
    """Nats and bytes of both models over the same blocks, [4, blocks].

    Two tokenizers give other windows, so blocks then hold about the same text, and each loss has its own bytes.
    """
    blocks = min(len(base.nats), len(tuned.nats))
    return np.concatenate([_block_sums(loss.nats, loss.bytes, most=blocks) for loss in (base, tuned)])


def gain_in_bits(base: HeldOutLoss, tuned: HeldOutLoss, seed: int = 0) -> Interval:
    """Bits per byte that the tuned model saves on the same text (paired); above 0 it is better."""
    if not (base.counts_bytes and tuned.counts_bytes):
        return _UNCLAIMED
    return _resample_blocks(lambda t: (t[0] / t[1] - t[2] / t[3]) / math.log(2), _paired_sums(base, tuned), seed)


def relative_rise(base: HeldOutLoss, tuned: HeldOutLoss, seed: int = 0) -> Interval:
    """Relative rise of the loss from base to tuned on the same text (paired); 0.05 is 5 % worse."""
    if not (base.counts_bytes and tuned.counts_bytes):
        return _UNCLAIMED
    return _resample_blocks(lambda t: t[2] / t[3] * t[1] / t[0] - 1, _paired_sums(base, tuned), seed)


def gain_over(
    target: tuple[HeldOutLoss, HeldOutLoss], general: tuple[HeldOutLoss, HeldOutLoss], seed: int = 0
) -> Interval:
    """How much more the tuned model gains on the target's text than on general text, in bits per byte.

    Args:
        target: Base and tuned loss on held-out text of the target.
        general: Base and tuned loss on general text.
        seed: Seed of the redraws.
    """
    if not all(loss.counts_bytes for loss in (*target, *general)):
        return _UNCLAIMED

    def gains(pair: tuple[HeldOutLoss, HeldOutLoss], generator: np.random.Generator) -> tuple[float, np.ndarray]:
        sums = _paired_sums(*pair)
        drawn = sums[:, generator.integers(0, sums.shape[1], size=(_DRAWS, sums.shape[1]))].sum(-1)
        total = sums.sum(-1)
        saved = [(t[0] / t[1] - t[2] / t[3]) / math.log(2) for t in (total, drawn)]
        return float(saved[0]), saved[1]

    generator = np.random.default_rng(seed)
    (target_gain, target_draws), (general_gain, general_draws) = gains(target, generator), gains(general, generator)
    low, high = np.percentile(target_draws - general_draws, [2.5, 97.5])
    return Interval(target_gain - general_gain, float(low), float(high))


def loss_blocks(base: HeldOutLoss, tuned: HeldOutLoss) -> dict[str, list[float]]:
    """Sums over contiguous blocks of windows, by which two models can be compared that are measured in other runs.

    Returns:
        ``base`` and ``tuned`` in nats, and ``bytes`` of text that the tuned model read, a number for each block;
        nothing where too much of the text is unknown.
    """
    if not (base.counts_bytes and tuned.counts_bytes):
        return {}
    before, _, after, num_bytes = _paired_sums(base, tuned).tolist()
    return {"base": before, "tuned": after, "bytes": num_bytes}


def difference_of_blocks(
    first: Mapping[str, Sequence[float]], second: Mapping[str, Sequence[float]], seed: int = 0
) -> Interval | None:
    """Bits per byte of one tuned model minus those of another on the same held-out text (paired).

    Args:
        first: What ``loss_blocks`` returned.
        second: The same of another model.
        seed: Seed of the redraws.

    Returns:
        The difference; ``None`` where the text or its windows were not the same, or no bits per byte are claimed.
    """
    if not first or not second or first["bytes"] != second["bytes"]:
        return None
    sums = np.array([first["tuned"], second["tuned"], first["bytes"]])
    return _resample_blocks(lambda t: (t[0] - t[1]) / math.log(2) / t[2], sums, seed)


def difference_of_items(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Interval | None:
    """Mean of one model's items minus that of another's on the same items (paired); ``None`` for other items."""
    if len(first) != len(second) or not first:
        return None
    return bootstrap(lambda items: items.mean(-1), np.subtract(first, second, dtype=float), seed=seed)


def mean_of_repeats(values: Sequence[float]) -> Interval:
    """Mean over repeats with other seeds and its 95 % interval by Student's t: what another seed would give.

    Args:
        values: One number for each repeat, two or more; differences of two arms give the paired interval.
    """
    from scipy.stats import t

    array = np.asarray(values, dtype=float)
    mean = float(array.mean())
    half = float(t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array)))
    return Interval(mean, mean - half, mean + half)
