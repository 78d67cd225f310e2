"""A step of LoRA and one of whole tuning, beside Trainer, a plain loop and the step's matrix products; their memory.

python -m benchmarks.adapters PART ARM [MODEL]        (in the folder scripts)   memory of one arm, in this process
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from benchmarks.growth import Point, memory_beside
from benchmarks.measuring import DEVICE, Arm, Options, Section, made_of, times_as_fast
from benchmarks.shapes import GPT2, Rows, Shape, spec_of, usual_model
from benchmarks.training import PRODUCTS, beside_trainer, loop_steps
from ftkit.config import AdapterSettings
from ftkit.models import load_model
from ftkit.training import NEXT_TOKEN, Engine
from ftkit.tuning import attach_adapter

FTKIT, TRAINER, PLAIN = "ftkit", "Trainer", "plain loop"
SMOLLM2 = Shape(blocks=30, width=576, heads=9, vocab=49152, rows=4, tokens=256, positions=512)
"""SmolLM2-135M, but for its three heads of keys and values; ``--causal`` brings the model itself."""
PARTS = {"llama-lora": ("llama", True), "llama-whole": ("llama", False), "gpt2-lora": ("gpt2", True)}
"""Family, and whether it is LoRA; whole tuning of GPT-2 is the part ``train-124m``."""


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
    maps = [each.weight.T if isinstance(each, Conv1D) else each.weight
            for each in model.modules() if isinstance(each, (nn.Linear, Conv1D))]  # fmt: skip
    made = [(torch.randn(rows, w.shape[1], device=DEVICE), torch.randn(rows, w.shape[0], device=DEVICE)) for w in maps]

    def run() -> None:
        for weight, (x, y) in zip(maps, made, strict=True):
            torch.mm(x, weight.T)
            torch.mm(y, weight)
            if not lora:
                torch.mm(y.T, x)

    return torch.no_grad()(run), (4.0 if lora else 6.0) * rows * sum(w.numel() for w in maps)


def place_of(part: str, shape: Shape, causal: str | None) -> str:
    """The model of a part: ``--causal``, or a new one of the shape."""
    family, _ = PARTS[part]
    return causal if causal and family == "llama" else spec_of(family, shape)


def model_of(part: str, arm: str, shape: Shape, place: str) -> Any:
    """The model of an arm: Trainer and the plain loop have it as transformers builds it, with peft's LoRA."""
    model = load_model(place, seed=0, vocab_size=shape.vocab, max_positions=shape.positions)
    if arm != FTKIT:
        model = usual_model(shape, model)
    if arm == PLAIN:
        model = model.to(DEVICE).train()
    lora = PARTS[part][1]
    return attach_adapter(model, settings(lora), base=place) if lora else model


def steps_of(part: str, arm: str, shape: Shape, model: Any) -> Arm:
    """A step of ftkit or of the plain loop."""
    if arm == FTKIT:
        return partial(next, iter(Engine(model, NEXT_TOKEN, Rows(shape), settings(PARTS[part][1], shape.rows))))

    def loss_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch["labels"][:, 1:].flatten())

    return loop_steps(model, loss_of, shape, fused=DEVICE.type != "cpu")


def run(part: str, shape: Shape, rounds: int, options: Options) -> Section:
    """Steps of all arms on the same rows."""
    place = place_of(part, shape, options.causal)
    made = load_model(place, seed=0, vocab_size=shape.vocab, max_positions=shape.positions)
    alone, operations = products(made, shape, PARTS[part][1])
    arms: dict[str, Arm] = {
        **{arm: steps_of(part, arm, shape, model_of(part, arm, shape, place)) for arm in (FTKIT, PLAIN)},
        PRODUCTS: alone,
    }
    times = beside_trainer(model_of(part, TRAINER, shape, place), shape, arms, rounds, bf16=False, name=TRAINER)
    results = [
        times_as_fast(times, FTKIT, TRAINER, 1.3),
        times_as_fast(times, FTKIT, PLAIN, 1.2),
        *(made_of(times, f"share of {arm}", partial(_share, arm), unit="%") for arm in (FTKIT, PLAIN, TRAINER)),
        made_of(times, "rate of the products", lambda seconds: operations / seconds[PRODUCTS] / 1e9, unit="Gflop/s"),
    ]
    return Section(part, times, results, {"model": place, "shape": vars(shape)})


def memory_of(part: str, arm: str, shape: Shape, place: str) -> None:
    """Print by how much the process grew at most in two steps of an arm; the peak of making its model is left out."""
    point = Point()
    model = model_of(part, arm, shape, place)
    point.forget_peak()
    if arm == TRAINER:
        beside_trainer(model, shape, {}, 1, bf16=False, name=TRAINER)
    else:
        step = steps_of(part, arm, shape, model)
        step()
        step()
    point.end()


def memory(part: str, shape: Shape, options: Options) -> Section:
    """Memory of each arm, each in a process of its own."""
    place = place_of(part, shape, options.causal)
    flags = ["--quick"] if options.quick else []
    arms = {arm: ["benchmarks.adapters", part, arm, place, *flags] for arm in (FTKIT, TRAINER, PLAIN)}
    return memory_beside(f"{part}-memory", arms, TRAINER, {"model": place})


def _share(arm: str, seconds: dict[str, float]) -> float:
    """The products' share of an arm's step."""
    return 100 * seconds[PRODUCTS] / seconds[arm]


def shape_of(part: str, quick: bool) -> Shape:
    """Rows and, for a new model, its size."""
    shape = SMOLLM2 if PARTS[part][0] == "llama" else GPT2
    return shape.quick() if quick else shape


def sections(options: Options) -> Iterator[tuple[str, Callable[[], Section]]]:
    """Names and what runs them."""
    for part in PARTS:
        shape = shape_of(part, options.quick)
        yield part, partial(run, part, shape, options.rounds(4), options)
        if part == "gpt2-lora" or not options.quick:  # three processes each
            yield f"{part}-memory", partial(memory, part, shape, options)


if __name__ == "__main__":
    asked_part, asked_arm, asked_place, *flags = sys.argv[1:]
    memory_of(asked_part, asked_arm, shape_of(asked_part, bool(flags)), asked_place)
