"""The verdict: one main word and what stands beside it, decided by rules that can be read here.

The numbers stand in ``ftkit.evidence.thresholds``; they are printed beside every verdict.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from ftkit.evidence.copying import Copying
from ftkit.evidence.measured import Evidence
from ftkit.evidence.stillness import why_nothing
from ftkit.evidence.style import disagreement
from ftkit.evidence.thresholds import Thresholds
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

    def as_dict(self) -> dict[str, Any]:
        """For ``verdict.json``."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """In a notebook: the words, what decided, and the reasons."""
        said = " + ".join([self.verdict, *self.also])
        reasons = [("reason", reason) for reason in self.reasons]
        return html_table(f"ftkit verdict: {said}", [("decided by", "; ".join(self.decided_by)), *reasons])


@dataclass(frozen=True)
class _Finding:
    """One rule that holds."""

    reason: str
    by: str
    """The number that decided, beside its threshold."""


def _faults(evidence: Evidence, limits: Thresholds) -> list[_Finding]:
    """What is broken whatever the model writes."""
    found = []
    if not evidence.finite:
        found.append(_Finding("weights or losses are not finite", "not finite"))
    misfit = evidence.tokenizer_misfit
    if misfit is not None and misfit.low > limits.tokenizer_misfit:
        found.append(
            _Finding(
                "its tokenizer is not the one that it learnt with: with the base's it would save "
                f"{misfit} bits per byte",
                f"tokenizer_misfit.low {misfit.low:.3f} > {limits.tokenizer_misfit}",
            )
        )
    if evidence.reload_difference is not None and evidence.reload_difference > limits.reload_difference:
        difference = f"{evidence.reload_difference:.2g}"
        found.append(
            _Finding(
                f"the saved folder computes other logits than the trained model (difference {difference})",
                f"reload_difference {difference} > {limits.reload_difference}",
            )
        )
    if leaks := evidence.movement.leaks:
        named = ", ".join(leaks[:4])
        found.append(_Finding(f"{len(leaks)} frozen tensors changed all the same: {named}", f"leaks {len(leaks)} > 0"))
    return found


def _disordered(evidence: Evidence, limits: Thresholds) -> list[_Finding]:
    """Whether it knows words and no sentences."""
    order = evidence.order
    if order is None or order.base < limits.min_word_order or order.kept.high >= limits.word_order:
        return []
    return [
        _Finding(
            f"it reads words, not sentences: the order of the words saves it {order.tuned:.3f} bits per byte of "
            f"held-out text, its base {order.base:.3f}",
            f"word order kept.high {order.kept.high:.3f} < word_order {limits.word_order}",
        )
    ]


def _damaged(evidence: Evidence, limits: Thresholds) -> list[_Finding]:
    """What is broken in its language, beside real text and the base's."""
    base, tuned, real = evidence.fluency_base, evidence.fluency_tuned, evidence.fluency_real
    damage, found = evidence.damage, _disordered(evidence, limits)
    if base is None or tuned is None or real is None or damage is None:
        return found
    if damage.repetition.low > limits.repetition_excess:
        found.append(
            _Finding(
                f"it repeats itself: {tuned.repetition:.0%} of its word 3-grams occurred before in the passage, "
                f"{real.repetition:.0%} in real text, {base.repetition:.0%} in the base's text",
                f"damage repetition.low {damage.repetition.low:.3f} > repetition_excess {limits.repetition_excess}",
            )
        )
    if damage.diversity.low > limits.diversity_loss:
        found.append(
            _Finding(
                f"low lexical diversity: {tuned.diversity:.2f} different words per word, {real.diversity:.2f} in real "
                f"text, {base.diversity:.2f} in the base's text",
                f"damage diversity.low {damage.diversity.low:.3f} > diversity_loss {limits.diversity_loss}",
            )
        )
    if evidence.gain.high < 0 and damage.unknown_words.low > limits.invented_words:
        found.append(
            _Finding(
                f"it invents words: {tuned.unknown_words:.0%} of its words occur in no text, "
                f"{base.unknown_words:.0%} of the base's, and its loss on held-out text rose",
                f"damage unknown_words.low {damage.unknown_words.low:.3f} > invented_words {limits.invented_words}",
            )
        )
    return found


def _copied(evidence: Evidence, limits: Thresholds) -> list[_Finding]:
    """What makes the model a copy."""
    if (copy := evidence.copying) is None:
        return []
    found = []
    if copy.excess.low > limits.copied_excess:
        found.append(
            _Finding(
                f"{copy.rate.value:.1%} of its word {copy.ngram}-grams stand in the training text, "
                f"{copy.heldout_rate.value:.1%} of real held-out text's",
                f"copying excess.low {copy.excess.low:.3f} > copied_excess {limits.copied_excess}",
            )
        )
    if copy.longest_run > (most := max(limits.copied_run, copy.heldout_longest_run)):
        found.append(
            _Finding(
                f"it repeats {copy.longest_run} words of the training text in a row; the longest such run in held-out "
                f"text has {copy.heldout_longest_run}",
                f"longest_run {copy.longest_run} > {most} (copied_run {limits.copied_run} and held-out text)",
            )
        )
    return found


def _too_little(evidence: Evidence, limits: Thresholds) -> list[_Finding]:
    """What was measured too little to carry a verdict, each with what would help."""
    found = []
    if evidence.heldout_windows < limits.min_windows:
        found.append(
            _Finding(
                f"only {evidence.heldout_windows} held-out windows, {limits.min_windows} are needed: give more text, a "
                "larger heldout_share or a smaller window_tokens",
                f"heldout_windows {evidence.heldout_windows} < min_windows {limits.min_windows}",
            )
        )
    if (copy := evidence.copying) is None:
        return found
    if copy.ngrams_per_passage < limits.min_ngrams:
        found.append(
            _Finding(
                f"copying could not be measured: a passage has {copy.ngrams_per_passage:.1f} {copy.ngram}-grams on "
                "average; set a larger passage_chars",
                f"ngrams_per_passage {copy.ngrams_per_passage:.1f} < min_ngrams {limits.min_ngrams}",
            )
        )
    return found


def _not_held_out(evidence: Evidence, limits: Thresholds) -> list[_Finding]:
    """Whether the held-out text occurs in training text."""
    if (copy := evidence.copying) is None or copy.heldout_rate.value <= limits.seen_heldout:
        return []
    return [
        _Finding(
            f"{copy.heldout_rate.value:.0%} of the held-out text's {copy.ngram}-grams occur in training text, its "
            "own or the base's: it is not held out; remove what occurs in both",
            f"copying heldout_rate {copy.heldout_rate.value:.3f} > seen_heldout {limits.seen_heldout}",
        )
    ]


def _not_copied(copy: Copying | None) -> list[str]:
    if copy is None:
        return []
    return [
        f"not copied: {copy.rate.value:.1%} of its word {copy.ngram}-grams stand in the training text (real held-out "
        f"text: {copy.heldout_rate.value:.1%}), longest run {copy.longest_run} words"
    ]


def _style(evidence: Evidence, limits: Thresholds) -> tuple[bool, list[str], list[str]]:
    """Whether the style criterion holds, why, and the numbers that decided."""
    reasons, by, holds = [], [], True
    if (over := evidence.gain_over_general) is not None:
        holds = over.low > 0
        doubt = "" if holds else ", which does not show a style of its own"
        reasons.append(f"it gains {over} bits per byte more on the target than on {evidence.general_name}{doubt}")
        by.append(f"gain_over_general.low {over.low:.3f} {'>' if holds else '<='} 0")
    else:
        why = "no general text was given"
        if evidence.general_unknown > MOST_UNKNOWN:
            why = f"the tokenizer cannot write {evidence.general_unknown:.0%} of {evidence.general_name}"
        reasons.append(f"{why}, so neither a style of its own nor forgetting was asked")
    speaking = [style for style in evidence.styles if style.speaks]
    for style in speaking:
        enough = style.position.low >= limits.style_position
        holds = holds and enough
        reasons.append(
            f"judge {style.judge}: {style.score.value:.2f} between floor {style.floor.value:.2f} and ceiling "
            f"{style.ceiling.value:.2f}, position {style.position}"
            + ("" if enough else f"; the lower bound is below {limits.style_position}")
        )
        compared = ">=" if enough else "<"
        by.append(
            f"{style.judge} position.low {style.position.low:.3f} {compared} style_position {limits.style_position}"
        )
    if opposite := disagreement(evidence.styles):
        holds = False
        reasons.append(opposite)
        by.append("judges disagree in order")
    reasons += [f"judge {style.judge} does not speak: {style.reason}" for style in evidence.styles if not style.speaks]
    if evidence.styles and not speaking:
        reasons.append("no judge speaks, so the style rests on held-out loss alone")
    return holds, reasons, by


def _forgetting(evidence: Evidence) -> list[str]:
    if (rise := evidence.general_rise) is None:
        return []
    return [f"loss on {evidence.general_name} changed by {rise.value:+.1%} [{rise.low:+.1%}, {rise.high:+.1%}]"]


def _learnt(evidence: Evidence) -> str:
    return (
        f"held-out text costs {evidence.heldout_tuned.value:.3f} bits per byte, the base model needs "
        f"{evidence.heldout_base.value:.3f}: gain {evidence.gain}"
    )


def _context(evidence: Evidence) -> list[str]:
    """What a reader should know beside the verdict, and what decides nothing."""
    context = list(evidence.assumptions)
    base, real = evidence.fluency_base, evidence.fluency_real
    if base is None or real is None:
        context.append(
            "an encoder writes no text, so copying and fluency were not asked; its bits are those of masked tokens"
        )
    elif base.unknown_words > max(2 * real.unknown_words, 0.1):
        context.append(f"the base model was not fluent: {base.unknown_words:.0%} of its words are in no corpus")
    moved = evidence.movement
    if moved.frozen and not moved.leaks:
        context.append(f"what was frozen is bit-identical ({moved.frozen:,} parameters)")
    if moved.still and moved.changed:
        context.append(f"allowed to change but did not: {', '.join(moved.still)}")
    return context


def decide(evidence: Evidence, limits: Thresholds | None = None) -> Verdict:
    """Turn evidence into a verdict. The first rule that holds gives the main word.

    1. ``nothing``: no tensor changed.
    2. ``broken``: a fault that no text can excuse: values that are not finite, a folder that computes something else, a
       tokenizer that is not the model's, a frozen tensor that changed.
    3. ``unsure``: the tokenizer cannot write the text, so neither what is learnt nor what is written can be read.
    4. ``copied``. Before the language is looked at, because a model that recites writes as well, or as repetitively, as
       the piece that it recites: its repetition and its few words come from that piece, and the remedy is that of
       copying (fewer passes, more text). Language out of range then stands beside it.
    5. ``unsure``: too little was measured.
    6. ``broken``: repetition, diversity or invented words beyond a margin, by their intervals, outside real text and
       worse than the base; word order that has become worthless.
    7. ``unsure``: the held-out text occurs in the training text.
    8. ``nothing``: the whole interval of the gain lies near 0.
    9. ``worked``: a sure gain, and the style criterion.
    10. ``forgot``: no sure gain, and a sure rise on general text. Beside every other word it stands in ``also``.
    11. ``unsure``: what is left.

    Args:
        evidence: What was measured.
        limits: The numbers that decide; ``None`` takes the defaults.

    Returns:
        The verdict, its reasons and the numbers.
    """
    limits = limits or Thresholds()
    gain, rise = evidence.gain, evidence.general_rise
    forgot = rise is not None and rise.low > limits.forgot_rise
    forgot_by = [f"general_rise.low {rise.low:.3f} > forgot_rise {limits.forgot_rise}"] if rise and forgot else []
    also = ["forgot"] if forgot else []
    learnt, context = evidence.unclaimed or _learnt(evidence), _context(evidence)

    def verdict(word: str, reasons: list[str], by: list[str], beside: list[str]) -> Verdict:
        seen_beside = forgot_by if "forgot" in beside else []
        return Verdict(word, beside, reasons + context, asdict(limits), by + seen_beside)

    def found(word: str, findings: list[_Finding], more: list[str], beside: list[str]) -> Verdict:
        return verdict(word, [each.reason for each in findings] + more, [each.by for each in findings], beside)

    if evidence.movement.changed == 0:
        causes = why_nothing(evidence.movement, evidence.idle_matrices)
        nothing = f"none of {evidence.movement.tensors} tensors changed"
        return verdict("nothing", [nothing, *causes], ["changed 0"], [])
    faults, copied = _faults(evidence, limits), _copied(evidence, limits)
    damaged = _damaged(evidence, limits)
    if faults:
        return found("broken", [*faults, *damaged], [learnt], also + (["copied"] if copied else []))
    if evidence.unclaimed:
        unknown = _Finding(learnt, f"unknown_bytes {evidence.unknown_bytes:.3f} > {MOST_UNKNOWN}")
        return found("unsure", [unknown], [*_not_copied(evidence.copying), *_forgetting(evidence)], also)
    if copied:
        beside = [each.reason for each in damaged]
        return found("copied", copied, [*beside, learnt], also + (["broken"] if damaged else []))
    if too_little := _too_little(evidence, limits):
        beside = [each.reason for each in damaged]
        return found("unsure", too_little, [*beside, learnt, *_forgetting(evidence)], also)
    if damaged:
        return found("broken", damaged, [learnt], also)
    if seen := _not_held_out(evidence, limits):
        return found("unsure", seen, [learnt, *_forgetting(evidence)], also)
    if -limits.nothing_gain < gain.low and gain.high < limits.nothing_gain:
        causes = why_nothing(evidence.movement, evidence.idle_matrices)
        inside = f"the whole interval lies within {limits.nothing_gain} bits per byte of no gain"
        within = f"gain [{gain.low:.4f}, {gain.high:.4f}] within nothing_gain ±{limits.nothing_gain}"
        return verdict("nothing", [learnt, inside, *causes], [within], also)
    style_holds, style_reasons, style_by = _style(evidence, limits)
    gained = gain.low > limits.worked_gain
    by = [f"gain.low {gain.low:.3f} {'>' if gained else '<='} worked_gain {limits.worked_gain}"]
    if gained and style_holds:
        reasons = [learnt, *style_reasons, *_not_copied(evidence.copying), *_forgetting(evidence)]
        return verdict("worked", reasons, by + style_by, also)
    if forgot and not gained:
        return verdict("forgot", [*_forgetting(evidence), learnt], forgot_by + by, [])
    if not gained:
        unsure = gain.high > limits.worked_gain
        style_reasons.insert(0, "the gain on held-out text is not sure" if unsure else "it got worse on held-out text")
    return verdict("unsure", [learnt, *style_reasons, *_forgetting(evidence)], by + style_by, also)
