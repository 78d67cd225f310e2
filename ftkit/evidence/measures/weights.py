"""Did anything move, and only what was allowed to? The change of the weights, and the proof of what was frozen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ftkit.display.figures import Figure, Kind, Points
from ftkit.display.tables import Cell, PageTable, Part, Row
from ftkit.display.wording import number
from ftkit.evidence.intervals import Number
from ftkit.evidence.measure import Advice, Case, Finding, Measure, Outcome, Remark, RunResults

if TYPE_CHECKING:
    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE", "MovedGroup", "Weights"]

_SAME_SHARE = 0.02
"""Relative spread of the tensors' changes below which they all shrank alike."""
_MOST_TENSORS = 24
"""Rows of the figure of a model whose family is not declared."""
_NAMED = 4
"""Tensors that a sentence names at most."""


@dataclass(frozen=True)
class MovedGroup:
    """What changed in one group of one block; see ``ftkit.tuning.GroupMovement``."""

    group: str
    layer: int | None
    parameters: int
    trainable: int
    change: Number
    start: Number
    relative: Number


@dataclass(frozen=True)
class Weights:
    """What changed between base and tuned model; see ``ftkit.tuning.Movement``."""

    relative: Number
    """Frobenius norm of the change over that of the start, over all parameters."""
    changed: int
    """Tensors with at least one changed element."""
    tensors: int
    by_tensor: dict[str, Number]
    groups: tuple[MovedGroup, ...] = ()
    frozen: int = 0
    """Elements that were not allowed to change."""
    leaks: tuple[str, ...] = ()
    """Tensors that changed although frozen: there must be none."""
    still: tuple[str, ...] = ()
    """Groups that were allowed to change and did not."""
    idle_matrices: tuple[str, ...] = ()
    """LoRA B matrices that are all zero, so that the adapter has no effect."""


class WeightsMeasure(Measure[Weights]):
    """Asks what changed, and whether what was frozen did not."""

    name, place, result, unit, needs = "weights", 90, Weights, "change over start, by norm", ("weights",)
    kinds = {"movement": Kind("relative change", (Points("change"),), rows="{part}", beside="model", covers=(0,))}
    question = "Which weights changed, by how much, and did what was frozen stay?"

    def compute(self, comparison: Comparison) -> Weights | None:
        from ftkit.models import tensors_beneath
        from ftkit.tuning import idle_matrices, movement, snapshot

        base = comparison.base
        before = tensors_beneath(comparison.tuned) if base is None else snapshot(base, copy=False)
        moved = movement(before, comparison.tuned, comparison.trainable)
        groups = tuple(MovedGroup(**asdict(row)) for row in moved.groups)
        return Weights(**vars(moved) | {"groups": groups}, idle_matrices=idle_matrices(comparison.tuned))

    def findings(self, result: Weights, case: Case) -> Iterable[Finding]:
        if not result.changed:
            yield Finding("unchanged", f"none of {result.tensors} tensors changed", "changed 0")
        if leaks := result.leaks:
            named = ", ".join(leaks[:_NAMED])
            yield Finding("fault", f"{len(leaks)} tensors changed although frozen: {named}", f"leaks {len(leaks)} > 0")

    def remarks(self, result: Weights, case: Case) -> Iterable[Remark]:
        for cause in why_nothing(result):
            yield Remark(cause, "nothing")
        if result.frozen and not result.leaks:
            yield Remark(f"what was frozen ({result.frozen:,} parameters) did not change by a single bit")
        if result.still and result.changed:
            yield Remark(f"allowed to change but did not: {', '.join(result.still)}")

    def rows(self, result: Weights) -> Iterable[Row]:
        yield Row("relative change of the weights", result.relative)
        yield Row("tensors changed", f"{number(result.changed)} of {number(result.tensors)}")

    def parts(self, results: Mapping[str, Weights], document: Mapping[str, Any]) -> Iterable[Part]:
        table = PageTable(
            "Change of the weights, as the norm of the change over the norm of the start",
            ("Model", "Relative change", "Tensors changed", "Proof"),
            [
                (
                    name,
                    [[
                        number(found.relative), f"{number(found.changed)} of {number(found.tensors)}",
                        Cell(
                            f"{len(found.leaks)} frozen tensors changed" if found.leaks
                            else f"{number(found.frozen)} parameters frozen, bit-identical" if found.frozen
                            else "nothing was frozen"
                        ),
                    ]],
                )
                for name, found in results.items()
            ],
        )  # fmt: skip
        yield Part("weights", "Weights moved", tables=[table], figures=("movement",), link="Weights")

    def figures(self, results: RunResults) -> Iterable[Figure]:
        """By block and by group where the model's family is declared, else by tensor."""
        found: dict[str, Weights] = results.measured_by(self.name)
        measure = "Norm of the change over norm of the start"
        known = {model: [row for row in moved.groups if row.group != "other"] for model, moved in found.items()}
        if any(known.values()):
            rows = [row for model, groups in known.items() for row in _added_rows(model, groups, "layer")]
            yield Figure(
                "movement-blocks", "How far each block moved", f"{measure}, over all parameters of the block.", rows
            )
            rows = [row for model, groups in known.items() for row in _added_rows(model, groups, "group")]
            caption = f"{measure}, over all blocks. A group at 0 did not change: it was frozen, or nothing reached it."
            yield Figure("movement-groups", "How far each group moved", caption, rows)
            return
        rows = []
        for model, moved in found.items():
            largest = sorted(moved.by_tensor, key=lambda name: -moved.by_tensor[name])[:_MOST_TENSORS]
            kept = [name for name in moved.by_tensor if name in largest]
            rows += [{"model": model, "part": name, "tensors": 1, "change": moved.by_tensor[name]} for name in kept]
        caption = f"{measure}; one row a tensor, at most the {_MOST_TENSORS} that moved most."
        yield Figure("movement", "How far the weights moved", caption, rows)

    def advice(self, result: Weights, outcome: Outcome) -> Iterable[str | Advice]:
        if "nothing" not in outcome.words:
            return
        rate = outcome.was("learning_rate")
        if not result.changed:
            yield f"No weight changed. Check that learning_rate{rate} is above 0 and weights are trainable."
            return
        yield Advice(
            f"The weights moved by {number(result.relative)} (relative) without effect: raise learning_rate{rate} "
            "or max_steps.",
            "more",
        )
        yield "If the base knew this text already, there is nothing to learn: compare its bits per byte."


def why_nothing(moved: Weights) -> list[str]:
    """Causes of a model that learned nothing that can be seen in its weights, likeliest first; empty where every group
    moved and no cause can be seen but too small a rate or too few steps."""
    if idle := moved.idle_matrices:
        return [f"the adapter has no effect: all {len(idle)} LoRA B matrices are zero, as initialized ({idle[0]})"]
    if not moved.changed:
        return [
            "the weights are the base's, bit for bit. Possible causes: learning rate 0, all weights frozen, all labels "
            "masked, or an adapter that was saved elsewhere and not merged"
        ]
    found = []
    groups = list(dict.fromkeys(row.group for row in moved.groups if row.change))
    if groups and len(groups) < len({row.group for row in moved.groups}):
        found.append(f"only {', '.join(groups)} changed ({moved.changed} of {moved.tensors} tensors)")
    changes = [change for change in moved.by_tensor.values() if change]
    if len(changes) > 2 and max(changes) - min(changes) < _SAME_SHARE * max(changes):
        found.append(
            f"{len(changes)} tensors changed by the same share, {max(changes):.2g}: weight decay alone does so, "
            "without any gradient; were all labels masked?"
        )
    return [*found, f"the weights moved by {moved.relative:.2g} of their norm"]


def _added_rows(model: str, groups: Sequence[MovedGroup], by: str) -> Iterable[dict[str, Any]]:
    """Rows of one model, added up by block or by group."""
    parts: dict[str, list[MovedGroup]] = {}
    for row in groups:
        part = row.group if by == "group" or row.layer is None else f"block {row.layer}"
        parts.setdefault(part, []).append(row)
    for part, rows in parts.items():
        change, start = (math.hypot(*(getattr(row, key) for row in rows)) for key in ("change", "start"))
        parameters = sum(row.parameters for row in rows)
        yield {"model": model, "part": part, "parameters": parameters, "change": change / start if start else change}


MEASURE = WeightsMeasure()
