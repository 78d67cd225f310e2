"""The head that is fused with its loss beside one that makes all logits."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.measuring import DEVICE, Arm, Options, Section, in_turns, times_as_fast
from ftkit.training.heads import chunked_cross_entropy
from ftkit.training.memory import peak_memory

FUSED, ALL = "head fused with its loss", "all logits"


def all_logits(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss as it is usually computed."""
    return nn.functional.cross_entropy(nn.functional.linear(hidden, weight).float(), targets, reduction="sum")


def head(name: str, rows: int, width: int, vocab: int, rounds: int) -> Section:
    """Time, and the most memory above hidden states and weight, of head and loss forward and backward."""
    hidden, weight = torch.randn(rows, width, device=DEVICE), torch.randn(vocab, width, device=DEVICE) * 0.02
    targets = torch.randint(0, vocab, (rows,), device=DEVICE)

    def run(function: Callable[..., Any]) -> None:
        function(hidden.detach().requires_grad_(), weight.detach().requires_grad_(), targets).backward()

    arms: dict[str, Arm] = {FUSED: partial(run, chunked_cross_entropy), ALL: partial(run, all_logits)}
    num_bytes = {}
    for arm, action in arms.items():
        before = hidden.nbytes + weight.nbytes if DEVICE.type == "cpu" else torch.accelerator.memory_allocated()
        with peak_memory(device=DEVICE) as peak:
            action()
        num_bytes[arm] = peak.num_bytes - before
    times = in_turns(arms, rounds)
    spared = 100 * (1 - num_bytes[FUSED] / num_bytes[ALL])
    memory = {"measure": "memory spared", "exact": spared, "unit": "%", "target": 60.0, "at_most": False}
    return Section(name, times, [memory, times_as_fast(times, FUSED, ALL)], {"bytes": num_bytes, "rows": rows})


def sections(options: Options) -> Iterator[tuple[str, Callable[[], Section]]]:
    """Names and what runs them: a batch of 4 x 256 of GPT-2 124M, and one of 16 x 256."""
    for rows in (1024,) if options.quick else (1024, 4096):
        sizes = (256, 32, 20_000) if options.quick else (rows, 768, 50_257)
        yield f"head-{rows}", partial(head, f"head-{rows}", *sizes, options.rounds(4 if rows == 1024 else 2))
