"""The gate that a judge must pass before it is used: its predictions on held-out passages whose class is known.

Three questions decide. Does it separate the target from other real text, and from corrupted text of the target? From
other real text also where names are masked, since style must not rest on who appears in the story? Does a control that
learned the wrong labels fail, so that passing means something? Agreement of two seeds, calibration and log-loss are
reported: distances are taken at a fitted temperature and need no threshold of a probability.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import regex
from sklearn.metrics import log_loss, roc_auc_score

from ftkit.evidence.classification import calibration_error
from ftkit.evidence.judges import BASE, CORRUPTED, MIN_PASSAGES, Judge, authors_of
from ftkit.evidence.texts import spread_evenly

__all__ = ["Gate", "gate", "mask_names"]

MIN_AUC = 0.95
"""A starting value; the judges of all recorded runs on real books were tested with it."""
MIN_AUC_MASKED = 0.9
"""Lower, because masking removes information from every judge."""
_TINY = 1e-30
"""Probability below which a logarithm would not be finite."""
_CONTROL_PASSAGES = 200
"""Passages of a class that second opinions and the control learn at most: it keeps a gate to seconds."""
_SHORTEST = 0.8
"""Of the median held-out passage: a shorter passage is left out of a score."""


@dataclass(frozen=True)
class Gate:
    """How well a judge tells held-out passages apart, and whether that is enough to speak."""

    auc: dict[str, float]
    """Area under the ROC curve, each class against the rest, by the probability of the class."""
    auc_names_masked: dict[str, float]
    """Lowest AUC of each target against another author with names replaced; empty where there is no other author."""
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
    auc_pairs: dict[str, dict[str, float]] = field(default_factory=dict)
    """AUC of each target against each other class, by the log-odds of the two."""


_NAME = regex.compile(r"(?<=[\p{Ll}\p{M},;:] )(?:\p{Lu}[\w\p{M}’']+)(?: \p{Lu}[\w\p{M}’']+)*")


def mask_names(passage: str) -> str:
    """Replace capitalised words inside sentences, which are names or titles, by one placeholder; a script without
    capitals has none."""
    return str(_NAME.sub("Someone", passage))


def gate(
    judge: Judge,
    heldout: Mapping[str, Sequence[str]],
    targets: Sequence[str],
    min_auc: float = MIN_AUC,
    *,
    train: dict[str, list[str]] | None = None,
    twin: Judge | None = None,
    probabilities: np.ndarray | None = None,
) -> Gate:
    """Test a judge on held-out passages.

    Args:
        judge: The judge.
        heldout: Held-out passages of every class.
        targets: The classes whose style is judged; each must reach ``min_auc`` against all but the base model.
        min_auc: The minimum.
        train: What the judge learned, for the second seed and the control; ``None`` asks neither.
        twin: The judge again, trained with another seed; ``None`` trains two quick ones, each on its own half of
            ``train``.
        probabilities: What the judge says of the held-out passages, in the order of its classes, where that is known.

    Returns:
        The figures, and whether the judge passed.
    """
    passages = [passage for name in judge.classes for passage in heldout[name]]
    truth = np.array([number for number, name in enumerate(judge.classes) for _ in heldout[name]])
    plain = judge.probabilities(passages) if probabilities is None else probabilities
    masked = judge.probabilities([mask_names(passage) for passage in passages])
    pairs = {name: _pairs(judge, plain, truth, name) for name in targets}
    without_names = {name: _lowest(_pairs(judge, masked, truth, name), authors_of(judge.classes)) for name in targets}
    auc_masked = {name: lowest for name, lowest in without_names.items() if lowest is not None}
    agreement, between, swapped = None, "", None
    if train is not None:
        pair, between = _pair(judge, train, twin)
        first, second = (one.probabilities(passages).argmax(1) for one in pair)
        wanted = [place for place, name in enumerate(judge.classes) if name in targets]
        first, second = (np.where(np.isin(said, wanted), said, -1) for said in (first, second))
        agreement = float((first == second).mean())
        control = judge.relearn(_swapped(judge.classes, train), 0)
        swapped = max(_aucs(control, control.probabilities(passages), truth)[name] for name in targets)
    counts = {name: len(heldout[name]) for name in judge.classes}
    few = [f"{name} ({counts[name]})" for name in judge.classes if counts[name] < MIN_PASSAGES]
    failed = [f"fewer than {MIN_PASSAGES} held-out passages of {', '.join(few)}"] if few else []
    failed += _not_separated(pairs, auc_masked, min_auc)
    if swapped is not None and swapped >= min_auc:
        failed.append(f"a control trained on swapped labels passes too (AUC {swapped:.3f})")
    targeted = [passage for name in targets for passage in heldout[name]]
    return Gate(
        _aucs(judge, plain, truth), auc_masked, float((plain.argmax(1) == truth).mean()), counts, not failed,
        "; ".join(failed) or _passed(pairs),
        agreement=agreement, agreement_between=between,
        calibration_error=float(calibration_error(plain.max(1), plain.argmax(1) == truth)),
        log_loss=float(log_loss(truth, plain, labels=range(len(judge.classes)))), swapped_auc=swapped,
        length=int(_SHORTEST * np.median(judge.lengths(targeted))) if targeted else 0, unit=judge.unit, auc_pairs=pairs,
    )  # fmt: skip


def _not_separated(
    pairs: Mapping[str, Mapping[str, float]], masked: Mapping[str, float], min_auc: float
) -> Iterator[str]:
    """Which pairs of classes the judge does not separate."""
    for target, others in pairs.items():
        if low := [f"{name} ({auc:.3f})" for name, auc in others.items() if name != BASE and not auc >= min_auc]:
            yield f"AUC of real {target} text below {min_auc} against {', '.join(low)}"
    if low := [f"{name} ({auc:.3f})" for name, auc in masked.items() if not auc >= MIN_AUC_MASKED]:
        yield f"AUC against other real text, names masked, below {MIN_AUC_MASKED}: {', '.join(low)}"


def _passed(pairs: Mapping[str, Mapping[str, float]]) -> str:
    """Lowest AUCs of all targets, against other real text and against corrupted text."""
    found = []
    for kind in ("other real text", "corrupted text"):
        lowest = [
            auc
            for others in pairs.values()
            for name, auc in others.items()
            if name != BASE and (name in CORRUPTED) == (kind == "corrupted text")
        ]
        if lowest:
            found.append(f"against {kind} at least {min(lowest):.3f}")
    return f"AUC of the target {', '.join(found)}" if found else "nothing but the base model to compare with"


def _pairs(judge: Judge, probabilities: np.ndarray, truth: np.ndarray, target: str) -> dict[str, float]:
    """AUC of a target's passages against those of each other class, by the log-odds of the two classes."""
    logs, place = np.log(np.maximum(probabilities, _TINY)), judge.classes.index(target)
    found = {}
    for number, name in enumerate(judge.classes):
        both = np.isin(truth, (place, number))
        if number != place and len(np.unique(truth[both])) == 2:
            found[name] = float(roc_auc_score(truth[both] == place, logs[both, place] - logs[both, number]))
    return found


def _lowest(aucs: Mapping[str, float], names: Collection[str]) -> float | None:
    return min((auc for name, auc in aucs.items() if name in names), default=None)


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
