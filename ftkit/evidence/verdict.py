"""The verdict: one main word and what stands beside it, decided by rules that can be read here.

Measures bring their findings; this file says in which order they speak. The numbers stand in
``ftkit.evidence.thresholds``; they are printed beside every verdict.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ftkit.evidence.document import Evidence
from ftkit.evidence.measure import STAGES, Case, Finding, Remark, Stage, Support
from ftkit.evidence.measures import all_measures
from ftkit.evidence.thresholds import Thresholds, limits_in_use
from ftkit.runs.notebook import html_table
from ftkit.training import MOST_UNKNOWN

__all__ = ["Verdict", "decide"]


@dataclass(frozen=True)
class Verdict:
    """The outcome for one model."""

    verdict: str
    """``worked``, ``copied``, ``broken``, ``nothing``, ``forgot`` or ``unsure``."""
    also: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    thresholds: dict[str, float] = field(default_factory=dict)
    decided_by: list[str] = field(default_factory=list)
    """The numbers that decided, each beside its threshold."""
    rule: str = ""
    """Which rule gave the main word: a stage of findings, ``unreadable``, ``no_change``, ``gain``, ``forgot`` or
    ``undecided``."""

    def as_dict(self) -> dict[str, Any]:
        """For ``verdict.json``."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """In a notebook: the words, what decided, and the reasons."""
        said = " + ".join([self.verdict, *self.also])
        reasons = [("reason", reason) for reason in self.reasons]
        return html_table(f"ftkit verdict: {said}", [("decided by", "; ".join(self.decided_by)), *reasons])


def decide(evidence: Evidence, limits: Thresholds | None = None) -> Verdict:
    """Turn evidence into a verdict. The first rule that holds gives the main word.

    1. ``unchanged``: no tensor changed, ``nothing``.
    2. ``fault``, a technical fault, ``broken``: values that are not finite, a saved folder with other logits, a wrong
       tokenizer, a frozen tensor that changed.
    3. ``unreadable``: the tokenizer cannot write the text, so neither what is learned nor what is written can be read.
    4. ``copied``, before ``damaged``: the repetition and low diversity of memorized text come from the training text,
       and the remedy is fewer epochs or more text. ``broken`` is then added to ``also``.
    5. ``too_little`` was measured, ``unsure``.
    6. ``damaged``: repetition, diversity or invented words beyond a margin, by their intervals, outside real text and
       worse than the base; word order that has become worthless. ``broken``.
    7. ``not_held_out``: the held-out text occurs in the training text, ``unsure``.
    8. ``no_change``: the whole interval of the gain lies near 0, ``nothing``.
    9. ``gain``: a sure gain, and every condition that a measure sets: ``worked``.
    10. ``forgot``: no sure gain, and a sure rise on general text. Beside every other word it stands in ``also``.
    11. ``undecided``: what is left, ``unsure``.

    Args:
        evidence: What was measured.
        limits: The numbers that decide; ``None`` takes the defaults.

    Returns:
        The verdict, its reasons and the numbers.
    """
    asked = _Asked(evidence, limits or Thresholds())
    limits, gain, found = asked.limits, evidence.heldout.gain, asked.findings
    forgot = asked.beside.get("forgot", [])
    also = list(asked.beside)
    learned, damaged = evidence.heldout.unclaimed or _learned(evidence), found["damaged"]
    damage_beside = [each.reason for each in damaged]

    def verdict(rule: str, word: str, reasons: list[str], by: list[str], beside: list[str]) -> Verdict:
        by = by + [number for word in beside for number in asked.beside.get(word, [])]
        return Verdict(word, beside, reasons + asked.said("always"), limits_in_use(limits), by, rule)

    def because(stage: Stage, more: list[str], beside: list[str], others: Sequence[Finding] = ()) -> Verdict:
        each = [*found[stage], *others]
        return verdict(stage, STAGES[stage], [f.reason for f in each] + more, [f.by for f in each], beside)

    if found["unchanged"]:
        return because("unchanged", asked.said("nothing"), [])
    if found["fault"]:
        return because("fault", [learned], also + (["copied"] if found["copied"] else []), damaged)
    if evidence.heldout.unclaimed:
        unknown = f"unknown_bytes {evidence.heldout.unknown_bytes:.3f} > {MOST_UNKNOWN}"
        return verdict("unreadable", "unsure", [learned, *asked.said("worked"), *asked.said("gain")], [unknown], also)
    if found["copied"]:
        return because("copied", [*damage_beside, learned], also + (["broken"] if damaged else []))
    if found["too_little"]:
        return because("too_little", [*damage_beside, learned, *asked.said("gain")], also)
    if damaged:
        return because("damaged", [learned], also)
    if found["not_held_out"]:
        return because("not_held_out", [learned, *asked.said("gain")], also)
    if -limits.nothing_gain < gain.low and gain.high < limits.nothing_gain:
        inside = f"no gain: its whole 95 % interval is within ±{limits.nothing_gain} bits per byte"
        within = f"gain [{gain.low:.4f}, {gain.high:.4f}] within nothing_gain ±{limits.nothing_gain}"
        return verdict("no_change", "nothing", [learned, inside, *asked.said("nothing")], [within], also)
    gained = gain.low > limits.worked_gain
    by = [f"gain.low {gain.low:.3f} {'>' if gained else '<='} worked_gain {limits.worked_gain}"]
    conditions = [reason for support in asked.supports for reason in support.reasons]
    decided = [number for support in asked.supports for number in support.by]
    if gained and all(support.holds for support in asked.supports):
        reasons = [learned, *conditions, *asked.said("worked"), *asked.said("gain")]
        return verdict("gain", "worked", reasons, by + decided, also)
    if forgot and not gained:
        others = [word for word in also if word != "forgot"]
        return verdict("forgot", "forgot", [*asked.said("gain"), learned], forgot + by, others)
    if not gained:
        small = f"the gain on held-out text is not clearly above {limits.worked_gain} bits per byte"
        conditions.insert(0, "the loss on held-out text rose" if gain.high < 0 else small)
    return verdict("undecided", "unsure", [learned, *conditions, *asked.said("gain")], by + decided, also)


class _Asked:
    """What every measure says of one model."""

    def __init__(self, evidence: Evidence, limits: Thresholds) -> None:
        self.evidence, self.limits = evidence, limits
        self.findings: dict[Stage, list[Finding]] = {stage: [] for stage in STAGES}
        self.supports: list[Support] = []
        self.beside: dict[str, list[str]] = {}
        self._remarks: list[Remark] = []
        if too_few := _too_few_windows(evidence, limits):
            self.findings["too_little"].append(too_few)
        case = Case(evidence, limits)
        for measure in all_measures():
            if (result := evidence.measures.get(measure.name)) is None:
                continue
            for finding in measure.findings(result, case):
                self.findings[finding.stage].append(finding)
            if support := measure.support(result, case):
                self.supports.append(support)
            for word, by in measure.beside(result, case).items():
                self.beside.setdefault(word, []).extend(by)
            self._remarks += measure.remarks(result, case)

    def said(self, when: str) -> list[str]:
        """Remarks of one kind; those that stand beside every verdict begin with what was assumed."""
        assumed = list(self.evidence.assumptions) if when == "always" else []
        return assumed + [remark.text for remark in self._remarks if remark.when == when]


def _too_few_windows(evidence: Evidence, limits: Thresholds) -> Finding | None:
    windows = evidence.heldout.windows
    if windows >= limits.min_windows:
        return None
    return Finding(
        "too_little",
        f"only {windows} held-out windows, {limits.min_windows} are needed: give more text, a larger heldout_share or "
        "a smaller window_tokens",
        f"heldout_windows {windows} < min_windows {limits.min_windows}",
    )


def _learned(evidence: Evidence) -> str:
    heldout = evidence.heldout
    return (
        f"loss on held-out text: {heldout.tuned.value:.3f} bits per byte (base model: {heldout.base.value:.3f}), "
        f"gain {heldout.gain}"
    )
