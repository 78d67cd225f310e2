"""Probes of the weights: how far they moved, how large an update is, and how they are distributed."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from ftkit.inspection import weight_statistics
from ftkit.training.probes.probe import Probe, Row
from ftkit.tuning import Selection
from ftkit.tuning.movement import SelectedValues

__all__ = ["UpdateRatio", "WeightChange", "WeightDistributions"]


class WeightChange(Probe):
    """How far selections moved since the last measurement and since the start (lessons 07/010 and 07/011).

    Args:
        model: The model as it starts; two copies of what is selected are kept.
        selections: What is measured, by the name it gets in the records.
        every: Steps between measurements.
    """

    name = "weight_change"

    def __init__(self, model: nn.Module, selections: Mapping[str, Selection], every: int) -> None:
        self.every = every
        self._values = {label: SelectedValues(model, chosen) for label, chosen in selections.items()}
        self._start = {label: [v.cpu() for v in values.copies()] for label, values in self._values.items()}
        self._last, self._since = self._start, 0

    def begin(self, step: int) -> None:
        """Count from here: a resumed training no longer has the weights of the last measurement."""
        self._last, self._since = {label: values.copies() for label, values in self._values.items()}, step

    def measure(self, step: int) -> Iterator[Row]:
        """Frobenius norms of the change, plain and over the norm before it; ``since`` is the step of the last."""
        last, since = self._last, self._since
        self.begin(step)
        for label, now in self._last.items():
            change, total = SelectedValues.norm(now, last[label]), SelectedValues.norm(now, self._start[label])
            yield {
                "of": label,
                "since": since,
                "change": change,
                "relative": _share(change, SelectedValues.norm(last[label])),
                "from_start": total,
                "relative_from_start": _share(total, SelectedValues.norm(self._start[label])),
            }


class UpdateRatio(Probe):
    """How large a single update is beside the weights that it changes; around 0.001 is usual for AdamW.

    Args:
        model: The model; a copy of what is selected is held during the updates that are measured.
        selections: What is measured, by the name it gets in the records.
        every: Steps between measurements.
    """

    name = "update_ratio"

    def __init__(self, model: nn.Module, selections: Mapping[str, Selection], every: int) -> None:
        self.every = every
        self._values = {label: SelectedValues(model, chosen) for label, chosen in selections.items()}
        self._before: dict[str, list[Tensor]] = {}

    def before(self, step: int) -> None:
        """Remember the weights."""
        self._before = {label: values.copies() for label, values in self._values.items()}

    def measure(self, step: int) -> Iterator[Row]:
        """Norm of the update, norm of the weights before it, and their ratio; nothing at step 0."""
        for label, before in self._before.items():
            update = SelectedValues.norm(self._values[label].copies(), before)
            norm = SelectedValues.norm(before)
            yield {"of": label, "update": update, "weights": norm, "ratio": _share(update, norm)}
        self._before = {}


class WeightDistributions(Probe):
    """How the weights of each group and block are distributed (lesson 06/013).

    Args:
        model: The model.
        selectors: What to describe.
        every: Steps between measurements.
        bins: Bins of the histograms, which reach from a group's least to its largest value at that step.
    """

    name = "weights"

    def __init__(self, model: nn.Module, selectors: str, every: int, bins: int = 100) -> None:
        self.every, self._model, self._selectors, self._bins = every, model, selectors, bins

    def measure(self, step: int) -> Iterator[Row]:
        """Mean, standard deviation, ends, zeros and histogram of each group and block."""
        for found in weight_statistics(self._model, self._selectors, bins=self._bins):
            yield {**found.as_row(), "low": found.edges[0], "high": found.edges[-1], "counts": list(found.counts)}


def _share(change: float, norm: float) -> float | None:
    return change / norm if norm else None
