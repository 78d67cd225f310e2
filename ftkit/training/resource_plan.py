"""What a training will need, measured on the machine that will train: steps on few rows, then on more, thrown away.

A batch of one row is tried first, then two, four and so on, each only where those before say that it will fit and does
not take too long. What lies beyond is a straight line through the last two. Evaluation and generation are measured on
one batch, or computed from their logits where that batch does not fit.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from ftkit.config import TrainingSettings
from ftkit.errors import size
from ftkit.memory import MemoryMeter, available_memory, current_phase, return_freed_memory
from ftkit.models import is_adapter, save_model
from ftkit.models.packed_weights import packed_bytes
from ftkit.training.datasets import HeldOutDataset
from ftkit.training.doubts import doubt_of_predictions, training_doubts
from ftkit.training.engine import Engine
from ftkit.training.evaluation import JUDGED_WINDOWS, held_out_loss, rows_at_once
from ftkit.training.memory import peak_memory
from ftkit.tuning import check_adapter_gradients
from ftkit.tuning.optimizers import learning_rate_factor

__all__ = ["PhaseMemory", "PlannedTraining", "Planner", "WillNotFit", "memory_advice"]

_USABLE = 0.9
"""Share of the available memory that a plan may fill: kernels, allocators and Python need the rest."""
_ADVISED = 0.7
"""Share that advised batches fill: with gradient accumulation a process needed up to 20 % more than predicted."""
_STEPS, _SECONDS = 3, 20.0
"""Steps that are timed after a first one, and when to stop timing; a step that would take longer is not tried."""
_ADAPTER_STEPS = 2
"""Updates after which every tensor of an adapter has had a gradient, unless it trains single tokens."""
_EVALUATION_ROWS = 16
"""Windows of a forward pass of ``held_out_loss``."""
_DIVERGENCE_ROWS = 8
"""Windows of a forward pass of ``divergence_from_base``."""
_SPELLING_BYTES, _TEXTS_OF_HELDOUT = 105, 5
"""What the judge of spelling takes for each byte that it learns from (107 MB for 1 MB, 25 for 0.2), and how much more
that is than the held-out text, which is a fifth of it or less."""
_GENERATED_ROWS = 32
"""Passages of a block, which are written together."""
_ROWS, _TOKENS = 3, 60
"""Rows of the first batch that are shown, and how much of each."""
_SYMBOLS: dict[int, int | str] = {**{code: 0x2400 + code for code in range(32)}, 0x7F: 0x2421}
_SYMBOLS |= {0x0A: "⏎", 0x09: "⇥", 0xA0: "␣"}


class WillNotFit(Exception):
    """Stops the planning of a recipe: what comes next would need memory that is not there."""


@dataclass(frozen=True)
class PhaseMemory:
    """Memory at the worst moment of a phase of a run."""

    tensor_bytes: int
    """In tensors: on a CPU those of all models that are alive, on an accelerator what its allocator has given out."""
    rss_growth_bytes: int
    """Resident memory of the process above what it was when ftkit's modules were imported; 0 where the system does not
    tell it."""
    how: str
    """``measured``; ``extrapolated`` from fewer rows; or ``measured + computed`` where shapes of tensors were added."""

    def with_more(self, num_bytes: int) -> "PhaseMemory":
        """The same beside further tensors."""
        if not num_bytes:
            return self
        grown = self.rss_growth_bytes and self.rss_growth_bytes + num_bytes
        return PhaseMemory(self.tensor_bytes + num_bytes, grown, "measured + computed")

    def worst(self, other: "PhaseMemory | None") -> "PhaseMemory":
        """The larger of two, in either number."""
        if other is None:
            return self
        how = self.how if self.rss_growth_bytes >= other.rss_growth_bytes else other.how
        tensors = max(self.tensor_bytes, other.tensor_bytes)
        return PhaseMemory(tensors, max(self.rss_growth_bytes, other.rss_growth_bytes), how)


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
    """In tensors at the worst moment of a step: of forward and backward pass, or of the update."""
    update_bytes: int
    """In tensors at the worst moment of the update."""
    tried_rows: tuple[int, ...]
    """Batches that were measured; where the real one is not among them, the peak is extrapolated."""
    phases: dict[str, PhaseMemory]
    """Memory of the run while and after this training, by phase."""
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
    disk_bytes: dict[str, int] = field(default_factory=dict)
    """Most bytes that it takes on the disk, by what: checkpoints, weights of the best steps, the saved model."""
    plan: dict[str, Any] = field(default_factory=dict)
    """What ``training_plan`` says; empty where a recipe trains without log, such as a judge."""

    @property
    def seconds(self) -> float | None:
        """Predicted time of steps and evaluations."""
        return None if self.seconds_per_step is None else self.steps * self.seconds_per_step + self.evaluation_seconds


@dataclass(frozen=True)
class _Tried:
    """What a batch took."""

    rows: int
    memory: PhaseMemory
    seconds: float


class Planner:
    """Collects what a recipe would train; see ``ftkit.runs.planner``.

    Args:
        folder: A temporary folder, for the stand-ins of bases.
        memory: Bytes that may be used; ``None`` takes what the device has available.
        use_cpu: Whether the run stays on the CPU.
    """

    def __init__(self, folder: Path, memory: int | None = None, use_cpu: bool = False) -> None:
        self.folder = folder
        accelerator = None if use_cpu else torch.accelerator.current_accelerator(check_available=True)
        self.device = accelerator or torch.device("cpu")
        self.available = available_memory(self.device) if memory is None else memory
        self.meter = MemoryMeter()
        self.trainings: list[PlannedTraining] = []
        self.bases: list[str] = []
        self.passage_seconds = 0.0
        self.num_passages = 0
        self.tokens = 0
        """Tokens of a passage and its prompt that the recipe's models will write; 0 where they write none."""
        self._prefix = ""
        self._last: tuple[Any, Any] | None = None

    def training(self, engine: Engine) -> None:
        """Plan an engine that is not measured on held-out text."""
        self._add(engine, engine.objective.name, {}, None)

    def followed(self, engine: Engine, name: str, plan: dict[str, Any], heldout: HeldOutDataset | None) -> None:
        """Plan an engine that logs."""
        self._add(engine, name, plan, heldout)

    def passages(self, count: int, seconds: float) -> None:
        """Add the time of passages that are written before training."""
        self.num_passages += count
        self.passage_seconds += seconds

    def writing(self, tokens: int) -> None:
        """Note how long the passages of the recipe's models will be, with their prompts."""
        self.tokens = max(self.tokens, tokens)

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

    @property
    def phases(self) -> dict[str, PhaseMemory]:
        """Memory of each phase of the whole run, at its worst moment."""
        found: dict[str, PhaseMemory] = {}
        if (loading := self.meter.peaks.get("load")) is not None:
            found["load"] = PhaseMemory(0, loading, "measured")
        for training in self.trainings:
            for name, memory in training.phases.items():
                found[name] = memory.worst(found.get(name))
        return found

    def _add(self, engine: Engine, name: str, plan: dict[str, Any], heldout: HeldOutDataset | None) -> None:
        settings = engine.settings
        self._last = engine.model, engine.source.tokenizer
        self.meter.note()
        doubts = training_doubts(engine)
        if engine.source.num_classes is None and (doubt := doubt_of_predictions(engine)):
            doubts.append(doubt)
        trial = _Trial(engine, self.meter, self._usable)
        phases = {self._kind: trial.step}
        seconds, evaluation = trial.seconds_per_step, 0.0
        if self._fits(phases) and heldout is not None:
            phases |= self._after(engine, trial, heldout)
        fits = self._fits(phases)
        if fits and heldout is not None:
            evaluation = _evaluation_seconds(engine, heldout)
        rates = tuple(
            settings.learning_rate * learning_rate_factor(s, settings) for s in range(1, settings.max_steps + 1)
        )
        self.trainings.append(
            PlannedTraining(
                name=self._prefix + name, steps=settings.max_steps, rows=trial.rows, fixed_bytes=trial.fixed,
                row_bytes=trial.row, peak_bytes=trial.step.tensor_bytes, update_bytes=trial.update.tensor_bytes,
                tried_rows=tuple(tried.rows for tried in trial.tried), phases=phases, available_bytes=self.available,
                fits=fits, seconds_per_step=seconds if fits else None, evaluation_seconds=evaluation, schedule=rates,
                first_rows=tuple(_first_rows(engine)), advice=() if fits else tuple(self._advice(trial, phases)),
                warnings=tuple(doubts), disk_bytes=_disk_bytes(engine), plan=plan,
            )
        )  # fmt: skip
        if not fits:
            raise WillNotFit

    @property
    def _kind(self) -> str:
        """The phase to which a training belongs: that of a judge is the judge's."""
        return current_phase() or "train"

    def _usable(self, memory: PhaseMemory) -> bool:
        """Whether a phase fits, on an accelerator by its own memory."""
        on_cpu = self.device.type == "cpu"
        needed = memory.rss_growth_bytes if on_cpu and memory.rss_growth_bytes else memory.tensor_bytes
        return needed <= _USABLE * self.available

    def _fits(self, phases: dict[str, PhaseMemory]) -> bool:
        return all(self._usable(memory) for memory in phases.values())

    def _advice(self, trial: "_Trial", phases: dict[str, PhaseMemory]) -> Iterator[str]:
        usable = int(_ADVISED * self.available)
        for name, memory in phases.items():
            if self._usable(memory):
                continue
            if memory is trial.step:
                yield from memory_advice(trial.engine.settings, usable, *trial.line)
            else:
                yield (
                    f"{name} needs {size(max(memory.rss_growth_bytes, memory.tensor_bytes))}: a smaller window_tokens "
                    f"(it is {trial.engine.settings.window_tokens}), fewer or shorter passages, or a smaller model"
                )

    def _after(self, engine: Engine, trial: "_Trial", heldout: HeldOutDataset) -> dict[str, PhaseMemory]:
        """Evaluation, generation and judging while the model learns, and afterwards, when there are more models.

        After a training the model and its moments are freed. A run then holds the base, the model as it was saved, and
        a copy of the base whose weights are moved (of an adapter also one into which it is merged, and its own base).
        What ``ftkit plan`` does not load, it adds.
        """
        model, settings = engine.model, engine.settings
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        row_bytes = 4 * settings.window_tokens * _vocabulary(model)
        found = {"load": trial.idle().with_more(weights + 2 * row_bytes)}  # the reloaded model, and logits of both
        idle = trial.idle(touched=True)
        rows = rows_at_once(model, settings.window_tokens, _EVALUATION_ROWS)
        loss = idle.with_more(3 * rows * row_bytes)
        if self._usable(loss):
            loss = trial.measured(lambda: held_out_loss(model, heldout, rows))
        divergence = idle
        if getattr(settings, "general", None) is not None:  # probabilities of two models, and their difference
            pairs = rows_at_once(model, 2 * settings.window_tokens, _DIVERGENCE_ROWS)
            divergence = idle.with_more(3 * pairs * row_bytes)
        grown = loss.worst(divergence).with_more((3 if is_adapter(model) else 2) * weights)
        # Only while losses are computed is the scaled copy in memory; measured (tests/recipes/test_plan_memory.py).
        # While the model trains, moments are in memory, and at most eval_windows rows of logits. The divergence from
        # the base is computed before the scaled copy is made.
        trained = weights + _state_bytes(engine)
        after = loss.tensor_bytes - trained + (4 if is_adapter(model) else 2) * weights
        fewer = max(rows - min(rows, settings.eval_windows), 0)
        before = divergence.tensor_bytes - trained + (2 if is_adapter(model) else 1) * weights
        tensors = max(after, loss.tensor_bytes - 3 * fewer * row_bytes, before)
        found["evaluate"] = replace(grown, tensor_bytes=tensors)
        if self.tokens:
            written = packed_bytes(model) + _generation_bytes(model, _GENERATED_ROWS, self.tokens)
            found["generate"] = idle.with_more(weights + written)
            found["judge"] = idle.with_more(weights + _SPELLING_BYTES * heldout.num_bytes * _TEXTS_OF_HELDOUT)
        return found


def _disk_bytes(engine: Engine) -> dict[str, int]:
    """Most bytes that a training takes on the disk; one checkpoint more than are kept exists while it is written."""
    settings, weights = engine.settings, engine.weight_bytes()
    if engine.checkpoints is None:
        return {}
    found = {"saved model": weights}
    if settings.save_steps:
        checkpoints = min(settings.save_total_limit + 1, -(-settings.max_steps // settings.save_steps))
        found["checkpoints"] = checkpoints * engine.checkpoint_bytes()
    if settings.load_best_model_at_end:  # one for each checkpoint, the best of all, and the one that is written
        needed = settings.save_total_limit + 2 if settings.save_steps else 2
        found["best steps"] = min(needed, -(-settings.max_steps // settings.eval_steps)) * weights
    return found


def _state_bytes(engine: Engine) -> int:
    """Bytes of the optimizers' moments."""
    states = (state for optimizer in engine.optimizers for state in optimizer.state.values())
    tensors = (value for state in states for value in state.values() if isinstance(value, torch.Tensor))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class _Trial:
    """What steps of an engine take, from one row to as many as fit and as there is time for.

    Args:
        engine: What is planned.
        meter: Measures the process.
        usable: Whether a phase fits.
    """

    def __init__(self, engine: Engine, meter: MemoryMeter, usable: Callable[[PhaseMemory], bool]) -> None:
        self.engine, self._meter = engine, meter
        settings = engine.settings
        self.rows = settings.per_device_train_batch_size
        self.tried: list[_Tried] = []
        self._alive: list[torch.Tensor] = []
        self.seconds_per_step: float | None = None
        self.update = self._idle = self.idle()
        least = sum(p.numel() * p.element_size() for p in engine.parameters)  # gradients; the moments come on top
        if not usable(self._idle.with_more(least)):
            self.step = self._idle.with_more(3 * least)
            return
        self._backward(1)
        self._step_optimizers()  # makes the moments
        self._zero()
        self._idle = self.idle()
        self._alive = list(_living(engine.accelerator.device))
        self._backward(1)
        self.update = self.measured(self._step_optimizers)
        if settings.gradient_accumulation_steps == 1:  # else gradients live on while the next micro-batch goes forward
            self._zero()
        for rows in self._ladder():
            if self.tried and not (usable(self._foreseen(rows)) and self._seconds(rows) <= _SECONDS):
                break
            self.tried.append(self._try(rows))
        self._zero()
        self.step = self._foreseen(self.rows).worst(self.update)
        seconds = self._seconds(self.rows) * settings.gradient_accumulation_steps
        if usable(self.step) and self.tried[-1].rows == self.rows and seconds <= _SECONDS:
            self._real_steps()
        elif usable(self.step):
            self.seconds_per_step = seconds

    @property
    def line(self) -> tuple[int, int]:
        """Fixed bytes and bytes a row, of the process where it is known, for advice."""
        of_rss = self.engine.accelerator.device.type == "cpu" and self._idle.rss_growth_bytes
        at_0, at_1 = self._foreseen(0), self._foreseen(1)
        if of_rss:
            return at_0.rss_growth_bytes, at_1.rss_growth_bytes - at_0.rss_growth_bytes
        return self.fixed, self.row

    @property
    def fixed(self) -> int:
        """Bytes in tensors whatever the batch."""
        return self._foreseen(0).tensor_bytes

    @property
    def row(self) -> int:
        """Further bytes in tensors for each row."""
        return self._foreseen(1).tensor_bytes - self.fixed

    def idle(self, touched: bool = False) -> PhaseMemory:
        """What is alive between two steps.

        Args:
            touched: Whether all of it is read first: weights that were mapped from a file are resident once they are.
        """
        gc.collect()
        return_freed_memory()
        living = {tensor.untyped_storage()._cdata: tensor for tensor in _living(self.engine.accelerator.device)}
        num_bytes = sum(tensor.untyped_storage().nbytes() for tensor in living.values())
        for tensor in living.values() if touched else ():
            if tensor.device.type == "cpu" and tensor.numel():  # a byte of every page
                torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())[::4096].max()
        return PhaseMemory(num_bytes, self._meter.growth(), "measured")

    def measured(self, action: Callable[[], object]) -> PhaseMemory:
        """What an action takes at its worst moment, beside everything that is alive."""
        gradients = [parameter.grad for parameter in self.engine.parameters if parameter.grad is not None]
        with peak_memory([*self._alive, *gradients], self.engine.accelerator.device) as found:
            grown = self._meter.peak_of(action)
        return PhaseMemory(found.num_bytes, grown, "measured")

    def _ladder(self) -> Iterator[int]:
        rows = 1
        while rows < self.rows:
            yield rows
            rows *= 2
        yield self.rows

    def _foreseen(self, rows: int) -> PhaseMemory:
        """The straight line through the two largest batches that were tried."""
        if not self.tried:
            return self.step
        last = self.tried[-1]
        if last.rows == rows:
            return last.memory
        if len(self.tried) > 1:
            first = self.tried[-2]
        else:
            gradients = sum(p.numel() * p.element_size() for p in self.engine.parameters)
            first = _Tried(0, self._idle.with_more(gradients), 0.0)

        def at(name: str) -> int:
            low, high = getattr(first.memory, name), getattr(last.memory, name)
            slope = max(high - low, 0) / (last.rows - first.rows)
            return int(high + slope * (rows - last.rows))

        return PhaseMemory(at("tensor_bytes"), at("rss_growth_bytes"), "extrapolated")

    def _seconds(self, rows: int) -> float:
        """Time of one forward and backward pass, by the same line."""
        last = self.tried[-1]
        first = self.tried[-2] if len(self.tried) > 1 else _Tried(0, last.memory, 0.0)
        slope = max(last.seconds - first.seconds, 0.0) / (last.rows - first.rows)
        return last.seconds + slope * (rows - last.rows)

    def _try(self, rows: int) -> _Tried:
        started = time.perf_counter()
        memory = self.measured(lambda: self._backward(rows))
        seconds = time.perf_counter() - started
        if self.engine.settings.gradient_accumulation_steps == 1:
            self._zero()
        return _Tried(rows, memory, seconds)

    def _zero(self) -> None:
        for optimizer in self.engine.optimizers:
            optimizer.zero_grad()

    def _backward(self, rows: int) -> None:
        engine = self.engine
        device = engine.accelerator.device
        batch = {name: tensor.to(device) for name, tensor in engine.source.rows(range(rows)).items()}
        engine.module.train()
        with engine.accelerator.autocast():
            loss = engine.module(batch).sum()
        engine.accelerator.backward(loss)

    def _step_optimizers(self) -> None:
        """An update at a learning rate of 0, which changes nothing."""
        for optimizer in self.engine.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.0
            optimizer.step()

    def _real_steps(self) -> None:
        """The engine's own steps: the peak of the first, and the median time of a few."""
        seconds: list[float] = []
        real = self.measured(lambda: seconds.append(self.engine._update().seconds))
        self.step = real.worst(self.update)
        if seconds[0] < _SECONDS:
            seconds.clear()
        while len(seconds) < _STEPS and sum(seconds) < _SECONDS:
            seconds.append(self.engine._update().seconds)
        self.seconds_per_step = median(seconds)
        if self.engine._adapter_checked_at == _ADAPTER_STEPS and self.engine.settings.learning_rate and seconds[1:]:
            optimizers = [getattr(optimizer, "optimizer", optimizer) for optimizer in self.engine.optimizers]
            check_adapter_gradients(self.engine.model, optimizers)


# --- Memory ---


def _vocabulary(model: Any) -> int:
    return int(model.config.get_text_config().vocab_size)


def _generation_bytes(model: Any, rows: int, tokens: int) -> int:
    """Keys and values of the passages that are written together, and the scores that a token is drawn from."""
    config = model.config.get_text_config()
    heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    cached = 2 * config.num_hidden_layers * heads * width * tokens
    scores = 7 * _vocabulary(model)  # logits, what is allowed, probabilities, and their sums in float64
    return int(rows * 4 * (cached + scores))


def memory_advice(settings: TrainingSettings, usable: int, fixed: int, row_bytes: int) -> list[str]:
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
            f"same batches in smaller parts (a step then needs about {size(fixed + fitting * row_bytes)})"
        )
    if not settings.activation_checkpointing and fixed < usable:
        found.append("activation_checkpointing: true keeps fewer activations and computes them again: slower")
    if fixed < usable:
        found.append(f"a smaller window_tokens (it is {settings.window_tokens}) needs less for each row")
    else:
        found.append(
            f"without a single row it takes {size(fixed)}: train fewer weights (freeze, train, or peft: lora where the "
            "recipe has it), take optimizer: sgd, or a smaller model"
        )
    return found


def _living(device: torch.device) -> Iterator[torch.Tensor]:
    """All tensors on a device, those of other models too."""
    objects = gc.get_objects()
    # The type is asked, not the item: isinstance would wake lazy modules and proxies. The storage is asked, not the
    # tensor: a fake one says that it is on a device where it takes no memory.
    kinds = {kind for kind in set(map(type, objects)) if issubclass(kind, torch.Tensor)}
    for item in objects:
        if type(item) in kinds and item.layout == torch.strided and item.untyped_storage().device.type == device.type:
            yield item


# --- Time, and what the model sees ---


def _evaluation_seconds(engine: Engine, heldout: HeldOutDataset) -> float:
    """Evaluations on the held-out sample while it trains, and on what a verdict reads of it, before and after."""
    settings, windows = engine.settings, len(heldout)
    timed = min(rows_at_once(engine.model, settings.window_tokens, _EVALUATION_ROWS), windows, settings.eval_windows)
    started = time.perf_counter()
    held_out_loss(engine.model, heldout, timed)
    each = (time.perf_counter() - started) / max(timed, 1)
    times: int = 1 + math.ceil(settings.max_steps / settings.eval_steps)
    return float(each * (times * min(windows, settings.eval_windows) + 2 * min(windows, JUDGED_WINDOWS)))


def _first_rows(engine: Engine) -> Iterator[str]:
    """The first rows of the first batch as text, white space and control characters visible."""
    rows = min(_ROWS, engine.settings.per_device_train_batch_size)
    batch, tokenizer = engine.source.rows(np.arange(rows)), engine.source.tokenizer
    for ids in batch["input_ids"]:
        shown = ids[:_TOKENS].tolist()
        text = str(tokenizer.decode(shown)).translate(_SYMBOLS) if tokenizer else " ".join(map(str, shown))
        yield text + (f" … ({len(ids)} tokens)" if len(ids) > _TOKENS else f" ({len(ids)} tokens)")
