"""Making a model, a forward pass and a training step on the CPU and, where there is one, on the accelerator.

Core lesson 06/08 and lesson 04/022 compare both without waiting for the accelerator's work; here every clock waits.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.measuring import DEVICE, Arm, Options, Section, in_turns, made_of, times_as_fast
from benchmarks.shapes import GPT2, SMALL, Rows, Shape, new_model

LESSON = replace(GPT2, rows=16, positions=256)
"""Core lesson 06/08: GPT-2 small with 256 positions, 16 windows of 256 tokens."""


def devices(name: str, shape: Shape, rounds: int) -> Section:
    """Three actions on each device, one model and one batch."""
    places = [torch.device("cpu"), *([DEVICE] if DEVICE.type != "cpu" else [])]
    arms: dict[str, Arm] = {}
    for place in places:
        model = new_model("ftkit_gpt2", shape).to(place)
        ids = Rows(shape).rows(range(shape.rows))["input_ids"].to(place)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)

        def make(place: torch.device = place) -> Any:
            return new_model("ftkit_gpt2", shape).to(place)

        def forward(model: Any = model, ids: torch.Tensor = ids) -> None:
            model.eval()
            with torch.no_grad():
                model(ids)

        def step(model: Any = model, ids: torch.Tensor = ids, optimizer: Any = optimizer) -> None:
            model.train()
            model(ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        arms |= {
            f"{what}, {place.type}": action for what, action in (("init", make), ("forward", forward), ("step", step))
        }
    times = in_turns(arms, rounds)
    tokens = shape.rows * shape.tokens
    results = [
        made_of(times, f"tokens a second, {what}", partial(_tokens_per_second, tokens, what), unit="/s")
        for what in arms
        if not what.startswith("init")
    ]
    for what in ("init", "forward", "step"):
        if len(places) > 1:
            results.append(times_as_fast(times, f"{what}, {DEVICE.type}", f"{what}, cpu"))
    return Section(name, times, results, {"rows": shape.rows, "tokens": shape.tokens})


def _tokens_per_second(tokens: int, arm: str, seconds: dict[str, float]) -> float:
    return tokens / seconds[arm]


def sections(options: Options) -> Iterator[tuple[str, Callable[[], Section]]]:
    """Names and what runs them."""
    for name, shape, usual in (("devices-small", SMALL, 5), ("devices-124m", LESSON, 2)):
        yield name, partial(devices, name, shape.quick() if options.quick else shape, options.rounds(usual))
