"""Whether two folders hold the same model: tensors, logits, ties and sizes, after saving, copying or converting."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ftkit.inspection.diff import FolderDifference, diff_folders
from ftkit.models import load_model, usable_positions
from ftkit.models.families import architecture_of, differing
from ftkit.models.meta_models import Outline, outline
from ftkit.models.outputs import ROUNDING, relative_difference
from ftkit.runs.files import json_value

__all__ = ["Verification", "verify_folders"]

_PROBE_ROWS, _PROBE_TOKENS = 2, 32  # two rows, so that one cannot be right by chance; 32 tokens use the positions


@dataclass(frozen=True)
class Verification:
    """What the comparison of two folders found."""

    reasons: tuple[str, ...]
    """Why they are not the same model; empty where they are."""
    notes: tuple[str, ...]
    """What could not be compared."""
    paired: int
    """Parts of tensors that both have under one name."""
    largest: float | None
    """Largest absolute difference of an element; ``None`` where no tensor could be paired."""
    l2: float | None
    """Norm of the difference over all tensors."""
    logits_difference: float | None
    """Largest absolute difference of the logits on the probe; ``None`` where they were not computed."""
    ties: tuple[bool | None, bool | None]
    """Whether head and embedding are one tensor, in each model; ``None`` where there is no such head."""
    bytes_expected: tuple[int | None, int | None]
    """Parameters times bytes of the dtype; ``None`` where the folder has several."""
    bytes_found: tuple[int, int]
    """Of all tensors in the files."""
    bytes_by_dtype: tuple[dict[str, int], dict[str, int]]

    @property
    def equal(self) -> bool:
        """Nothing speaks against it."""
        return not self.reasons

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is infinite is ``None``."""
        return {"equal": self.equal, **json_value(asdict(self))}


def verify_folders(first: str | Path, second: str | Path, *, tolerance: float = 0.0, seed: int = 0) -> Verification:
    """Check that two folders hold the same model.

    Where no tensor has the same name in both, as in a model that was converted to another architecture, or an adapter
    and what became of it when it was merged, the logits decide. The models are loaded one after the other.

    Args:
        first: A folder with safetensors weights, in one file or several. Of two adapters and of models without a head
            only the tensors are compared.
        second: Another.
        tolerance: Largest absolute difference of elements and of logits that counts as equal. Logits may always
            differ by rounding (``ftkit.models.outputs``); elements are compared bit by bit where this is 0.
        seed: Draws the token ids of the probe.

    Returns:
        What was found; ``equal`` says whether it is the same model.

    Raises:
        ModelError: A folder that cannot be read or loaded.
    """
    difference = diff_folders(first, second)
    described = (outline(str(first)), outline(str(second)))
    merged = described[0].has_adapter != described[1].has_adapter and "none" not in (one.task for one in described)
    reasons = [] if merged else list(_reasons_of_tensors(difference, tolerance))
    notes = [] if difference.changes else ["no tensor has one name in both folders, so the logits decide"]
    logits: float | None = None
    ties: tuple[bool | None, bool | None] = (None, None)
    if merged:
        notes = ["an adapter and a whole model have no tensor in common, so the logits decide"]
    if not merged and any(one.has_adapter or one.task == "none" for one in described):
        notes = ["adapters and models without a head have no logits of their own, so the tensors decide"]
        reasons += [] if difference.changes else ["no tensor in common"]
    else:
        logits, relative, ties = _logits_difference((first, second), described, seed)
        if logits > tolerance and relative > ROUNDING:
            by = f"by up to {logits:.3g}" if math.isfinite(logits) else "in shape, or they are not finite"
            reasons.append(f"logits on the probe differ {by}")
        if ties[0] != ties[1] and not merged:
            tied, untied = (first, second) if ties[0] else (second, first)
            reasons.append(f"head and embedding are one tensor in {tied} and not in {untied}")
    reasons += _reasons_of_configurations(*described, tie=not merged)
    dtypes = difference.bytes_by_dtype
    return Verification(
        reasons=tuple(reasons),
        notes=tuple(notes),
        paired=len(difference.changes),
        largest=difference.total.largest if difference.changes else None,
        l2=math.sqrt(difference.total.squared_difference) if difference.changes else None,
        logits_difference=logits,
        ties=ties,
        bytes_expected=(_expected(described[0], dtypes[0]), _expected(described[1], dtypes[1])),
        bytes_found=(sum(dtypes[0].values()), sum(dtypes[1].values())),
        bytes_by_dtype=dtypes,
    )


def _reasons_of_tensors(difference: FolderDifference, tolerance: float) -> Iterator[str]:
    if not difference.changes and not difference.misshapen:
        return  # nothing could be paired
    if worst := [change for change in difference.changes if change.largest > tolerance]:
        yield f"values differ in {_listed([f'{change.name} (by {change.largest:.3g})' for change in worst])}"
    if difference.only_first:
        yield f"only in the first folder: {_listed(difference.only_first)}"
    if difference.only_second:
        yield f"only in the second folder: {_listed(difference.only_second)}"
    if difference.misshapen:
        yield f"shapes differ: {_listed(difference.misshapen)}"
    first, second = (sorted(dtypes) for dtypes in difference.bytes_by_dtype)
    if first != second:
        yield f"dtypes differ: {', '.join(first)} and {', '.join(second)}"


def _reasons_of_configurations(first: Outline, second: Outline, tie: bool) -> Iterator[str]:
    """What a probe of a few tokens need not show: heads, windows, names of classes, the scale of an adapter."""
    fields = [architecture_of(one.config) for one in (first, second)]
    if not tie:  # peft unties a model when it merges what stands on one end
        fields = [{key: value for key, value in each.items() if key != "tie_word_embeddings"} for each in fields]
    if first.config.model_type == second.config.model_type and (other := differing(*fields)):
        yield f"configurations differ: {other}"
    if first.task == second.task == "sequence-classification" and first.config.id2label != second.config.id2label:
        yield f"classes differ: {first.config.id2label} and {second.config.id2label}"
    if first.has_adapter and second.has_adapter and (other := differing(_adapter(first), _adapter(second))):
        yield f"adapters differ: {other}"


def _adapter(described: Outline) -> dict[str, Any]:
    """What peft's configuration says of the computation."""
    model: Any = described.model
    stored = model.peft_config["default"].to_dict()
    aside = {"base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version"}
    return {
        name: sorted(map(str, value)) if isinstance(value, set | list) else value
        for name, value in stored.items()
        if name not in aside
    }


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _logits_difference(
    folders: tuple[str | Path, str | Path], described: tuple[Outline, Outline], seed: int
) -> tuple[float, float, tuple[bool | None, bool | None]]:
    """Largest difference of the logits on random ids that both know, absolute and relative, and the ties."""
    configs: list[Any] = [one.config.get_text_config() for one in described]
    tokens = min(_PROBE_TOKENS, *(usable_positions(one.model) or _PROBE_TOKENS for one in described))
    input_ids = torch.randint(
        min(config.vocab_size for config in configs),
        (_PROBE_ROWS, tokens),
        generator=torch.Generator().manual_seed(seed),
    )
    (logits, tie), (others, other_tie) = (
        _logits(folder, one.task, input_ids) for folder, one in zip(folders, described, strict=True)
    )
    relative = relative_difference(others, logits)
    absolute = float((logits - others).abs().max()) if math.isfinite(relative) else math.inf
    return absolute, relative, (tie, other_tie)


@torch.inference_mode()
def _logits(folder: str | Path, task: str, input_ids: Tensor) -> tuple[Tensor, bool | None]:
    model: Any = load_model(str(folder), task=task)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = -1  # classifiers ask for one to find the last token; random ids have no padding
    head, rows = model.get_output_embeddings(), model.get_input_embeddings()
    return model(input_ids=input_ids).logits, None if head is None else head.weight is rows.weight


def _expected(described: Outline, dtypes: Mapping[str, int]) -> int | None:
    if len(dtypes) != 1:
        return None
    dtype: torch.dtype = getattr(torch, next(iter(dtypes)))
    wanted = (p for p in described.model.parameters() if p.requires_grad or not described.has_adapter)
    return sum(parameter.numel() for parameter in wanted) * dtype.itemsize
