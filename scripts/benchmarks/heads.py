"""The head that is fused with its loss beside torch's own (from 2.13) and one that makes all logits."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.measuring import DEVICE, Arm, Options, Section, in_turns, times_as_fast
from ftkit.memory import MemoryMeter
from ftkit.training.heads import chunked_cross_entropy
from ftkit.training.memory import peak_memory

FUSED, TORCH, ALL = "head fused with its loss", "torch's linear_cross_entropy", "all logits"


def all_logits(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss as it is usually computed."""
    return nn.functional.cross_entropy(nn.functional.linear(hidden, weight).float(), targets, reduction="sum")


def torch_chunks(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """torch's chunks with the fastest options that were found; its own choice of them took 6 to 10 times as long."""
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=512, acc_policy="compact")
    return nn.functional.linear_cross_entropy(hidden, weight, targets, reduction="sum", options=options)


def head(name: str, rows: int, width: int, vocab: int, rounds: int, dtype: torch.dtype = torch.float32) -> Section:
    """Time, and the most memory above hidden states and weight, of head and loss forward and backward."""
    hidden = torch.randn(rows, width, device=DEVICE, dtype=dtype)
    weight = (torch.randn(vocab, width, device=DEVICE) * 0.02).to(dtype)
    targets = torch.randint(0, vocab, (rows,), device=DEVICE)

    def run(function: Callable[..., Any]) -> None:
        function(hidden.detach().requires_grad_(), weight.detach().requires_grad_(), targets).backward()

    functions: dict[str, Callable[..., Any]] = {FUSED: chunked_cross_entropy, ALL: all_logits}
    if hasattr(nn, "LinearCrossEntropyOptions"):
        functions[TORCH] = torch_chunks
    arms: dict[str, Arm] = {arm: partial(run, function) for arm, function in functions.items()}
    num_bytes, meter = {}, MemoryMeter()
    for arm, action in arms.items():
        before = hidden.nbytes + weight.nbytes if DEVICE.type == "cpu" else torch.accelerator.memory_allocated()
        with peak_memory(device=DEVICE) as peak:
            action()
        num_bytes[arm] = peak.num_bytes - before
    # What torch's chunks take inside one operator is seen in the resident memory of the process alone.
    resident = {arm: meter.peak_of(action) - meter.growth() for arm, action in arms.items()}
    times = in_turns(arms, rounds)
    spared = 100 * (1 - num_bytes[FUSED] / num_bytes[ALL])
    memory = {"measure": "memory spared", "exact": spared, "unit": "%", "target": 60.0, "at_most": False}
    results = [memory, times_as_fast(times, FUSED, ALL)]
    if TORCH in arms:
        results += [
            *(
                {"measure": f"resident, {arm}", "exact": grown / 1e6, "unit": "MB", "target": None, "at_most": True}
                for arm, grown in resident.items()
            ),
            times_as_fast(times, FUSED, TORCH),
        ]
    return Section(name, times, results, {"bytes": num_bytes, "resident": resident, "rows": rows})


def sections(options: Options) -> Iterator[tuple[str, Callable[[], Section]]]:
    """Names and what runs them: batches of GPT-2 124M, and of a small model with a vocabulary of 512."""
    for vocab, width in ((50_257, 768), (512, 256)):
        for dtype in (torch.float32, torch.bfloat16):
            name = f"head-v{vocab}-{str(dtype).removeprefix('torch.')}"
            sizes = (256, 32, min(vocab, 20_000)) if options.quick else (1024 if vocab > 512 else 4096, width, vocab)
            rounds = options.rounds(3 if vocab > 512 else 20)
            yield name, partial(head, name, *sizes, rounds, dtype)
    for rows in (1024,) if options.quick else (1024, 4096):
        sizes = (256, 32, 20_000) if options.quick else (rows, 768, 50_257)
        yield f"head-{rows}", partial(head, f"head-{rows}", *sizes, options.rounds(4 if rows == 1024 else 2))
