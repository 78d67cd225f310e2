"""The loop: a generator that yields one record for each optimizer update.

The caller's ``for`` is the training run: early stop is ``break``, a probe is an ``if``, lock-step is ``zip``. A step is
seed, backward over the micro-batches, mask, check, clip, update, restore. What the caller does between two steps
(evaluate, sample) cannot change the training: every step seeds the random generators anew from (seed, step, process).
"""

import logging
import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np
import torch
from accelerate.utils import DistributedType, reduce
from transformers import PreTrainedModel

from ftkit.config import TrainingSettings
from ftkit.errors import CheckpointError, DeviceError, DivergedError, InterruptedRun
from ftkit.memory import memory_phase
from ftkit.models import is_adapter
from ftkit.runs.planner import planner
from ftkit.runs.processes import broadcast_from_main, sync_errors
from ftkit.training.accelerator import WholeModel, make_accelerator
from ftkit.training.checkpoints import CheckpointFolder
from ftkit.training.datasets import Dataset
from ftkit.training.divergence import diagnosis
from ftkit.training.fused_layers import fuse_layers
from ftkit.training.memory import memory_remedies, peak_memory
from ftkit.training.objectives import Batch, LossModule, Objective, WeightedSum
from ftkit.tuning import Clipping, build_optimizers, check_adapter_gradients, freeze, learning_rate_factor
from ftkit.tuning.shards import is_sharded, local_part

__all__ = ["Engine", "StepRecord", "lockstep"]

_logger = logging.getLogger("ftkit.training")


@dataclass(frozen=True)
class StepRecord:
    """What one update did."""

    step: int
    """Updates done, this one included."""
    loss: float
    """Mean over the targets of the whole batch, in nats, before the update."""
    grad_norm: float
    """Global norm of the gradient before clipping."""
    group_norms: dict[str, float]
    """The same of each group, and of the selectors that are watched."""
    clip_factor: float
    """What clipping left of the global norm: 1 where nothing was cut."""
    lost_norm: float
    """How much of the global norm was cut."""
    learning_rate: float
    """Rate of AdamW that the update used."""
    num_targets: int
    """Targets in the batch, over all micro-batches and processes; of several objectives those of the first."""
    seconds: float
    """Wall time of the step, without what the caller does between steps."""
    losses: dict[str, float] = field(default_factory=dict)
    """Of several objectives the mean loss of each, unweighted."""


class Engine:
    """Trains one model on one source; a context manager over which one iterates.

    Args:
        model: The model; it is trained in place.
        objective: What to minimise.
        source: Where rows come from.
        settings: Steps, batch, rates, precision, cadence of checkpoints.
        checkpoints: Where checkpoints go and are resumed from; ``None`` keeps none.

    Raises:
        DeviceError: The device cannot do what the settings ask.
        CheckpointError: A checkpoint was made with other data or cannot be read.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        objective: Objective | WeightedSum,
        source: Dataset,
        settings: TrainingSettings,
        checkpoints: CheckpointFolder | None = None,
    ) -> None:
        self.model, self.objective, self.source, self.settings, self.checkpoints = (
            model,
            objective,
            source,
            settings,
            checkpoints,
        )
        self.accelerator = make_accelerator(settings)
        if settings.activation_checkpointing:
            # transformers 5.23 renamed it: the old name goes in 6, the new one is missing in 5.18.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
            # transformers lets the embeddings' output ask for a gradient, which only reentrant checkpoints need: all
            # frozen blocks would be computed again and passed through backward.
            if getattr(model, "_require_grads_hook", None) is not None:
                model.disable_input_require_grads()
        fuse_layers(model)
        self.freezing = freeze(model, settings)
        optimizers = build_optimizers(model, settings)
        self._whole = WholeModel(model) if self.accelerator.is_fsdp2 else None
        self.module, *self.optimizers = self.accelerator.prepare(LossModule(model, objective), *optimizers)
        self.freezing.follow_wrapping(model)
        self.clipping = Clipping(model, self.freezing.groups, settings)
        self.parameters = self.clipping.parameters
        self._modules = list(self.module.modules())
        self._steppers = self._what_steps()
        self.step = 0
        self.kept: dict[str, Any] = {}
        """Numbers of the caller that go into checkpoints; a resumed engine has those of its checkpoint."""
        self._interrupted_by = 0
        self._previous_handlers: dict[int, Any] = {}
        self._resume()
        needed = self.checkpoint_bytes() if settings.save_steps else 0
        needed += self.weight_bytes() if settings.load_best_model_at_end else 0
        if checkpoints and needed and self.step < settings.max_steps:
            with sync_errors():
                if self.accelerator.is_main_process:
                    checkpoints.check_room(needed)

    # -- the state that a checkpoint holds --------------------------------------------------------------------------

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Parameters and persistent buffers by name, a shared tensor once; of a model with an adapter the adapter's."""
        named = dict(self.model.named_parameters())
        if is_adapter(self.model):
            return {name: parameter for name, parameter in named.items() if parameter.requires_grad}
        persistent = self.model.state_dict().keys()
        return named | {name: buffer for name, buffer in self.model.named_buffers() if name in persistent}

    def checkpoint_bytes(self) -> int:
        """What a checkpoint will need at least: weights, and two moments where the optimizer surely has them."""
        moments = 2 if "adam" in self.settings.optimizer else 0
        return self.weight_bytes() + moments * sum(p.numel() * p.element_size() for p in self.parameters)

    def weight_bytes(self) -> int:
        """What the weights of a checkpoint need on the disk."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._tensors().values())

    @property
    def _adapter_checked_at(self) -> int:
        """When every tensor of an adapter must have had a gradient; single tokens may be rare in the text."""
        if not is_adapter(self.model) or self.settings.max_steps < 2:
            return 0
        rare = getattr(self.model.peft_config["default"], "trainable_token_indices", None)
        return self.settings.max_steps if rare else 2

    @property
    def _base_sha256(self) -> str | None:
        """What an adapter stands on; its checkpoints do not hold it."""
        record: Any = getattr(self.model, "base_record", None)
        return record.sha256 if record else None

    def _resume(self) -> None:
        if self.checkpoints is None:
            return
        with sync_errors():  # process 0 chooses: it has sealed them, and all must go on from one step
            path = self.checkpoints.newest_valid() if self.accelerator.is_main_process else None
        if (path := broadcast_from_main(path)) is None:
            return
        inner = [getattr(optimizer, "optimizer", optimizer) for optimizer in self.optimizers]
        with sync_errors():
            state = self.checkpoints.load(path, self._tensors(), inner)
        if state.get("base") != self._base_sha256:
            raise CheckpointError(
                f"{path}: its adapter was trained on a different base, so this run cannot continue it"
            )
        if state["fingerprint"] != self.source.fingerprint:
            raise CheckpointError(
                f"{path}: was trained with a different text, tokenizer, window, batch or seed, so this run cannot "
                "continue it; use the same ones, or start a new run"
            )
        if (scaler := self.accelerator.scaler) is not None and "scaler" in state:
            scaler.load_state_dict(state["scaler"])
        self.step, self.kept = int(state["step"]), state.get("kept", {})
        _logger.info("resuming from %s (step %d of %d)", path, self.step, self.settings.max_steps)

    def save(self) -> None:
        """Write a checkpoint of the current step; every process calls it, and those write that hold something.

        Raises:
            DivergedError: A weight is not finite; earlier checkpoints stay the newest.
        """
        self._check_finite()
        if self.checkpoints is None:
            return
        state: dict[str, Any] = {"fingerprint": self.source.fingerprint}
        if self._base_sha256:
            state["base"] = self._base_sha256
        if (scaler := self.accelerator.scaler) is not None:
            state["scaler"] = scaler.state_dict()
        if self.kept:
            state["kept"] = self.kept
        inner = [getattr(optimizer, "optimizer", optimizer) for optimizer in self.optimizers]
        self._write(self.checkpoints, inner, state)

    def save_weights(self, folder: CheckpointFolder, state: dict[str, Any]) -> None:
        """Write the weights of the current step without the optimizers' states; every process calls it.

        Args:
            folder: Where, apart from the checkpoints that a training resumes from.
            state: Numbers that go with them.
        """
        self._write(folder, [], {"fingerprint": self.source.fingerprint, **state})

    def load_weights(self, folder: CheckpointFolder, path: Path) -> None:
        """Give the model the weights that ``save_weights`` has written; every process calls it.

        Args:
            folder: Where they were written.
            path: Which of them.
        """
        with sync_errors():
            folder.load(path, self._tensors(), [])

    def _write(
        self, folder: CheckpointFolder, optimizers: Sequence[torch.optim.Optimizer], state: dict[str, Any]
    ) -> None:
        process, of = self.accelerator.process_index, self.accelerator.num_processes
        if is_sharded(self.module):
            folder.save(self.step, self._tensors(), optimizers, state, process, of)
            return
        with sync_errors():
            if process == 0:
                folder.save(self.step, self._tensors(), optimizers, state)

    @contextmanager
    def whole_model(self) -> Iterator[None]:
        """Let the model be whole on process 0, to evaluate and to sample there; every process comes here.

        Only FSDP divides it; otherwise nothing happens. On the other processes it must be left alone inside.
        """
        with self._whole.inside(self.model, self.accelerator.is_main_process) if self._whole else nullcontext():
            yield

    # -- signals: noted when they come, obeyed when the step is done ------------------------------------------------

    def __enter__(self) -> Self:
        for number in () if planner() else (signal.SIGINT, signal.SIGTERM):  # a plan has nothing to save
            try:
                self._previous_handlers[number] = signal.signal(number, self._note_signal)
            except ValueError:  # not in the main thread, e.g. in a notebook's worker
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._previous_handlers.clear()
        if kind is None and self._whole:  # what comes next takes it for an ordinary model
            self._whole.for_good(self.model)
            self._whole = None
        if kind is None and self._interrupted_by:
            raise InterruptedRun(f"interrupted after step {self.step}", self._interrupted_by)

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted_by:
            raise InterruptedRun("interrupted twice: stopped at once, the open step is lost", number)
        self._interrupted_by = number
        _logger.warning("interrupted: finishing this step and saving; a second signal stops at once")

    # -- the loop ---------------------------------------------------------------------------------------------------

    @property
    def batch_rows(self) -> int:
        """Rows of an update over all micro-batches and processes."""
        on_each = self.settings.per_device_train_batch_size * self.settings.gradient_accumulation_steps
        return on_each * int(self.accelerator.num_processes)

    def peak_rates(self) -> dict[str, float]:
        """Peak learning rate of each trainable parameter by name."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        return {names[id(p)]: group["peak_lr"] for group in groups for p in group["params"] if id(p) in names}

    def _micro_batches(self) -> list[Batch]:
        """This process's part of the rows [step * batch_rows, (step + 1) * batch_rows)."""
        accelerator, per_device = self.accelerator, self.settings.per_device_train_batch_size
        rows = np.arange(self.step * self.batch_rows, (self.step + 1) * self.batch_rows)
        mine = rows.reshape(-1, accelerator.num_processes, per_device)[:, accelerator.process_index]
        return [
            {name: tensor.to(accelerator.device) for name, tensor in self.source.rows(part).items()} for part in mine
        ]

    def __iter__(self) -> Iterator[StepRecord]:
        """Train from the current step to ``max_steps``.

        Yields:
            One record for each update, after it; a due checkpoint is written when the caller asks for the next one.

        Raises:
            DivergedError: A loss or gradient is not finite; the update was not made.
            InterruptedRun: SIGINT or SIGTERM came; the step is done and saved.
            CheckpointError: A checkpoint could not be written.
        """
        settings = self.settings
        if planned := planner():
            planned.training(self)
            return
        while self.step < settings.max_steps:
            with memory_phase("train", lambda: memory_remedies(settings)):
                record = self._update()
            if self.step == self._adapter_checked_at:
                check_adapter_gradients(self.model, [getattr(o, "optimizer", o) for o in self.optimizers])
            if self.step == settings.max_steps or self.step % settings.eval_steps == 0:
                self._check_finite()
            yield record
            due = settings.save_steps and (self.step % settings.save_steps == 0 or self.step == settings.max_steps)
            stop = self._stop_signal()
            if self.checkpoints and settings.save_steps and (due or stop):
                self.save()
            if stop:
                kept = "saved" if self.checkpoints and settings.save_steps else "not saved (save_steps is 0)"
                raise InterruptedRun(f"interrupted after step {self.step}, which is {kept}", stop)

    def _stop_signal(self) -> int:
        """The signal that any process has received; all processes get the same answer and stop at the same step."""
        if self.accelerator.num_processes == 1:
            return self._interrupted_by
        number = torch.tensor(float(self._interrupted_by), device=self.accelerator.device)
        received: torch.Tensor = self.accelerator.gather(number.reshape(1))
        return int(received.max())

    def _update(self) -> StepRecord:
        """One step: seed, backward, mask, check, clip, update, restore."""
        started = time.perf_counter()
        accelerator, settings = self.accelerator, self.settings
        self._seed_step()
        if not all(module.training for module in self._modules):  # setting the mode of all costs more than looking
            self.module.train()
        batches = self._micro_batches()
        targets_K = self._targets(batches)
        weights_K = torch.tensor([weight for weight, _ in self.objective.parts], dtype=torch.float64)
        # DDP averages gradients over processes; times their number it is the sum that the objective means.
        scale_K = (weights_K / targets_K * accelerator.num_processes).to(accelerator.device, torch.float32)
        sums_K = torch.zeros(len(weights_K), device=accelerator.device, dtype=torch.float64)
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with nullcontext() if last else accelerator.no_sync(self.module):
                with accelerator.autocast():
                    part_K = self.module(batch)
                accelerator.backward(torch.dot(part_K, scale_K))
            sums_K += part_K.detach().double()
        losses_K = self._sum_over_processes(sums_K) / targets_K
        loss_value = float((weights_K * losses_K).sum())
        for optimizer in self.optimizers:
            if accelerator.scaler is not None:
                accelerator.unscale_gradients(optimizer)
        self.freezing.drop_gradients(self.step + 1)
        norms = self.clipping.norms()
        scaled_overflow = accelerator.scaler is not None and math.isfinite(loss_value)
        if not (math.isfinite(loss_value) and (math.isfinite(norms.value) or scaled_overflow)):
            raise DivergedError(self._diverged(loss_value, norms.value, batches))
        clip_factor = self.clipping.clip(self.step + 1, norms) if math.isfinite(norms.value) else 1.0
        self.step += 1
        factor = learning_rate_factor(self.step, settings)
        with self.freezing.held(self.step):
            for optimizer in self._steppers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak_lr"] * factor
                optimizer.step()
                optimizer.zero_grad()
        names = [part.name for _, part in self.objective.parts]
        return StepRecord(
            step=self.step,
            loss=loss_value,
            grad_norm=norms.value,
            group_norms=norms.groups,
            clip_factor=clip_factor,
            lost_norm=norms.value * (1 - clip_factor) if math.isfinite(norms.value) else 0.0,
            learning_rate=settings.learning_rate * factor,
            num_targets=int(targets_K[0]),
            seconds=time.perf_counter() - started,
            losses=dict(zip(names, losses_K.tolist(), strict=True)) if len(names) > 1 else {},
        )

    def _seed_step(self) -> None:
        """Seed what a step draws from: this process's device, or everything that torch knows where that is not the CPU.

        On the CPU ``torch.manual_seed`` would also note, with a stack trace each time, that accelerators are to be
        seeded once they are used.
        """
        sequence = np.random.SeedSequence([self.settings.seed, self.step, self.accelerator.process_index])
        seed = int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
        if self.accelerator.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _what_steps(self) -> list[Any]:
        """The optimizers whose ``step`` is called: torch's own where accelerate's would only call them.

        accelerate (1.15) looks on the disk for a package of further optimizers, twice in each step.
        """
        plain = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
        if self.accelerator.scaler is not None or self.accelerator.distributed_type not in plain:
            return list(self.optimizers)
        return [getattr(optimizer, "optimizer", optimizer) for optimizer in self.optimizers]

    def _targets(self, batches: list[Batch]) -> torch.Tensor:
        """Targets of each part of the objective in the whole batch, over all micro-batches and processes: [K]."""
        counted = [[part.num_targets(batch) for _, part in self.objective.parts] for batch in batches]
        targets_K = self._sum_over_processes(torch.tensor(counted, dtype=torch.float64).sum(0))
        for number, (_, part) in zip(targets_K.tolist(), self.objective.parts, strict=True):
            if not number:
                raise DivergedError(
                    f"step {self.step + 1}: {part.name} has no target in the whole batch (all labels are -100), so "
                    "there is no loss"
                )
        return targets_K

    def peak_bytes(self) -> int:
        """Memory that a step needs at its worst: weights, moments, gradients and activations of one backward pass.

        Nothing is updated. Only what is in tensors counts on the CPU; see ``peak_memory``.
        """
        states = [state for optimizer in self.optimizers for state in optimizer.state.values()]
        moments = [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]
        batch = self._micro_batches()[0]
        self.module.train()
        with peak_memory([*self.model.parameters(), *self.model.buffers(), *moments], self.accelerator.device) as found:
            with self.accelerator.autocast():
                loss = self.module(batch).sum()
            self.accelerator.backward(loss)
            del loss
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        return found.num_bytes

    def _sum_over_processes(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over processes, float64 on the CPU."""
        if self.accelerator.num_processes == 1:
            return values.to("cpu", torch.float64)
        summed: torch.Tensor = reduce(values.to(self.accelerator.device, torch.float64), reduction="sum")
        return summed.cpu()

    def _check_finite(self) -> None:
        """Refuse weights that an update has overflowed: the loss would show it only at the next step."""
        wrong = sum(not bool(torch.isfinite(local_part(parameter)).all()) for parameter in self.parameters)
        if self._sum_over_processes(torch.tensor(float(wrong))):
            raise DivergedError(self._diverged(math.nan, math.nan))

    def _diverged(self, loss: float, norm: float, batches: list[Batch] | None = None) -> str:
        self._seed_step()  # the forward passes of the step again, dropout included
        self.model.train()
        inputs = [{name: tensor for name, tensor in batch.items() if name != "labels"} for batch in batches or ()]
        with self.whole_model(), self.accelerator.autocast():
            cause = diagnosis(self.model, inputs) if not self._whole or self.accelerator.is_main_process else ""
        newest = self.checkpoints.newest_valid() if self.checkpoints else None
        kept = f"the last good checkpoint is {newest}" if newest else "there is no earlier checkpoint"
        return (
            f"step {self.step + 1}: the loss is {loss}, the gradient norm {norm}; the update was not made and {kept}. "
            f"{cause[:1].upper()}{cause[1:]}{'. ' if cause else ''}"
            "Lower learning_rate, set max_grad_norm (e.g. 1.0) or a longer warmup_steps, and start again"
        )


# Several models on one stream of batches, one step each in turn.


def lockstep(
    arms: Mapping[str, Engine], streams: Mapping[str, Iterator[StepRecord]]
) -> Iterator[tuple[str, StepRecord]]:
    """Take one step of each arm, then the next of each; a pair trains exactly as its arms would alone.

    Every step seeds the random generators from (seed, step, process) and rows are a pure function of their number, so
    arms with one seed and one source see the same batches, masks of dropout included, whatever else runs between. An
    arm that an interruption left behind catches up first.

    Args:
        arms: Engines by name, over sources with one fingerprint.
        streams: What to iterate for each: the engine itself, or ``follow`` around it.

    Returns:
        Names of arms and their records, in the order of the arms.

    Raises:
        ValueError: Arms over different batches.
        DeviceError: Sharded arms; several processes with DDP are fine.
    """
    if len({engine.source.fingerprint for engine in arms.values()}) > 1:
        raise ValueError("arms in lock-step need one source: their fingerprints differ")
    for engine in arms.values():  # here, not when the first step is asked for
        if str(engine.accelerator.distributed_type).rpartition(".")[2] == "FSDP":
            raise DeviceError(
                f"lock-step runs in one process or with DDP, not with {engine.accelerator.distributed_type}: run the "
                "arms one after the other"
            )
    return _turns(arms, streams)


def _turns(arms: Mapping[str, Engine], streams: Mapping[str, Iterator[StepRecord]]) -> Iterator[tuple[str, StepRecord]]:
    """One step of each arm after the other."""
    last = max(engine.settings.max_steps for engine in arms.values())
    for step in range(min(engine.step for engine in arms.values()) + 1, last + 1):
        for name, engine in arms.items():
            if engine.step < step and (record := next(streams[name], None)) is not None:
                yield name, record
    for stream in streams.values():
        next(stream, None)  # lets an engine write the checkpoint that was due after its last step
