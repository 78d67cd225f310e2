"""Freezing that holds: no gradient, no optimizer state, no decay, bit-identical afterwards.

Whole tensors are frozen by ``requires_grad``. A slice (the query part of a fused matrix, some rows of an embedding)
cannot be: its gradient is zeroed before the norm is taken, and its values are put back after the update, because weight
decay and momentum move elements without gradient too. Freezing that changes with time keeps ``requires_grad`` and drops
the gradient instead: DDP decides once, when it wraps the model, which gradients it averages, and a tensor thawed later
would drift apart between processes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from ftkit.config import TrainingSettings
from ftkit.errors import ConfigError
from ftkit.tuning.groups import ParameterGroups, Selection, requiring_grad, select, trainable_selection
from ftkit.tuning.shards import local_indices, local_part

__all__ = ["Freezing", "FrozenSpan", "freeze"]


@dataclass(frozen=True)
class FrozenSpan:
    """What is frozen from one update to another, counted from 1, both included."""

    selection: Selection
    first: int
    last: int | None
    """``None``: to the end."""

    def holds(self, step: int) -> bool:
        """Whether it is frozen at an update."""
        return self.first <= step and (self.last is None or step <= self.last)


def freeze(model: nn.Module, settings: TrainingSettings) -> "Freezing":
    """Freeze what the settings say.

    Args:
        model: The model, before anything wraps it; ``requires_grad`` of its parameters is set.
        settings: ``train``, ``freeze``, ``freeze_until``, ``freeze_from`` and ``unfreeze_every`` are read.

    Returns:
        What the engine asks around each update.

    Raises:
        ConfigError: A selector that matches nothing, or nothing that could ever be trained.
    """
    groups = ParameterGroups(model)
    if settings.train is not None or settings.freeze is not None:
        trainable = trainable_selection(groups, settings.train, settings.freeze)
    else:  # what the caller (or an adapter) has frozen stays so
        trainable = requiring_grad(model, groups)
    spans = [FrozenSpan(select(groups, text), 1, step) for text, step in settings.freeze_until.items()]
    spans += [FrozenSpan(select(groups, text), step + 1, None) for text, step in settings.freeze_from.items()]
    spans += _unfrozen_from_the_top(groups, settings.unfreeze_every) if settings.unfreeze_every else []
    for text in settings.freeze_until | settings.freeze_from:
        if not select(groups, text) & trainable:
            raise ConfigError(f"{text!r} is frozen for the whole run, so a time for it has no effect; remove the time")
    freezing = Freezing(model, groups, trainable, spans)
    if never := trainable - freezing.ever_free(settings.max_steps):
        found = sorted({piece.group for piece in groups.pieces if never.numel(piece)})
        raise ConfigError(
            f"{', '.join(found)}: freeze_until, freeze_from and unfreeze_every leave no step of max_steps: "
            f"{settings.max_steps} in which all of it may change; set earlier steps, or freeze it for good"
        )
    return freezing


def _unfrozen_from_the_top(groups: ParameterGroups, every: int) -> list[FrozenSpan]:
    """Spans of gradual unfreezing: head and last block train at once, every further block ``every`` updates later,
    and what lies below the blocks with the last of them."""
    spans = [
        FrozenSpan(select(groups, f"all@{layer}"), 1, every * (groups.num_layers - 1 - layer))
        for layer in range(groups.num_layers - 1)
    ]
    if groups.below_blocks and groups.num_layers > 1:
        below = Selection({name: groups.all.masks[name] for name in groups.below_blocks})
        spans.append(FrozenSpan(below, 1, every * (groups.num_layers - 1)))
    return spans


class Freezing:
    """Keeps frozen what is frozen, around each update: ``drop_gradients`` before the norm, ``held`` around the update.

    Args:
        model: The model; ``requires_grad`` of its parameters is set.
        groups: Its groups.
        trainable: What may ever change.
        spans: What of it is frozen for a time.

    Raises:
        ConfigError: Nothing may change.
    """

    def __init__(
        self, model: nn.Module, groups: ParameterGroups, trainable: Selection, spans: Sequence[FrozenSpan] = ()
    ) -> None:
        if not trainable:
            raise ConfigError(f"nothing to train: all {len(groups.all.masks)} tensors of the model are frozen")
        self.groups, self.trainable, self.spans = groups, trainable, tuple(spans)
        self._dims = groups.dims
        self._parameters = dict(model.named_parameters())
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(name in trainable.masks)
        self._last_held: tuple[tuple[bool, ...] | None, dict[str, Tensor | None]] = None, {}

    def ever_free(self, max_steps: int) -> Selection:
        """What at least one of the first ``max_steps`` updates may change."""
        free = Selection({})
        for step in {1, *(span.last + 1 for span in self.spans if span.last)}:
            if step <= max_steps:
                free = free | (self.groups.all - self.frozen(step))
        return free

    def frozen(self, step: int) -> Selection:
        """What update ``step``, counted from 1, must not change."""
        kept = self.trainable
        for span in self.spans:
            if span.holds(step):
                kept = kept - span.selection
        return self.groups.all - kept

    def _held(self, step: int) -> Iterator[tuple[str, nn.Parameter, Tensor | None]]:
        """Frozen parameters that autograd does not know as such, with the frozen indices, ``None`` for all of them."""
        holding = tuple(span.holds(step) for span in self.spans)
        if holding != self._last_held[0]:
            found = {
                name: None if mask.all() else mask.nonzero()[:, 0]
                for name, mask in self.frozen(step).masks.items()
                if self._parameters[name].requires_grad
            }
            self._last_held = holding, found
        for name, indices in self._last_held[1].items():
            parameter = self._parameters[name]
            here = None if indices is None else local_indices(parameter, self._dims[name], indices)
            yield name, parameter, None if here is None else here.to(parameter.device)

    def follow_wrapping(self, model: nn.Module) -> None:
        """Hold what a wrapper has put in the place of the parameters.

        Args:
            model: The same model after accelerate has wrapped it.
        """
        self._parameters = dict(model.named_parameters())

    def drop_gradients(self, step: int) -> None:
        """Remove the gradient of what update ``step`` must not change, so that no norm and no moment sees it.

        Args:
            step: The update, counted from 1.
        """
        for name, parameter, indices in self._held(step):
            if indices is None:
                parameter.grad = None
            elif parameter.grad is not None:
                local_part(parameter.grad).index_fill_(self._dims[name], indices, 0.0)

    @contextmanager
    def held(self, step: int) -> Iterator[None]:
        """Put frozen slices back, bit for bit, after the update that runs inside.

        Args:
            step: The update, counted from 1.
        """
        found = [
            (local_part(parameter), self._dims[name], indices)
            for name, parameter, indices in self._held(step)
            if indices is not None
        ]
        kept = [(part, dim, indices, part.index_select(dim, indices)) for part, dim, indices in found]
        yield
        for part, dim, indices, values in kept:
            part.index_copy_(dim, indices, values)
