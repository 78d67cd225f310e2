"""Which parameter is what: the groups of a model, and selections of them in one line of text.

Groups come from the family's declaration (``ftkit.models.families``) and hold every parameter element exactly once. A
selector names what is meant, the same in YAML, flags and Python; several are joined by commas:

    attention             a group with everything below it; attention.q, mlp.out, norm, embedding, head, ... and all
    attention.q@6..       in blocks 6 and up; @..4 up to block 4, @2..5, @-1 the last one, @2+5 these two
    embedding[rows=13+50..59]   rows of an embedding, here 13 and 50 to 59
    name:REGEX            parameters by name, also in families that are not declared
    ^norm                 without these; alone: everything but these
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ftkit.errors import ConfigError, nearest_name
from ftkit.models import FAMILIES, GROUPS, Fused, is_adapter

__all__ = [
    "GroupRow",
    "ParameterGroups",
    "ParameterTable",
    "Piece",
    "Selection",
    "chosen_slices",
    "parameter_table",
    "requiring_grad",
    "select",
    "trainable_selection",
]


@dataclass(frozen=True)
class Piece:
    """A parameter, or a slice of one, that belongs to one group."""

    name: str
    """The parameter's name; for a shared tensor the first of its names."""
    also: tuple[str, ...]
    """Further names of a shared tensor."""
    group: str
    layer: int | None
    """Number of the block from 0; ``None`` outside the blocks."""
    dim: int
    """Dimension along which the parameter can be sliced."""
    mask: Tensor
    """Bool, [size of that dimension]: which indices belong to the piece."""
    shape: tuple[int, ...]
    """Shape of the piece."""
    also_groups: tuple[str, ...] = ()
    """Groups of the further names: a tied head is also the embedding."""

    @property
    def numel(self) -> int:
        """Elements in the piece."""
        return int(torch.Size(self.shape).numel())


@dataclass(frozen=True)
class Selection:
    """A set of parameter elements, as indices along one dimension of each parameter."""

    masks: dict[str, Tensor]
    """Bool, [size of the sliced dimension], by parameter name; parameters without a chosen element are absent."""

    def __or__(self, other: "Selection") -> "Selection":
        joined = {name: mask | self.masks[name] for name, mask in other.masks.items() if name in self.masks}
        return Selection({**self.masks, **other.masks, **joined})

    def __sub__(self, other: "Selection") -> "Selection":
        left = {name: mask & ~other.masks[name] if name in other.masks else mask for name, mask in self.masks.items()}
        return Selection({name: mask for name, mask in left.items() if mask.any()})

    def __and__(self, other: "Selection") -> "Selection":
        return self - (self - other)

    def __bool__(self) -> bool:
        return bool(self.masks)

    def numel(self, piece: Piece) -> int:
        """Chosen elements of a piece."""
        chosen = int((self.masks[piece.name] & piece.mask).sum()) if piece.name in self.masks else 0
        return piece.numel * chosen // max(int(piece.mask.sum()), 1)


class ParameterGroups:
    """The groups of one model, or of one model with adapters.

    Args:
        model: Any Hugging Face model, on any device, also the meta device; or peft's wrapper around one; or any
            other module, whose parameters have only names.
    """

    def __init__(self, model: nn.Module) -> None:
        wrapper: Any = model
        inner = wrapper.get_base_model() if is_adapter(model) else model
        self.family = str(getattr(getattr(inner, "config", None), "model_type", type(inner).__name__))
        self._base_prefix = f"{getattr(inner, 'base_model_prefix', '')}."
        self._has_adapter = inner is not model
        outer = next((name for name, module in model.named_modules() if module is inner), "")
        self._outer_prefix = f"{outer}." if outer else ""
        names: dict[int, list[str]] = {}
        tensors: dict[int, nn.Parameter] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), []).append(name)
            tensors[id(parameter)] = parameter
        self.pieces = [piece for key, shared in names.items() for piece in self._pieces(shared, tensors[key])]
        layers = [piece.layer for piece in self.pieces if piece.layer is not None]
        self.num_layers = max(layers) + 1 if layers else 0
        """Blocks of the model."""
        first = next((place for place, piece in enumerate(self.pieces) if piece.layer is not None), 0)
        self.below_blocks = {piece.name for piece in self.pieces[:first] if piece.group != "adapter"}
        """Parameters that come before the blocks: embeddings, positions, and BERT's norm of them."""

    def plain_name(self, name: str) -> str:
        """The name that a parameter has in the model without adapters."""
        return _PEFT_WRAPPING.sub("", name.removeprefix(self._outer_prefix))

    def _part(self, name: str) -> tuple[str | Fused, int | None]:
        """Group or fused groups of a parameter by one of its names, and its block."""
        family = FAMILIES.get(self.family)
        plain = self.plain_name(name)
        if self._has_adapter and _is_adapter(name):
            found = re.search(r"\.(\d+)\.", plain)
            return "adapter", int(found[1]) if found else None
        if family is None:
            return "other", None
        return family.part_of(plain.removeprefix(self._base_prefix).rpartition(".")[0] or plain)

    def _pieces(self, names: list[str], parameter: nn.Parameter) -> Iterable[Piece]:
        part, layer = self._part(names[0])
        others = tuple(
            str(other) for other in (self._part(name)[0] for name in names[1:]) if other not in (part, "other")
        )
        dim = min(part.output_dim, parameter.ndim - 1) if isinstance(part, Fused) else 0
        size = parameter.shape[dim] if parameter.ndim else 1
        if not isinstance(part, Fused):
            mask = torch.ones(size, dtype=torch.bool)
            yield Piece(names[0], tuple(names[1:]), part, layer, 0, mask, tuple(parameter.shape), others)
            return
        # [repeats, parts, width]: which part each output belongs to.
        order = torch.arange(len(part.parts)).repeat_interleave(size // (len(part.parts) * part.repeats))
        owner = order.repeat(part.repeats)
        for number, group in enumerate(part.parts):
            mask = owner == number
            shape = list(parameter.shape)
            shape[dim] = int(mask.sum())
            yield Piece(names[0], tuple(names[1:]), group, layer, dim, mask, tuple(shape), others)

    @property
    def names(self) -> list[str]:
        """Groups that the model has, in the order of tables."""
        present = {piece.group for piece in self.pieces}
        return [group for group in GROUPS if group in present]

    def group(self, name: str) -> Selection:
        """The elements of one group and no more; a selector would take what is shared with it, and what is below."""
        return _selection([piece for piece in self.pieces if piece.group == name])

    @property
    def dims(self) -> dict[str, int]:
        """The dimension along which each parameter is sliced."""
        return {piece.name: piece.dim for piece in self.pieces}

    @property
    def all(self) -> Selection:
        """Every element."""
        return _selection(self.pieces)


_PEFT_WRAPPING = re.compile(r"\.base_layer\b|\.modules_to_save\.[^.]+|\.original_module\b|\.token_adapter\b")
_ADAPTER = re.compile(
    r"(^|\.)(lora_\w+|ia3_\w+|prompt_encoder|prompt_embeddings|trainable_tokens_\w+|vera_\w+|ln_tuning_layers)(\.|$)"
)


def _is_adapter(name: str) -> bool:
    return bool(_ADAPTER.search(name))


def _selection(pieces: Iterable[Piece]) -> Selection:
    chosen = Selection({})
    for piece in pieces:
        chosen = chosen | Selection({piece.name: piece.mask})
    return chosen


# ------------------------------------------------------------------------------------------------------ selectors

_SELECTOR = re.compile(r"(?P<group>[\w.]+)(\[rows=(?P<rows>[\d+.]+)\])?(@(?P<layers>[-\d+.]+))?")


def split_selectors(selectors: str | Sequence[str]) -> list[str]:
    """Single selectors of a text with commas or of a list; a list item that begins with ``name:`` keeps its commas."""
    if isinstance(selectors, str):
        items = selectors.split(",")
    else:
        items = [
            part
            for item in selectors
            for part in ([item] if item.lstrip("^ ").startswith("name:") else item.split(","))
        ]
    return [item.strip() for item in items if item.strip()]


def select(groups: ParameterGroups, selectors: str | Sequence[str]) -> Selection:
    """The elements that selectors mean.

    Args:
        groups: The model's groups.
        selectors: As the module's page describes; exclusions count wherever they stand.

    Returns:
        The selection, never empty.

    Raises:
        ConfigError: A selector that cannot be read, that matches nothing, or a selection that leaves nothing. The
            message lists what exists.
    """
    items = split_selectors(selectors)
    if not items:
        raise ConfigError(f"the selector {selectors!r} is empty; {_what_exists(groups)}")
    chosen = Selection({})
    wanted = [item for item in items if not item.startswith("^")]
    for item in wanted:
        chosen = chosen | _one(groups, item)
    if not wanted:
        chosen = groups.all
    for item in items:
        if item.startswith("^"):
            chosen = chosen - _one(groups, item[1:].strip())
    if not chosen:
        raise ConfigError(f"the selectors {', '.join(items)} leave nothing: what is chosen is also excluded")
    return chosen


def requiring_grad(model: nn.Module, groups: ParameterGroups) -> Selection:
    """What autograd would train as the model is: what a caller, or an adapter, has left trainable."""
    wanted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return Selection({name: mask for name, mask in groups.all.masks.items() if name in wanted})


def trainable_selection(
    groups: ParameterGroups, train: str | Sequence[str] | None, freeze: str | Sequence[str] | None
) -> Selection:
    """What may change: ``train``, or everything, without ``freeze``.

    Args:
        groups: The model's groups.
        train: Selectors of what may change; ``None`` means all.
        freeze: Selectors of what may not; ``None`` means nothing.

    Raises:
        ConfigError: As ``select`` does, or where nothing is left to train.
    """
    chosen = groups.all if train is None else select(groups, train)
    if freeze is not None:
        chosen = chosen - select(groups, freeze)
    if not chosen:
        asked = f"train: {train}, freeze: {freeze}" if train else f"freeze: {freeze}"
        raise ConfigError(f"nothing is left to train with {asked}; {_what_exists(groups)}")
    return chosen


def _what_exists(groups: ParameterGroups) -> str:
    if groups.family not in FAMILIES:
        some = ", ".join(piece.name for piece in groups.pieces[:4])
        return (
            f"the family {groups.family!r} is not declared, so only all and name:REGEX select here; parameters are "
            f"{some}, ... ({len(groups.pieces)} in all)"
        )
    layers = f", blocks 0 to {groups.num_layers - 1}" if groups.num_layers else ""
    return f"the model has {', '.join(groups.names)}{layers}"


def _one(groups: ParameterGroups, item: str) -> Selection:
    """One selector without its exclusion mark."""
    if item.startswith("name:"):
        return _by_name(groups, item)
    found = _SELECTOR.fullmatch(item)
    if not found:
        raise ConfigError(
            f"the selector {item!r} cannot be read; write GROUP, GROUP@LAYERS, GROUP[rows=IDS], name:REGEX or ^SELECTOR"
        )
    group = found["group"]
    pieces = groups.pieces if group == "all" else _in_group(groups, group)
    if not pieces:
        near = (
            nearest_name(
                group, ["all", *sorted({part for name in groups.names for part in (name, name.partition(".")[0])})]
            )
            if groups.family in FAMILIES
            else ""
        )
        raise ConfigError(f"the selector {item!r} matches nothing{near}; {_what_exists(groups)}")
    if found["layers"]:
        pieces = _in_layers(groups, pieces, item, found["layers"])
    return _rows(pieces, item, found["rows"]) if found["rows"] else _selection(pieces)


def _in_group(groups: ParameterGroups, group: str) -> list[Piece]:
    def below(name: str) -> bool:
        return name == group or name.startswith(f"{group}.")

    return [piece for piece in groups.pieces if below(piece.group) or any(below(name) for name in piece.also_groups)]


def _by_name(groups: ParameterGroups, item: str) -> Selection:
    try:
        pattern = re.compile(item.removeprefix("name:") or "(?!)")  # no pattern matches nothing, not everything
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"the selector {item!r} is no regular expression: {error}; one with commas must be an item of a list"
        ) from None
    pieces = [piece for piece in groups.pieces if any(pattern.search(name) for name in (piece.name, *piece.also))]
    if not pieces:
        some = ", ".join(piece.name for piece in groups.pieces[:: max(len(groups.pieces) // 4, 1)][:4])
        raise ConfigError(f"the selector {item!r} matches no parameter; names look like {some}")
    return _selection(pieces)


def _numbers(text: str, size: int, item: str, what: str) -> set[int]:
    """Numbers of ``6..``, ``..4``, ``2..5``, ``-1`` or ``2+5``; ends are included, negative ones count from the end."""
    chosen: set[int] = set()
    for part in text.split("+"):
        found = re.fullmatch(r"(-?\d{1,9})?(\.\.)?(-?\d{1,9})?", part)
        if not found or not part or (found[1] is None and found[3] is None) or (found[3] and not found[2]):
            raise ConfigError(f"the selector {item!r}: {part[:40]!r} is no range; write 6.., ..4, 2..5, -1 or 2+5")
        first = int(found[1]) if found[1] else 0
        last = int(found[3]) if found[3] else (size - 1 if found[2] else first)
        first, last = (number + size if number < 0 else number for number in (first, last))
        if not 0 <= first <= last < size:
            raise ConfigError(f"the selector {item!r} asks for {what} {part}; there are {what} 0 to {size - 1}")
        chosen.update(range(first, last + 1))
    return chosen


def _in_layers(groups: ParameterGroups, pieces: list[Piece], item: str, text: str) -> list[Piece]:
    if all(piece.layer is None for piece in pieces):
        raise ConfigError(f"the selector {item!r} asks for blocks, but this group lies outside the blocks")
    layers = _numbers(text, groups.num_layers, item, "blocks")
    inside = [piece for piece in pieces if piece.layer in layers]
    if not inside:
        has = ", ".join(str(layer) for layer in sorted({p.layer for p in pieces if p.layer is not None}))
        raise ConfigError(f"the selector {item!r} matches nothing in these blocks; the group is in blocks {has}")
    return inside


def _rows(pieces: list[Piece], item: str, text: str) -> Selection:
    tables = [piece for piece in pieces if piece.group in ("embedding", "position") and len(piece.shape) == 2]
    if not tables:
        raise ConfigError(f"the selector {item!r} asks for rows, which only embedding and position have")
    chosen = Selection({})
    for piece in tables:
        mask = torch.zeros_like(piece.mask)
        mask[sorted(_numbers(text, len(mask), item, "rows"))] = True
        chosen = chosen | Selection({piece.name: mask})
    return chosen


# The elements of each group that a selection means, as indices into one dimension of a parameter.


def chosen_slices(
    model: nn.Module, selectors: str | Sequence[str] | Selection
) -> Iterator[tuple[Piece, nn.Parameter, Tensor]]:
    """Go through a selection group by group; what is fused comes apart.

    Args:
        model: The model.
        selectors: Selectors, or what they select.

    Yields:
        The piece, the parameter that it is of, and the chosen indices along ``piece.dim``, on the parameter's device.

    Raises:
        ConfigError: A selector that cannot be read or matches nothing.
    """
    groups = ParameterGroups(model)
    chosen = selectors if isinstance(selectors, Selection) else select(groups, selectors)
    parameters = dict(model.named_parameters())
    for piece in groups.pieces:
        if piece.name in chosen.masks:
            indices = torch.nonzero(chosen.masks[piece.name] & piece.mask)[:, 0]
            if len(indices):
                parameter = parameters[piece.name]
                yield piece, parameter, indices.to(parameter.device)


# What a model consists of and what of it may change, as one table before anything is trained.


@dataclass(frozen=True)
class GroupRow:
    """One group of the model."""

    group: str
    parameters: int
    """Elements; a shared tensor counts once."""
    share: float
    """Of all elements of the model."""
    trainable: int
    """Elements that may change."""
    weights: int
    """Elements of matrices and embeddings; the rest are biases and gains."""
    shapes: tuple[str, ...]
    """Different shapes in the group, each as ``2 x [64, 192]``."""
    layers: tuple[int, ...]
    """Blocks that it is in."""
    learning_rates: tuple[float, ...] = ()
    """Different peak learning rates, from low to high."""
    shared_with: tuple[str, ...] = ()
    """Groups whose tensor this is too: a tied head lives in the embedding."""


@dataclass(frozen=True)
class ParameterTable:
    """All groups of a model."""

    rows: tuple[GroupRow, ...]

    @property
    def total(self) -> int:
        """Elements of the model."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        """Elements that may change."""
        return sum(row.trainable for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """``total``, ``trainable`` and ``groups`` by name, for JSON."""
        return {
            "total": self.total,
            "trainable": self.trainable,
            "groups": {row.group: {key: v for key, v in asdict(row).items() if key != "group"} for row in self.rows},
        }


def parameter_table(
    groups: ParameterGroups, trainable: Selection | None = None, rates: Mapping[str, float] | None = None
) -> ParameterTable:
    """Count every group once.

    Args:
        groups: The model's groups.
        trainable: What may change; ``None`` means everything.
        rates: Peak learning rate by parameter name; ``None`` shows none.
    """
    chosen = groups.all if trainable is None else trainable
    total = sum(piece.numel for piece in groups.pieces)
    return ParameterTable(
        tuple(
            _row(group, [piece for piece in groups.pieces if piece.group == group], chosen, total, rates or {})
            for group in groups.names
        )
    )


def _row(group: str, pieces: list[Piece], chosen: Selection, total: int, rates: Mapping[str, float]) -> GroupRow:
    counts: dict[str, int] = {}
    for piece in pieces:
        shape = str(list(piece.shape))
        counts[shape] = counts.get(shape, 0) + 1
    parameters = sum(piece.numel for piece in pieces)
    return GroupRow(
        group=group,
        parameters=parameters,
        share=parameters / total,
        trainable=sum(chosen.numel(piece) for piece in pieces),
        weights=sum(piece.numel for piece in pieces if len(piece.shape) > 1),
        shapes=tuple(f"{count} x {shape}" for shape, count in counts.items()),
        layers=tuple(sorted({piece.layer for piece in pieces if piece.layer is not None})),
        learning_rates=tuple(
            sorted({rates[piece.name] for piece in pieces if piece.name in rates and chosen.numel(piece)})
        ),
        shared_with=tuple(sorted({name for piece in pieces for name in piece.also_groups})),
    )
