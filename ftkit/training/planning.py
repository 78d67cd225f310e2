"""What a training will need, measured on the machine that will train: a few real steps at the real shape, thrown away.

Memory is measured on small batches first and extended to the real one, so that a step that will not fit is never tried.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from ftkit.memory import available_memory
from ftkit.models import save_model
from ftkit.training.engine import Engine
from ftkit.training.evaluation import held_out_loss
from ftkit.training.memory import peak_memory
from ftkit.tuning.schedules import learning_rate_factor, schedule_warning

__all__ = ["PlannedTraining", "Planner", "WillNotFit", "memory_advice"]

_USABLE = 0.9
"""Share of the available memory that a plan may fill: kernels, allocators and Python need the rest."""
_STEPS, _SECONDS = 3, 20.0
"""Steps that are timed after a first one, and when to stop timing."""
_WINDOWS = 16
"""Held-out windows that are timed."""
_ROWS, _TOKENS = 3, 60
"""Rows of the first batch that are shown, and how much of each."""
_SYMBOLS: dict[int, int | str] = {**{code: 0x2400 + code for code in range(32)}, 0x7F: 0x2421}
_SYMBOLS |= {0x0A: "⏎", 0x09: "⇥", 0xA0: "␣"}


class WillNotFit(Exception):
    """Stops the planning of a recipe: what comes next would need a step that does not fit."""


@dataclass(frozen=True)
class PlannedTraining:
    """One training of a recipe."""

    name: str
    steps: int
    rows: int
    """Rows of a batch on one process."""
    fixed_bytes: int
    """Weights, moments, gradients and everything else that lives during a step, whatever the batch."""
    row_bytes: int
    """Further memory for each row of a batch."""
    peak_bytes: int
    """At the worst moment of a real step; predicted where the step does not fit."""
    available_bytes: int
    fits: bool
    seconds_per_step: float | None
    evaluation_seconds: float
    """All evaluations while it trains, and of the whole held-out text before and after."""
    schedule: tuple[float, ...]
    """Learning rate of each update."""
    first_rows: tuple[str, ...]
    """The first rows of the first batch, as the model sees them."""
    advice: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    plan: dict[str, Any] = field(default_factory=dict)
    """What ``training_plan`` says; empty where a recipe trains without diary, such as a judge."""

    @property
    def seconds(self) -> float | None:
        """Predicted time of steps and evaluations."""
        return None if self.seconds_per_step is None else self.steps * self.seconds_per_step + self.evaluation_seconds


class Planner:
    """Collects what a recipe would train; see ``ftkit.runs.planning``.

    Args:
        folder: A temporary folder, for the stand-ins of bases.
        memory: Bytes that may be used; ``None`` takes what the device has available.
        use_cpu: Whether the run stays on the CPU.
    """

    def __init__(self, folder: Path, memory: int | None = None, use_cpu: bool = False) -> None:
        self.folder = folder
        accelerator = None if use_cpu else torch.accelerator.current_accelerator(check_available=True)
        self.available = available_memory(accelerator or torch.device("cpu")) if memory is None else memory
        self.trainings: list[PlannedTraining] = []
        self.bases: list[str] = []
        self.passage_seconds = 0.0
        self.num_passages = 0
        self._prefix = ""
        self._last: tuple[Any, Any] | None = None

    def training(self, engine: Engine) -> None:
        """Plan an engine that is not measured on held-out text."""
        self._add(engine, engine.objective.name, {}, None)

    def followed(self, engine: Engine, name: str, plan: dict[str, Any], heldout: Any) -> None:
        """Plan an engine with a diary."""
        self._add(engine, name, plan, heldout)

    def passages(self, count: int, seconds: float) -> None:
        """Add the time of passages that are written before training."""
        self.num_passages += count
        self.passage_seconds += seconds

    def base(self, name: str, make: Callable[[Path], None]) -> Path:
        """Plan the making of a base, and leave one of its shape where the made one would be."""
        self.bases.append(name)
        self._prefix, before = f"{name}: ", self._prefix
        folder = self.folder / f"base-{len(self.bases)}"
        make(folder / "run")
        self._prefix = before
        assert self._last is not None  # a recipe that makes a base follows an engine
        save_model(*self._last, folder / "model")
        return folder / "model"

    def _add(self, engine: Engine, name: str, plan: dict[str, Any], heldout: Any) -> None:
        settings = engine.settings
        self._last = engine.model, tokenizer_of(engine.source)
        _peaks(engine, 1, [])  # makes the moments
        alive = list(_living(engine.accelerator.device))
        (one, updating), (two, _) = _peaks(engine, 1, alive), _peaks(engine, 2, alive)
        rows, row_bytes = settings.per_device_train_batch_size, max(two - one, 0)
        fixed = one - row_bytes
        if settings.gradient_accumulation_steps > 1:
            fixed += _gradient_bytes(engine)  # they live on while the next micro-batch goes forward
        peak = max(fixed + rows * row_bytes, updating)
        fits = peak <= _USABLE * self.available
        seconds, evaluation = None, 0.0
        if fits:
            seconds, peak = _timed_steps(engine, alive)
            fits = peak <= _USABLE * self.available
            evaluation = _evaluation_seconds(engine, heldout) if heldout is not None else 0.0
        rates = tuple(
            settings.learning_rate * learning_rate_factor(s, settings) for s in range(1, settings.max_steps + 1)
        )
        warning = schedule_warning(settings)
        advice = [] if fits else memory_advice(settings, int(_USABLE * self.available), fixed, row_bytes)
        self.trainings.append(
            PlannedTraining(
                name=self._prefix + name, steps=settings.max_steps, rows=rows, fixed_bytes=fixed, row_bytes=row_bytes,
                peak_bytes=peak, available_bytes=self.available, fits=fits, seconds_per_step=seconds,
                evaluation_seconds=evaluation, schedule=rates, first_rows=tuple(_first_rows(engine)),
                advice=tuple(advice), warnings=(warning,) if warning else (), plan=plan,
            )
        )  # fmt: skip
        if not fits:
            raise WillNotFit


# --- Memory ---


def memory_advice(settings: Any, usable: int, fixed: int, row_bytes: int) -> list[str]:
    """What to change so that a step fits.

    Args:
        settings: The run's.
        usable: Bytes that a step may take.
        fixed: Bytes that it takes whatever the batch.
        row_bytes: Further bytes for each row.

    Returns:
        Sentences that name settings and values, the mildest change first.
    """
    batch = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    most = int((usable - fixed) // row_bytes) if row_bytes else 0
    fitting = max((rows for rows in range(1, min(most, batch) + 1) if batch % rows == 0), default=0)
    found = []
    if fitting:
        found.append(
            f"per_device_train_batch_size: {fitting} with gradient_accumulation_steps: {batch // fitting} takes the "
            f"same batches in smaller parts (a step then needs about {(fixed + fitting * row_bytes) / 1e9:.2f} GB)"
        )
    if not settings.activation_checkpointing and fixed < usable:
        found.append("activation_checkpointing: true keeps fewer activations and computes them again: slower")
    if fixed < usable:
        found.append(f"a smaller window_tokens (it is {settings.window_tokens}) needs less for each row")
    else:
        found.append(
            f"weights, gradients and moments alone take {fixed / 1e9:.2f} GB: train fewer of them (freeze, train, or "
            "peft: lora where the recipe has it), take optimizer: sgd, or a smaller model"
        )
    return found


def _living(device: torch.device) -> Iterator[torch.Tensor]:
    """All tensors on a device, those of other models too."""
    for item in gc.get_objects():
        # The type is asked, not the item: isinstance would wake lazy modules and proxies.
        if issubclass(type(item), torch.Tensor) and item.layout == torch.strided and item.device.type == device.type:
            yield item


def _gradient_bytes(engine: Engine) -> int:
    return sum(p.numel() * p.element_size() for p in engine.parameters)


def _peaks(engine: Engine, rows: int, alive: list[torch.Tensor]) -> tuple[int, int]:
    """Peak of the backward pass on so few rows, and of an update at a learning rate of 0, which changes nothing.

    Args:
        engine: What is planned, without gradients.
        rows: In the batch.
        alive: All other tensors, which were looked for once because that takes longer than a small step.
    """
    device = engine.accelerator.device
    batch = {name: tensor.to(device) for name, tensor in engine.source.rows(range(rows)).items()}
    engine.module.train()
    with peak_memory([*alive, *batch.values()], device) as found:
        with engine.accelerator.autocast():
            loss = engine.module(batch).sum()
        engine.accelerator.backward(loss)
        del loss
    gradients = [parameter.grad for parameter in engine.parameters if parameter.grad is not None]
    with peak_memory([*alive, *batch.values(), *gradients], device) as updating:
        for optimizer in engine.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.0
            optimizer.step()
            optimizer.zero_grad()
    return found.num_bytes, updating.num_bytes


def _timed_steps(engine: Engine, alive: list[torch.Tensor]) -> tuple[float, int]:
    """Median seconds of a few real steps, and the peak of one."""
    device = engine.accelerator.device
    with peak_memory(alive, device) as found:
        engine._update()
    seconds: list[float] = []
    while len(seconds) < _STEPS and sum(seconds) < _SECONDS:
        seconds.append(engine._update().seconds)
    return median(seconds), found.num_bytes


# --- Time, and what the model sees ---


def _evaluation_seconds(engine: Engine, heldout: Any) -> float:
    """Evaluations on the held-out sample while it trains, and on all held-out text before and after."""
    settings, source = engine.settings, engine.source
    masking = getattr(source, "masking", None)
    tokens = masking.text_tokens(settings.window_tokens) if masking else settings.window_tokens
    windows = heldout.num_tokens // tokens
    timed = min(_WINDOWS, windows, settings.eval_windows)
    started = time.perf_counter()
    held_out_loss(engine.model, heldout, settings.window_tokens, masking=masking, max_windows=timed)
    each = (time.perf_counter() - started) / max(timed, 1)
    times: int = 1 + math.ceil(settings.max_steps / settings.eval_steps)
    return float(each * (times * min(windows, settings.eval_windows) + 2 * windows))


def tokenizer_of(source: Any) -> Any:
    """The tokenizer that made a source's rows; ``None`` where it is not known."""
    return getattr(source, "tokenizer", None) or getattr(getattr(source, "store", None), "tokenizer", None)


def _first_rows(engine: Engine) -> Iterator[str]:
    """The first rows of the first batch as text, white space and control characters visible."""
    rows = min(_ROWS, engine.settings.per_device_train_batch_size)
    batch, tokenizer = engine.source.rows(np.arange(rows)), tokenizer_of(engine.source)
    for ids in batch["input_ids"]:
        shown = ids[:_TOKENS].tolist()
        text = str(tokenizer.decode(shown)).translate(_SYMBOLS) if tokenizer else " ".join(map(str, shown))
        yield text + (f" … ({len(ids)} tokens)" if len(ids) > _TOKENS else f" ({len(ids)} tokens)")
