"""Steps of ftkit beside those of Trainer, of a plain loop, and of nothing but their matrix products."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, default_data_collator

from benchmarks.measuring import (
    DEVICE,
    Arm,
    Clock,
    Options,
    Section,
    Times,
    in_turns,
    made_of,
    one_round,
    times_as_fast,
)
from benchmarks.shapes import DEEP, GPT2, SMALL, TINY, Rows, Shape, new_model, settings, usual_model
from ftkit.training import NEXT_TOKEN, Engine
from ftkit.training.objectives import LossModule

OWN, HF = "ftkit, own GPT-2", "ftkit, HF GPT-2"
TRAINER, PLAIN, PRODUCTS, BARE = "Trainer, HF GPT-2", "plain loop, HF GPT-2", "matrix products alone", "bare loop"


def ftkit_steps(family: str, shape: Shape, bf16: bool = False, compiled: bool = False) -> Arm:
    """A step of the engine."""
    model = new_model(family, shape)
    if compiled:
        model.base_model.compile()
    return partial(next, iter(Engine(model, NEXT_TOKEN, Rows(shape), settings(shape, bf16))))


def loop_steps(model: Any, loss_of: Callable[[Any, dict[str, torch.Tensor]], Any], shape: Shape, **options: Any) -> Arm:
    """A step as one writes it by hand; ``loss_of`` a model and a batch is what it minimises."""
    bf16, fused = options.get("bf16", False), options.get("fused", False)
    data, numbers = Rows(shape), iter(range(1 << 20))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=fused or None)

    def step() -> float:
        first = shape.rows * next(numbers)
        batch = {name: t.to(DEVICE) for name, t in data.rows(range(first, first + shape.rows)).items()}
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
            loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def plain_steps(shape: Shape, bf16: bool = False, compiled: bool = False) -> Arm:
    """nanoGPT's way: all logits, AdamW fused where there is an accelerator."""
    model = usual_model(shape).to(DEVICE).train()
    if compiled:
        model.base_model.compile()

    def loss_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = model(batch["input_ids"], use_cache=False).logits
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch["labels"][:, 1:].flatten())

    return loop_steps(model, loss_of, shape, bf16=bf16, fused=DEVICE.type != "cpu")


def bare_steps(shape: Shape) -> Arm:
    """The engine's own arithmetic in a loop of ten lines: what is left out is what the engine adds."""
    module = LossModule(new_model("ftkit_gpt2", shape), NEXT_TOKEN).to(DEVICE).train()
    targets = shape.rows * (shape.tokens - 1)
    return loop_steps(module, lambda module, batch: module(batch)[0] / targets, shape, fused=True)


class Turns(TrainerCallback):
    """Notes a trainer's steps, and runs the other arms between them: its ``train`` cannot be left."""

    def __init__(self, arms: dict[str, Arm], trainer: str) -> None:
        self.arms, self.trainer, self.clock = arms, trainer, Clock()
        self.times: Times = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        counted = self.times if state.global_step > 1 else {}
        self.clock.note(counted, self.trainer)
        one_round(counted, self.arms, state.global_step)
        self.clock.restart()


def beside_trainer(model: Any, shape: Shape, arms: dict[str, Arm], rounds: int, bf16: bool, name: str) -> Times:
    """Rounds of Trainer and all arms, after one that does not count."""
    turns = Turns(arms, name)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=rounds + 1, per_device_train_batch_size=shape.rows, learning_rate=1e-4,
            weight_decay=0.01, lr_scheduler_type="constant", max_grad_norm=1.0, bf16=bf16, report_to="none",
            save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=DEVICE.type == "cpu",
            dataloader_pin_memory=DEVICE.type != "cpu",
        )  # fmt: skip
        trainer = Trainer(
            model, arguments, train_dataset=Rows(shape), data_collator=default_data_collator,
            callbacks=[turns],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        turns.clock.restart()
        trainer.train()
    return turns.times


def train(name: str, shape: Shape, bf16: bool, rounds: int, options: Options) -> Section:
    """Steps of all arms. Where there is an accelerator, bf16 and compiled steps stand beside Trainer's defaults."""
    accelerated = DEVICE.type != "cpu"
    compiled = options.compiled or (accelerated and bf16)
    arms = {
        OWN: ftkit_steps("ftkit_gpt2", shape, bf16, compiled),
        HF: ftkit_steps("gpt2", shape, bf16, compiled),
        PLAIN: plain_steps(shape, bf16, compiled),
    }
    times = beside_trainer(usual_model(shape), shape, arms, rounds, bf16 and not accelerated, TRAINER)
    small, large = name.startswith("train-small") and not bf16, name.startswith("train-124m") and not bf16
    results = [
        times_as_fast(times, OWN, TRAINER, 1.5 if accelerated and bf16 else 1.2 if small else None),
        times_as_fast(times, HF, TRAINER, 1.05 if small else None),
        times_as_fast(times, OWN, PLAIN, 1.0 if large else None),
        times_as_fast(times, HF, PLAIN, 1.0 if large else None),
    ]
    facts = {"tokens_a_step": shape.rows * shape.tokens, "compiled": compiled, "shape": vars(shape)}
    return Section(name, times, results, facts)


def matrix_products(shape: Shape) -> tuple[Arm, float]:
    """All matrix products of a step, forward and both of the backward pass, and how many operations they are."""
    rows, width, vocab = shape.rows * shape.tokens, shape.width, shape.vocab
    maps = [
        (width, 3 * width, shape.blocks), (width, width, shape.blocks), (width, 4 * width, shape.blocks),
        (4 * width, width, shape.blocks), (width, vocab, 1),
    ]  # fmt: skip
    made = [
        (torch.randn(rows, m, device=DEVICE), torch.randn(n, m, device=DEVICE), torch.randn(rows, n, device=DEVICE), k)
        for m, n, k in maps
    ]
    scores = torch.randn(shape.rows * shape.heads, shape.tokens, shape.tokens, device=DEVICE)
    values = torch.randn(shape.rows * shape.heads, shape.tokens, width // shape.heads, device=DEVICE)

    def run() -> None:
        for x, weight, y, count in made:
            for _ in range(count):
                torch.mm(x, weight.T)
                torch.mm(y, weight)
                torch.mm(y.T, x)
        for _ in range(3 * shape.blocks):  # causal attention needs half of two products forward and of four backward
            torch.bmm(scores, values)

    operations = sum(6.0 * rows * m * n * k for m, n, k in maps) + 6.0 * shape.blocks * scores.numel() * values.shape[2]
    return run, operations


def matmul(name: str, shape: Shape, rounds: int, target: float | None) -> Section:
    """Which share of a step is its matrix products."""
    products, operations = matrix_products(shape)
    arms = {
        OWN: ftkit_steps("ftkit_gpt2", shape),
        HF: ftkit_steps("gpt2", shape),
        PLAIN: plain_steps(shape),
        PRODUCTS: products,
    }
    times = in_turns(arms, rounds)
    shares = [
        made_of(times, f"share of {arm}", partial(_percent_of, arm), goal and 100 * goal, "%")
        for arm, goal in ((OWN, target), (HF, None), (PLAIN, None))
    ]
    rate = made_of(times, "rate of the products", lambda t: operations / t[PRODUCTS] / 1e9, unit="Gflop/s")
    return Section(name, times, [*shares, rate])


def _percent_of(arm: str, seconds: dict[str, float]) -> float:
    """The products' share of an arm's step."""
    return 100 * seconds[PRODUCTS] / seconds[arm]


def overhead(name: str, shape: Shape, rounds: int) -> Section:
    """The engine beside a bare loop with the same arithmetic."""
    times = in_turns({OWN: ftkit_steps("ftkit_gpt2", shape), BARE: bare_steps(shape)}, rounds)
    added = [
        made_of(times, "added to a step", lambda t: 1000 * (t[OWN] - t[BARE]), 0.3, "ms", at_most=True),
        made_of(times, "added to a step", lambda t: 100 * (t[OWN] / t[BARE] - 1), 2.0, "%", at_most=True),
    ]
    return Section(name, times, [added[name.endswith("124m")]])


def sections(options: Options) -> Iterator[tuple[str, Callable[[], Section]]]:
    """Names and what runs them."""
    small, large, tiny, deep = (shape.quick() if options.quick else shape for shape in (SMALL, GPT2, TINY, DEEP))
    for name, shape, bf16, usual in (
        ("train-small", small, False, 9), ("train-small-bf16", small, True, 2),
        ("train-124m", large, False, 4), ("train-124m-bf16", large, True, 1),
    ):  # fmt: skip
        yield name, partial(train, name, shape, bf16, options.rounds(usual), options)
    yield "matmul-small", partial(matmul, "matmul-small", small, options.rounds(7), None)
    yield "matmul-124m", partial(matmul, "matmul-124m", large, options.rounds(4), 0.9)
    for name, shape, usual in (("overhead-tiny", tiny, 300), ("overhead-deep", deep, 100), ("overhead-124m", large, 6)):
        yield name, partial(overhead, name, shape, options.rounds(usual))
