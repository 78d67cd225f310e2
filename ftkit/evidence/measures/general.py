"""What it forgot: general text before and after, the distance from the base, and the change scaled back.

Beside it, whether the gain is one of the target's text: as much on any other text is no style of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftkit.display.figures import Figure, Kind, Lines, Points, Rules
from ftkit.display.tables import PageTable, Part, Row
from ftkit.display.wording import interval, number, percent_interval
from ftkit.evidence.interpolation import RISE, SCALING, ScaledPoint, scaling_figure
from ftkit.evidence.intervals import Interval, bits_per_byte, gain_over, relative_rise
from ftkit.evidence.measure import Advice, Case, Measure, Outcome, Remark, RunResults, Support

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE", "General"]


@dataclass(frozen=True)
class SourceRise:
    """One of several general texts."""

    name: str
    rise: Interval
    """Relative rise of the loss, paired."""


@dataclass(frozen=True)
class General:
    """General text before and after; without it, and where a tokenizer cannot write it, all intervals are ``None``."""

    name: str
    """What the text is; empty where none was given."""
    unknown_bytes: float = 0.0
    """Share of its bytes that the base's or the tuned model's tokenizer cannot write."""
    readable: bool = True
    """Whether that is little enough to measure anything."""
    base: Interval | None = None
    """Bits per byte of the base."""
    tuned: Interval | None = None
    rise: Interval | None = None
    """Relative rise of the loss, paired."""
    gain_over: Interval | None = None
    """Gain on the target's text minus gain on general text, in bits per byte."""
    kl_general: Interval | None = None
    """Bits per token by which the tuned model's predictions on general text differ from the base's,
    KL(base || tuned); ``None`` where tokens or output do not compare."""
    kl_target: Interval | None = None
    """The same on held-out text of the target, where the difference is what was wanted."""
    curve: tuple[ScaledPoint, ...] = ()
    """The change scaled from nothing to beyond; empty where it was not asked for."""
    by_source: tuple[SourceRise, ...] = ()
    """Each general text by itself, where there are several."""

    @property
    def sources(self) -> tuple[SourceRise, ...]:
        """Each general text by itself; none where nothing was measured."""
        return self.by_source or (() if self.rise is None else (SourceRise(self.name, self.rise),))


class GeneralMeasure(Measure[General]):
    """Asks what was forgotten, and whether the gain is one of the target's text."""

    name, place, result, unit = "general", 20, General, "relative rise of the loss; bits per byte"
    needs = ("losses", "weights")
    words = ("forgot",)
    kinds = {
        "scaling": SCALING,
        "tradeoff": Kind(
            "rise of the loss on general text, %",
            (
                Rules(0.0, line="solid"),
                Lines("rise", where={"front": "yes"}, color=None, line="dotted", sort=True, name="front"),
                Points("rise"),
            ),
            x="value",
            x_label="gain on held-out text, bits per byte",
        ),
    }
    question = "What did it forget, and does it gain more on the target's text than on other text?"

    def compute(self, comparison: Comparison) -> General | None:
        name, unknown = ", ".join(comparison.texts.general), comparison.general_unknown
        if (losses := comparison.readable_general_losses) is None:
            return General(name, unknown, readable=comparison.general_losses is None)
        from ftkit.evidence.forgetting import distances_from_base, scaling_curve

        on_general, on_target = distances_from_base(comparison)
        curve: Sequence[Any] = ()
        if on_general is not None and comparison.scales and comparison.base is not None:
            assert comparison.general_text is not None
            curve = scaling_curve(
                comparison.base, comparison.tuned, comparison.heldout_text, comparison.general_text,
                comparison.window_tokens, comparison.scales,
            )  # fmt: skip
        before, after = map(bits_per_byte, losses)
        return General(
            name, unknown, base=before, tuned=after, rise=relative_rise(*losses),
            gain_over=gain_over(comparison.losses, losses), kl_general=on_general, kl_target=on_target,
            curve=tuple(curve), by_source=_rises(comparison),
        )  # fmt: skip

    def support(self, result: General, case: Case) -> Support | None:
        if case.evidence.from_scratch:
            return None
        if (over := result.gain_over) is None:
            why = "no general text was given"
            if not result.readable:
                why = f"the tokenizer cannot write {result.unknown_bytes:.0%} of {result.name}"
            return Support(True, [f"{why}, so neither a gain specific to this text nor forgetting was measured"])
        holds = over.low > 0
        doubt = "" if holds else ", which does not show a gain specific to this text"
        return Support(
            holds,
            [f"it gains {over} bits per byte more on the target than on {result.name}{doubt}"],
            [f"gain_over_general.low {over.low:z.3f} {'>' if holds else '<='} 0"],
        )

    def beside(self, result: General, case: Case) -> Mapping[str, Sequence[str]]:
        if result.rise is None or case.evidence.from_scratch:
            return {}
        measured = {"general_rise.low": result.rise} | {f"rise on {one.name}.low": one.rise for one in result.by_source}
        most = case.limits.forgot_rise
        found = [f"{name} {rise.low:z.3f} > forgot_rise {most}" for name, rise in measured.items() if rise.low > most]
        return {"forgot": found} if found else {}

    def remarks(self, result: General, case: Case) -> Iterable[Remark]:
        for each in result.sources:
            changed = f"{each.rise.value:+.1%} [{each.rise.low:+.1%}, {each.rise.high:+.1%}]"
            yield Remark(f"loss on {each.name} changed by {changed}", "gain")

    def rows(self, result: General) -> Iterable[Row]:
        if result.rise is None:
            return
        yield Row("gain on the target minus gain on general text", result.gain_over)
        yield Row("rise of the loss on general text (forgetting)", result.rise, percent=True)
        for each in result.by_source:
            yield Row(f"rise of the loss on {each.name}", each.rise, percent=True)
        yield Row("bits per byte on general text", result.tuned, result.base)
        if result.kl_general is not None:
            yield Row("KL to the base on general text, bits per token", result.kl_general, "0")
            yield Row("KL to the base on the target's text, bits per token", result.kl_target, "0")

    def columns(self, result: General) -> Mapping[str, tuple[str, Any]]:
        rise = result.rise
        return {} if rise is None else {"rise on general text": (percent_interval(rise), rise)}

    def headline(self, result: General, outcome: Outcome) -> Iterable[str]:
        if "forgot" in outcome.words:
            worst = max(result.sources, key=lambda each: each.rise.value)
            yield f"its loss on {worst.name} rose by {percent_interval(worst.rise)}"

    def parts(self, results: Mapping[str, General], document: Mapping[str, Any]) -> Iterable[Part]:
        known = {name: found for name, found in results.items() if found.rise is not None}
        if not known:
            return
        tables = [
            PageTable(
                "General text, and the divergence from the base, with 95 % intervals",
                (
                    "Model", "General text", "Base, bits per byte", "Tuned", "Rise", "Target's gain minus this gain",
                    "KL to base, bits per token", "KL on the target's text",
                ),
                [
                    (
                        name,
                        [
                            [
                                found.name, interval(found.base), interval(found.tuned), percent_interval(found.rise),
                                interval(found.gain_over), interval(found.kl_general), interval(found.kl_target),
                            ],
                            *([each.name, "", "", percent_interval(each.rise), "", "", ""] for each in found.by_source),
                        ],
                    )
                    for name, found in known.items()
                ],
            )
        ]  # fmt: skip
        if any(found.curve for found in known.values()):
            curve = PageTable(
                "The change of the weights scaled: 0 is the base, 1 the trained model",
                ("Model", "Scale", "Gain on held-out text, bits per byte", "Rise of the loss on general text"),
                [
                    (name, [[number(p.scale), interval(p.gain), percent_interval(p.rise)] for p in found.curve])
                    for name, found in known.items()
                    if found.curve
                ],
            )
            tables.append(curve)
        yield Part(
            "forgetting", "Forgetting",
            "Loss on general text before and after training, and KL divergence of the predictions from the base's. On "
            "general text, divergence is forgetting; on the target's text, it is intended.",
            tables, ("scaling", "tradeoff"), link="Forgetting",
        )  # fmt: skip

    def figures(self, results: RunResults) -> Iterable[Figure]:
        found = results.measured_by(self.name)
        yield scaling_figure({model: general.curve for model, general in found.items()})
        if "arms" in results.measured:
            yield self._tradeoff(results)

    def _tradeoff(self, results: RunResults) -> Figure:
        rows = []
        for model, found in results.measured_by(self.name).items():
            if found.rise is not None:
                rise = {key: 100 * getattr(found.rise, end) for key, end in RISE.items()}
                rows.append({"model": model, **vars(results.gain(model)), **rise})
        for row in rows:
            as_good = [other for other in rows if other["value"] >= row["value"] and other["rise"] <= row["rise"]]
            beaten = any((other["value"], other["rise"]) != (row["value"], row["rise"]) for other in as_good)
            row["front"] = "" if beaten else "yes"
        caption = (
            "Right: larger gain; lower: less forgetting; crosses are 95 % intervals. The dotted line joins the models "
            "beside which no other gains more and forgets less."
        )
        return Figure("tradeoff", "Gain against forgetting", caption, rows)

    def advice(self, result: General, outcome: Outcome) -> Iterable[str | Advice]:
        if "forgot" in outcome.words:
            yield Advice(
                "Take fewer steps or a lower learning_rate, or train fewer weights: freeze groups, or use an adapter.",
                "less",
            )
            yield "Mix some general text into the corpus, so that the old knowledge is exercised too."
            if "examples" not in outcome.settings:
                yield _blend_advice(outcome.settings)
        if not outcome.undecided:
            return
        if result.gain_over is None and "general" in outcome.settings:
            yield "Name a text in general, so that forgetting and a gain specific to this text can be measured."
        elif result.gain_over is not None and not result.gain_over.low > 0:
            yield "The gain is not clearly larger than the gain on general text. Start from a stronger base."


def _rises(comparison: Comparison) -> tuple[SourceRise, ...]:
    """The rise on each of several general texts."""
    found = comparison.losses_by_source
    if len(found) < 2:
        return ()
    return tuple(SourceRise(name, relative_rise(*losses)) for name, losses in found.items())


def _blend_advice(settings: Mapping[str, Any]) -> str:
    """The command that takes back a part of the change, with the names that are known."""
    given = ((name, settings.get(name)) for name in ("base", "tuned", "text", "general"))
    names = (shlex.quote(value) if isinstance(value, str) else name.upper() for name, value in given)
    return (
        "Take a part of the change back: 'ftkit blend {} {} OUT --text {} --general {}' measures points between base "
        "and tuned model, and writes the one that gains most without forgetting."
    ).format(*names)


MEASURE = GeneralMeasure()
