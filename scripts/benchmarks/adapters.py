"""A step of LoRA and one of whole tuning on a Llama, beside Trainer, a plain loop and the step's matrix products."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.measuring import DEVICE, Arm, Options, Section, made_of, times_as_fast
from benchmarks.shapes import Rows, Shape, spec_of, usual_model
from benchmarks.training import PRODUCTS, beside_trainer, loop_steps
from ftkit.config import AdapterSettings
from ftkit.models import load_model
from ftkit.training import NEXT_TOKEN, Engine
from ftkit.tuning import attach_adapter

FTKIT, TRAINER, PLAIN = "ftkit", "Trainer", "plain loop"
SMOLLM2 = Shape(blocks=30, width=576, heads=9, vocab=49152, rows=4, tokens=256, positions=512)
"""SmolLM2-135M, but for its three heads of keys and values; ``--causal`` brings the model itself."""


def settings(lora: bool, rows: int = 1) -> AdapterSettings:
    """Those of every arm: LoRA of rank 8 on all linear maps, AdamW, constant rate, clipping at 1."""
    return AdapterSettings(
        model="m", max_steps=1 << 20, eval_steps=1 << 20, save_steps=0, per_device_train_batch_size=rows,
        learning_rate=1e-4, lr_scheduler_type="constant", max_grad_norm=1.0, peft="lora" if lora else "none",
        lora_target_modules="all-linear" if lora else "auto", use_cpu=DEVICE.type == "cpu",
    )  # fmt: skip


def products(model: Any, shape: Shape, lora: bool) -> tuple[Arm, float]:
    """The matrix products of a step that has to be: forward, gradients of rows, and of weights where they train."""
    rows = shape.rows * shape.tokens
    maps = [each.weight for each in model.modules() if isinstance(each, nn.Linear)]
    made = [(torch.randn(rows, w.shape[1], device=DEVICE), torch.randn(rows, w.shape[0], device=DEVICE)) for w in maps]

    def run() -> None:
        for weight, (x, y) in zip(maps, made, strict=True):
            torch.mm(x, weight.T)
            torch.mm(y, weight)
            if not lora:
                torch.mm(y.T, x)

    return torch.no_grad()(run), (4.0 if lora else 6.0) * rows * sum(w.numel() for w in maps)


def run(name: str, shape: Shape, lora: bool, rounds: int, options: Options) -> Section:
    """Steps of all arms on the same rows."""
    place = options.causal or spec_of("llama", shape)
    ours = load_model(place, seed=0, vocab_size=shape.vocab, max_positions=shape.positions)
    models: list[Any] = [ours, usual_model(shape, ours), usual_model(shape, ours).to(DEVICE).train()]
    alone, operations = products(ours, shape, lora)
    if lora:
        models = [attach_adapter(each, settings(lora), base=place) for each in models]
    tuned, trainers, plain = models

    def loss_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch["labels"][:, 1:].flatten())

    arms: dict[str, Arm] = {
        FTKIT: partial(next, iter(Engine(tuned, NEXT_TOKEN, Rows(shape), settings(lora, shape.rows)))),
        PLAIN: loop_steps(plain, loss_of, shape, fused=DEVICE.type != "cpu"),
        PRODUCTS: alone,
    }
    times = beside_trainer(trainers, shape, arms, rounds, bf16=False, name=TRAINER)
    results = [
        times_as_fast(times, FTKIT, TRAINER, 1.3),
        times_as_fast(times, FTKIT, PLAIN, 1.2),
        *(made_of(times, f"share of {arm}", partial(_share, arm), unit="%") for arm in (FTKIT, PLAIN, TRAINER)),
        made_of(times, "rate of the products", lambda seconds: operations / seconds[PRODUCTS] / 1e9, unit="Gflop/s"),
    ]
    return Section(name, times, results, {"model": place, "shape": vars(shape)})


def _share(arm: str, seconds: dict[str, float]) -> float:
    """The products' share of an arm's step."""
    return 100 * seconds[PRODUCTS] / seconds[arm]


def sections(options: Options) -> Iterator[tuple[str, Callable[[], Section]]]:
    """Names and what runs them."""
    shape = SMOLLM2.quick() if options.quick else SMOLLM2
    for name, lora in (("llama-lora", True), ("llama-whole", False)):
        yield name, partial(run, name, shape, lora, options.rounds(4), options)
