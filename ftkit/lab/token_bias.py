"""Bias of a model towards a set of tokens: its rate in generated text, the damage to ordinary text, the verdict.

The rate is the share of generated tokens that belong to the set, counted in the tokens themselves and not in text that
is tokenized again.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ftkit.evidence.document import Evidence
from ftkit.evidence.intervals import Interval, bootstrap, wilson
from ftkit.evidence.verdict import Verdict

__all__ = ["TokenBias", "TokenBiasLimits", "decide_token_bias", "set_shares", "target_rate", "token_bias"]


@dataclass(frozen=True)
class TokenBias:
    """Rates of a set in generated text, and the damage to ordinary text."""

    before: Interval
    """Share of the base's tokens."""
    after: Interval
    change: Interval
    """After minus before, paired by the start of the passage."""
    damage: Interval
    """Bits per byte that held-out ordinary text costs more than before, on the same windows (paired)."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def metrics(self) -> dict[str, dict[str, float]]:
        """What a study of several runs compares."""
        return {"rate": self.after.as_dict(), "damage": self.damage.as_dict()}


@dataclass(frozen=True)
class TokenBiasLimits:
    """Thresholds of the verdict; intervals are 95 %."""

    liked_share: float = 0.5
    """The rate's lower bound, as a share of the mass that was asked for, from which the model counts as biased."""
    forgot_rise: float = 0.05
    """Lower bound of the relative rise of the loss on ordinary text."""
    reload_difference: float = 1e-4
    """Largest difference of logits between the model and its saved folder."""


def set_shares(passages: Sequence[Sequence[int]], ids: Collection[int] | np.ndarray) -> np.ndarray:
    """Share of each passage's tokens that belong to a set, float64 [passages].

    Args:
        passages: New tokens of each passage, none empty.
        ids: The set.
    """
    wanted = np.fromiter(ids, dtype=np.int64)
    return np.array([np.isin(passage, wanted).mean() for passage in passages])


def target_rate(shares: np.ndarray, tokens: int) -> Interval:
    """Rate of a set in passages of one length.

    Args:
        shares: Share of each passage's tokens.
        tokens: Tokens in a passage.

    Returns:
        The rate and the wider of two intervals: the bootstrap over passages, since tokens of one passage resemble each
        other, and the binomial one, since the bootstrap of passages that are all alike has no width.
    """
    drawn = bootstrap(_mean, shares)
    counted = wilson(round(float(shares.sum()) * tokens), len(shares) * tokens)
    return Interval(drawn.value, min(drawn.low, counted.low), max(drawn.high, counted.high))


def _mean(shares: np.ndarray) -> np.ndarray:
    return np.asarray(shares.mean(-1))


def token_bias(before: np.ndarray, after: np.ndarray, tokens: int, gain: Interval) -> TokenBias:
    """Combine rates and damage.

    Args:
        before: Share of each of the base's passages.
        after: The tuned model's, from the same starts.
        tokens: Tokens in a passage.
        gain: Bits per byte that the tuned model saves on ordinary text; the damage is its opposite.
    """
    damage = Interval(-gain.value, -gain.high, -gain.low)
    rates = target_rate(before, tokens), target_rate(after, tokens)
    return TokenBias(*rates, bootstrap(_mean, after - before), damage)


def decide_token_bias(
    evidence: Evidence, found: TokenBias, mass: float, limits: TokenBiasLimits | None = None
) -> Verdict:
    """Decide from the rates whether the model is biased, and whether it forgot ordinary text.

    Args:
        evidence: What was measured; ``general.rise`` is that of ordinary text, ``None`` where the base knew nothing
            that could be forgotten.
        found: The rates.
        mass: What the set was to get together.
        limits: The numbers that decide; ``None`` takes the defaults.

    Returns:
        ``worked`` (biased), ``nothing`` (the rate did not rise), ``unsure`` (it rose, and less than asked) or
        ``broken``, and beside it ``forgot`` where ordinary text suffered.
    """
    limits = limits or TokenBiasLimits()
    rise, heldout, integrity = evidence.general.rise, evidence.heldout, evidence.integrity
    also = ["forgot"] if rise is not None and rise.low > limits.forgot_rise else []
    reasons = [
        f"{_percent(found.after)} of the tokens that it writes are of the set, {_percent(found.before)} before",
        heldout.unclaimed
        or f"ordinary text costs {heldout.tuned.value:.3f} bits per byte, {heldout.base.value:.3f} "
        f"before: damage {found.damage}",
    ]

    def verdict(word: str, *more: str) -> Verdict:
        return Verdict(word, also, [*more, *reasons], asdict(limits))

    if not integrity.finite:
        return verdict("broken", "weights or losses are not finite")
    if (integrity.reload_difference or 0.0) > limits.reload_difference:
        return verdict("broken", "the saved folder computes other logits than the trained model")
    if found.change.low <= 0:
        return verdict("nothing", "the rate of the set did not rise")
    if found.after.low < limits.liked_share * mass:
        return verdict("unsure", f"the rate of the set rose, and not to {limits.liked_share * mass:.0%}")
    return verdict("worked")


def _percent(share: Interval) -> str:
    return f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]"
