"""The gate that a judge must pass before its scores are used: its predictions on real text whose author is known.

Five questions. Does it tell held-out passages apart? Also where names are masked, since style must not rest on who
appears in the story? Do two that learned different halves of the passages agree? Is it as sure as it is right? And does
a control that learned the wrong labels fail, so that passing means something?
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import regex
from sklearn.metrics import log_loss, roc_auc_score

from ftkit.evidence.classification import calibration_error
from ftkit.evidence.judges import MIN_PASSAGES, Judge
from ftkit.evidence.texts import spread_evenly

__all__ = ["Gate", "gate", "mask_names"]

MIN_AUC = 0.95
"""A starting value; the judges of all recorded runs on real books were tested with it."""
MIN_AUC_MASKED = 0.9
"""Lower, because masking takes information away from every judge."""
MIN_AGREEMENT = 0.7
"""Lower than the judge's own: each of the two has learned half as much."""
MAX_CALIBRATION_ERROR = 0.2
"""A starting value; the judges of all recorded runs on real books were tested with it."""
MAX_LOG_LOSS = 0.9
"""Share of ln(classes): above it every probability is near chance, and a score between floor and ceiling is noise."""
_CONTROL_PASSAGES = 400
"""Passages of a class that second opinions and the control learn at most: it keeps a gate to seconds."""
_SHORTEST = 0.8
"""Of the median held-out passage: a shorter passage is left out of a score."""


@dataclass(frozen=True)
class Gate:
    """How well a judge tells held-out passages apart, and whether that is enough to speak."""

    auc: dict[str, float]
    """Area under the ROC curve, each class against the rest."""
    auc_names_masked: dict[str, float]
    """The same with names replaced: style must not rest on who appears in the story."""
    accuracy: float
    passages: dict[str, int]
    speaks: bool
    reason: str
    agreement: float | None = None
    """Share of held-out passages that two seeds give to one target, or both to none; ``None`` where not asked."""
    agreement_between: str = ""
    """What the two seeds are."""
    calibration_error: float | None = None
    """Expected calibration error: mean gap between confidence and accuracy; 0 is best."""
    log_loss: float | None = None
    """Nats per held-out passage; a uniform prediction has ln(classes)."""
    swapped_auc: float | None = None
    """The best AUC of a target by a control that learned swapped labels; it must fail."""
    length: int = 0
    """Shortest passage that is scored, in ``unit``; 0 where lengths are not known."""
    unit: str = ""


_NAME = regex.compile(r"(?<=[\p{Ll}\p{M},;:] )(?:\p{Lu}[\w\p{M}’']+)(?: \p{Lu}[\w\p{M}’']+)*")


def mask_names(passage: str) -> str:
    """Replace capitalised words inside sentences, which are names or titles, by one placeholder; a script without
    capitals has none."""
    return str(_NAME.sub("Someone", passage))


def gate(
    judge: Judge,
    heldout: dict[str, list[str]],
    targets: Sequence[str],
    min_auc: float = MIN_AUC,
    *,
    train: dict[str, list[str]] | None = None,
    twin: Judge | None = None,
) -> Gate:
    """Test a judge on held-out passages.

    Args:
        judge: The judge.
        heldout: Held-out passages of every class.
        targets: The classes whose scores will be used; each must reach ``min_auc``.
        min_auc: The bar.
        train: What the judge learned, for the second seed and the control; ``None`` asks neither.
        twin: The judge again, trained with another seed; ``None`` trains two quick ones, each on its own half of
            ``train``.

    Returns:
        The figures, and whether the judge passed.
    """
    passages = [passage for name in judge.classes for passage in heldout[name]]
    truth = np.array([number for number, name in enumerate(judge.classes) for _ in heldout[name]])
    plain = judge.probabilities(passages)
    auc = _aucs(judge, plain, truth)
    masked = _aucs(judge, judge.probabilities([mask_names(passage) for passage in passages]), truth)
    agreement, between, swapped = None, "", None
    if train is not None:
        pair, between = _pair(judge, train, twin)
        first, second = (one.probabilities(passages).argmax(1) for one in pair)
        wanted = [place for place, name in enumerate(judge.classes) if name in targets]
        first, second = (np.where(np.isin(said, wanted), said, -1) for said in (first, second))
        agreement = float((first == second).mean())
        control = judge.relearn(_swapped(judge.classes, train), 0)
        swapped = max(_aucs(control, control.probabilities(passages), truth)[name] for name in targets)
    loss = float(log_loss(truth, plain, labels=range(len(judge.classes))))
    nothing_known = math.log(len(judge.classes))
    error = float(calibration_error(plain.max(1), plain.argmax(1) == truth))
    counts = {name: len(heldout[name]) for name in judge.classes}
    few = [f"{name} ({counts[name]})" for name in judge.classes if counts[name] < MIN_PASSAGES]
    failed = [f"fewer than {MIN_PASSAGES} held-out passages of {', '.join(few)}"] if few else []
    for found, least, which in ((auc, min_auc, ""), (masked, MIN_AUC_MASKED, ", names masked,")):
        if low := [f"{name} ({found[name]:.3f})" for name in targets if found[name] < least]:
            failed.append(f"AUC on held-out passages{which} below {least}: {', '.join(low)}")
    if agreement is not None and agreement < MIN_AGREEMENT:
        failed.append(f"{between} agree on {agreement:.0%} of held-out passages, {MIN_AGREEMENT:.0%} are needed")
    if error > MAX_CALIBRATION_ERROR:
        bar = f"calibration error {error:.2f}, at most {MAX_CALIBRATION_ERROR}"
        failed.append(f"poorly calibrated: {bar}")
    if loss > MAX_LOG_LOSS * nothing_known:
        failed.append(f"log-loss near a uniform prediction's: {loss:.3f} nats per passage, uniform {nothing_known:.3f}")
    if swapped is not None and swapped >= min_auc:
        failed.append(f"a control trained on swapped labels passes too (AUC {swapped:.3f})")
    reason = "; ".join(failed) or f"AUC on held-out passages at least {min(auc[name] for name in targets):.3f}"
    targeted = [passage for name in targets for passage in heldout[name]]
    return Gate(
        auc, masked, float((plain.argmax(1) == truth).mean()), counts, not failed, reason,
        agreement=agreement, agreement_between=between, calibration_error=error,
        log_loss=loss, swapped_auc=swapped,
        length=int(_SHORTEST * np.median(judge.lengths(targeted))) if targeted else 0, unit=judge.unit,
    )  # fmt: skip


def _aucs(judge: Judge, probabilities: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Each class against the rest."""
    return {
        name: float(roc_auc_score(truth == number, probabilities[:, number]))
        for number, name in enumerate(judge.classes)
    }


def _pair(judge: Judge, train: dict[str, list[str]], twin: Judge | None) -> tuple[tuple[Judge, Judge], str]:
    """Two judges that differ in their seed, and what they are."""
    if twin is not None:
        return (judge, twin), "two judges trained with other seeds"
    halves = []
    for seed in range(2):
        mine = {name: spread_evenly(group, _CONTROL_PASSAGES)[seed::2] or group for name, group in train.items()}
        halves.append(judge.relearn(mine, seed))
    what = "heads on the frozen encoder" if judge.unit == "tokens" else "judges"
    return (halves[0], halves[1]), f"two {what} trained on one half of the passages each"


def _swapped(classes: Sequence[str], train: dict[str, list[str]]) -> dict[str, list[str]]:
    """Every class with the passages of the next: what a control learns."""
    following = (*classes[1:], classes[0])
    return {
        name: spread_evenly(train[other], _CONTROL_PASSAGES) for name, other in zip(classes, following, strict=True)
    }
