"""What is known of one tuned model when it is judged: every measurement with its interval."""

from dataclasses import asdict, dataclass, field
from typing import Any

from ftkit.evidence.copying import Copying
from ftkit.evidence.discriminator import Discriminator
from ftkit.evidence.fluency import Damage, Fluency
from ftkit.evidence.forgetting import Forgetting
from ftkit.evidence.intervals import Interval
from ftkit.evidence.order import WordOrder
from ftkit.evidence.style import StyleScore
from ftkit.runs.notebook import html_table
from ftkit.training import MOST_UNKNOWN
from ftkit.tuning import Movement

__all__ = ["Evidence"]


@dataclass(frozen=True)
class Evidence:
    """Everything that was measured on one tuned model."""

    heldout_base: Interval
    """Bits per byte of the base model on held-out text of the target."""
    heldout_tuned: Interval
    heldout_windows: int
    """Windows that the held-out figures rest on."""
    gain: Interval
    """Bits per byte saved, paired."""
    general_name: str
    """What the general text is."""
    general_rise: Interval | None
    """Relative rise of the loss on general text, paired; ``None`` where no general text was given."""
    gain_over_general: Interval | None
    """Gain on the target's text minus gain on general text, in bits per byte."""
    styles: tuple[StyleScore, ...]
    copying: Copying | None
    """``None``, like fluency, for a model that writes no text."""
    fluency_base: Fluency | None
    fluency_tuned: Fluency | None
    fluency_real: Fluency | None
    movement: Movement
    reload_difference: float | None
    """Largest difference of logits between the trained model and its folder; ``None`` where only that is known."""
    passes: float | None
    """Tokens trained over tokens of the training text; ``None`` where that is not known."""
    finite: bool = True
    heldout_blocks: dict[str, list[float]] = field(default_factory=dict)
    """Sums over blocks of held-out windows, by which arms of a study are compared in pairs; see ``loss_blocks``."""
    tokenizer_misfit: Interval | None = None
    """Bits per byte that the tuned model saves with the base's tokenizer; ``None`` where both have one tokenizer."""
    assumptions: tuple[str, ...] = ()
    """What had to be assumed."""
    train_base: Interval | None = None
    """Bits per byte of the base on windows of the training text; ``None``, like the next two, where not asked for."""
    train_tuned: Interval | None = None
    train_gap: Interval | None = None
    """Bits per byte that it gains on its training text beyond its gain on held-out text: what did not carry over."""
    forgetting: Forgetting | None = None
    """General text before and after; ``None`` where none was given."""
    damage: Damage | None = None
    """How far its text lies outside real text and the base's; ``None`` for a model that writes no text."""
    idle_matrices: tuple[str, ...] = ()
    """Second matrices of an adapter that are zero, so that it does nothing."""
    order: WordOrder | None = None
    """What the order of words is worth; ``None`` for an encoder and where base and tuned model have two tokenizers."""
    unknown_bytes: float = 0.0
    """Share of the held-out text's bytes that the base's or the tuned model's tokenizer cannot write."""
    general_unknown: float = 0.0
    """The same of general text, which is left out where it is too much."""
    discriminator: Discriminator | None = None
    """Whether what it writes can be told from real text; ``None`` where it writes none, or too little."""

    @property
    def unclaimed(self) -> str:
        """Why there are no bits per byte and no gain; empty where there are."""
        if self.unknown_bytes <= MOST_UNKNOWN:
            return ""
        return (
            f"no bits per byte and no gain are claimed: the tokenizer cannot write {self.unknown_bytes:.0%} of the "
            f"held-out text's bytes (at most {MOST_UNKNOWN:.0%}); take a model whose tokenizer knows this script"
        )

    def as_dict(self) -> dict[str, Any]:
        """For ``evidence.json``."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """In a notebook: the figures that a verdict rests on."""
        rows = [
            ("held-out text, base (bits per byte)", str(self.heldout_base)),
            ("held-out text, tuned", str(self.heldout_tuned)),
            ("gain", str(self.gain)),
        ]
        if self.gain_over_general is not None:
            rows.append((f"gain beyond {self.general_name}", str(self.gain_over_general)))
        if (rise := self.general_rise) is not None:
            rows.append((f"loss on {self.general_name}", f"{rise.value:+.1%} [{rise.low:+.1%}, {rise.high:+.1%}]"))
        rows += [
            (f"style, judge {style.judge}", str(style.position) if style.speaks else f"does not speak: {style.reason}")
            for style in self.styles
        ]
        if (copy := self.copying) is not None:
            shares = f"{copy.rate.value:.1%}, real held-out text {copy.heldout_rate.value:.1%}"
            rows.append((f"copied {copy.ngram}-grams", f"{shares}, longest run {copy.longest_run} words"))
        moved = self.movement
        rows.append(("weights", f"{moved.changed} of {moved.tensors} tensors changed, by {moved.relative:.2g} in all"))
        return html_table("ftkit evidence", rows)
