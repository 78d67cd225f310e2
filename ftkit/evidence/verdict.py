"""The verdict: one main word and what stands beside it, decided by rules that can be read here.

Measures bring their findings; this file says in which order they speak. The numbers stand in
``ftkit.evidence.thresholds``; they are printed beside every verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ftkit.evidence.document import Evidence
from ftkit.evidence.measure import STAGES, Case, Finding, OpenRule, Remark, Stage, Support
from ftkit.evidence.measures import all_measures
from ftkit.evidence.thresholds import Thresholds, limits_in_use
from ftkit.runs.notebook import html_table
from ftkit.training import MOST_UNKNOWN

__all__ = ["Verdict", "decide"]


@dataclass(frozen=True)
class Verdict:
    """The outcome for one model."""

    verdict: str
    """``worked``, ``worse``, ``copied``, ``broken``, ``nothing`` or ``unsure``."""
    also: list[str] = field(default_factory=list)
    """Words beside it, such as ``forgot``."""
    reasons: list[str] = field(default_factory=list)
    thresholds: dict[str, float] = field(default_factory=dict)
    decided_by: list[str] = field(default_factory=list)
    """The numbers that decided, each beside its threshold."""
    rule: str = ""
    """Which rule gave the main word: a stage of findings, ``unreadable``, ``no_change``, ``worse``, ``gain``,
    ``no_language`` or ``undecided``."""
    passages: int = 0
    """Passages of each model that it rests on."""
    open: list[str] = field(default_factory=list)
    """Rules that could change the main word and are not decided by these passages."""

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

    1. ``fault``, a technical fault, ``broken``: values that are not finite, a saved folder with other logits, a wrong
       tokenizer, a frozen tensor that changed.
    2. ``unchanged``: no tensor changed, ``nothing``.
    3. ``unreadable``, ``unsure``: the tokenizer cannot write the text, so neither what is learned nor what is written
       can be read.
    4. ``copied``, before ``damaged``: the repetition and low diversity of memorized text come from the training text,
       and the remedy is fewer epochs or more text. ``broken`` is then added to ``also``.
    5. ``damaged``: language, repetition or diversity, by their intervals, worse than the base and than real text; word
       order that has become worthless. ``broken``; with a sure gain ``no_language``, ``unsure``: it learned the words.
    6. ``not_held_out``: the held-out text occurs in the training text, ``unsure``.
    7. ``too_little`` held-out text was measured, ``unsure``.
    8. ``no_change``: gain and general loss lie near 0, and no judge sees a change, ``nothing``.
    9. ``worse``: a sure loss on the held-out text of the target.
    10. ``gain``: a sure gain, and every condition that a measure sets: ``worked``.
    11. ``undecided``: what is left, ``unsure``.

    Args:
        evidence: What was measured.
        limits: The numbers that decide; ``None`` takes the defaults.

    Returns:
        The verdict, its reasons and the numbers.
    """
    asked = _Asked(evidence, limits or Thresholds())
    limits, gain, found = asked.limits, evidence.heldout.gain, asked.findings
    learned, damaged = evidence.heldout.unclaimed or _learned(evidence), found["damaged"]
    gained = gain.low > limits.worked_gain
    by = [f"gain.low {gain.low:z.3f} {'>' if gained else '<='} worked_gain {limits.worked_gain}"]

    def because(stage: Stage, more: list[str], others: Sequence[Finding] = (), word: str = "") -> Verdict:
        each = [*found[stage], *others]
        return asked.verdict(stage, STAGES[stage], [f.reason for f in each] + more, [f.by for f in each], word)

    if found["fault"]:
        return because("fault", [learned], damaged, "copied" if found["copied"] else "")
    if found["unchanged"]:
        return because("unchanged", asked.said("nothing"))
    if evidence.heldout.unclaimed:
        unknown = f"unknown_bytes {evidence.heldout.unknown_bytes:.3f} > {MOST_UNKNOWN}"
        reasons = [learned, *asked.said("worked"), *asked.said("gain")]
        return asked.verdict("unreadable", "unsure", reasons, [unknown])
    if found["copied"]:
        beside = [each.reason for each in damaged]
        return because("copied", [*beside, learned], word="broken" if damaged else "")
    if damaged and not gained:
        return because("damaged", [learned])
    for stage in ("not_held_out", "too_little"):
        if found[stage]:
            return because(stage, [*(each.reason for each in damaged), learned, *asked.said("gain")])
    if damaged:
        reasons = [learned, *(each.reason for each in damaged), *asked.said("gain")]
        return asked.verdict("no_language", "unsure", reasons, by + [each.by for each in damaged])
    if -limits.nothing_gain < gain.low and gain.high < limits.nothing_gain and not asked.changes:
        inside = f"no gain: its whole 95 % interval is within ±{limits.nothing_gain} bits per byte"
        within = f"gain [{gain.low:z.4f}, {gain.high:z.4f}] within nothing_gain ±{limits.nothing_gain}"
        return asked.verdict("no_change", "nothing", [learned, inside, *asked.said("nothing")], [within])
    conditions = [reason for support in asked.supports for reason in support.reasons]
    decided = [number for support in asked.supports for number in support.by]
    if gained and all(support.holds for support in asked.supports):
        reasons = [learned, *conditions, *asked.said("worked"), *asked.said("gain")]
        return asked.verdict("gain", "worked", reasons, by + decided)
    if gain.high < -limits.worked_gain:
        reasons = ["the loss on held-out text of its own target rose", learned, *asked.said("gain")]
        return asked.verdict(
            "worse", "worse", reasons, [f"gain.high {gain.high:z.3f} < -worked_gain {limits.worked_gain}"]
        )
    if not gained:
        conditions.insert(0, f"the gain on held-out text is not clearly above {limits.worked_gain} bits per byte")
    return asked.verdict("undecided", "unsure", [learned, *conditions, *asked.said("gain")], by + decided)


_ASKED_BEFORE: Mapping[str, Sequence[str]] = {
    "fault": (),
    "unchanged": (),
    "unreadable": (),
    "copied": (),
    "damaged": ("copied",),
    "not_held_out": ("copied",),
    "too_little": ("copied",),
    "no_language": ("copied",),
    "no_change": ("copied", "damaged"),
    "worse": ("copied", "damaged"),
    "gain": ("copied", "damaged", "worked"),
    "undecided": ("copied", "damaged", "worked"),
}
"""Stages of open rules that could still give another main word, by the rule that gave it."""


class _Asked:
    """What every measure says of one model."""

    def __init__(self, evidence: Evidence, limits: Thresholds) -> None:
        self.evidence, self.limits = evidence, limits
        self.findings: dict[Stage, list[Finding]] = {stage: [] for stage in STAGES}
        self.supports: list[Support] = []
        self.open: list[OpenRule] = []
        self.beside: dict[str, list[str]] = {}
        self._remarks: list[Remark] = []
        if too_few := _too_few_windows(evidence, limits):
            self.findings["too_little"].append(too_few)
        if 0 < evidence.passages < limits.min_passages:
            self.supports.append(_too_few_passages(evidence.passages, limits.min_passages))
        case = Case(evidence, limits)
        for measure in all_measures():
            if (result := evidence.measures.get(measure.name)) is None:
                continue
            for finding in measure.findings(result, case):
                self.findings[finding.stage].append(finding)
            if support := measure.support(result, case):
                self.supports.append(support)
            self.open += measure.open_rules(result, case)
            for word, by in measure.beside(result, case).items():
                self.beside.setdefault(word, []).extend(by)
            self._remarks += measure.remarks(result, case)

    @property
    def changes(self) -> bool:
        """Whether a measure saw a change that a model without a gain would not show."""
        return "forgot" in self.beside or any(support.change for support in self.supports)

    def said(self, when: str) -> list[str]:
        """Remarks of one kind; those that stand beside every verdict begin with what was assumed."""
        assumed = list(self.evidence.assumptions) if when == "always" else []
        return assumed + [remark.text for remark in self._remarks if remark.when == when]

    def verdict(self, rule: str, word: str, reasons: list[str], by: list[str], more: str = "") -> Verdict:
        """A verdict with the words beside it, and with the rules that are open."""
        also = [] if rule == "unchanged" else [*self.beside, *([more] if more else [])]
        by = by + [number for beside in also for number in self.beside.get(beside, [])]
        return Verdict(
            word, also, reasons + self.said("always"), limits_in_use(self.limits), by, rule,
            self.evidence.passages, self._undecided(rule),
        )  # fmt: skip

    def _undecided(self, rule: str) -> list[str]:
        """Open rules that could change the word. Where the gain is not sure, no condition of ``worked`` matters, and
        where one of them fails, the others do not."""
        stages = list(_ASKED_BEFORE[rule])
        hopeless = self.evidence.heldout.gain.low <= self.limits.worked_gain or any(
            not support.holds and not support.open for support in self.supports
        )
        if hopeless and "worked" in stages:
            stages.remove("worked")
        return [each.name for each in self.open if each.stage in stages]


def _too_few_windows(evidence: Evidence, limits: Thresholds) -> Finding | None:
    windows = evidence.heldout.windows
    if windows >= limits.min_windows:
        return None
    return Finding(
        "too_little",
        f"only {windows} held-out {evidence.heldout.rows}, {limits.min_windows} are needed: give more of them, or a "
        f"larger heldout_share{' or a smaller window_tokens' if evidence.heldout.rows == 'windows' else ''}",
        f"heldout_windows {windows} < min_windows {limits.min_windows}",
    )


def _too_few_passages(found: int, needed: int) -> Support:
    few = f"only {found} passages of each model were written, {needed} are needed (num_passages)"
    return Support(False, [few], [f"passages {found} < min_passages {needed}"])


def _learned(evidence: Evidence) -> str:
    heldout = evidence.heldout
    text = "text" if heldout.rows == "windows" else "completions"
    gain = heldout.gain
    change = f"gain {gain}" if gain.high >= 0 else f"worse by {gain.negated()}"
    return (
        f"loss on held-out {text}: {heldout.tuned.value:.3f} bits per byte (base model: {heldout.base.value:.3f}), "
        f"{change}"
    )
