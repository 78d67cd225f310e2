"""Passages beside `model.generate`, with its growing cache and with its static one."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from benchmarks.measuring import DEVICE, Arm, Options, Section, in_turns, times_as_fast
from benchmarks.shapes import SMALL, Shape, new_model, spec_of, usual_model
from ftkit.data import load_tokenizer
from ftkit.generation import generate_passages, random_starts
from ftkit.models import load_model

TARGETS = {32: 1.6, 128: 2.0}


def generation(name: str, shape: Shape, rows: int, new_tokens: int, options: Options) -> Section:
    """Passages of one-token starts, drawn from the model's own distribution."""
    tokenizer, starts = load_tokenizer("byte"), random_starts(np.arange(250), rows, seed=0)
    ids = torch.tensor(starts, device=DEVICE)
    asked = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": True, "top_k": 0}
    arms: dict[str, Arm] = {}
    for label, family in (("HF", "gpt2"), ("own", "ftkit_gpt2")):
        model = new_model(family, shape).to(DEVICE).eval()
        usual = usual_model(shape).to(DEVICE).eval() if label == "HF" else model
        generate = partial(usual.generate, ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **asked)
        arms[f"passages, {label} GPT-2"] = partial(
            generate_passages, model, tokenizer, starts, new_tokens=new_tokens, batch_rows=rows
        )
        arms[f"generate, {label} GPT-2"] = generate
        if label == "HF":
            static = partial(generate, cache_implementation="static", disable_compile=DEVICE.type == "cpu")
            arms["generate, static cache, HF GPT-2"] = static
    times = in_turns(arms, options.rounds(4))
    pairs = [
        ("passages, HF GPT-2", "generate, HF GPT-2", TARGETS.get(rows)),
        ("passages, own GPT-2", "generate, HF GPT-2", TARGETS.get(rows)),
        ("passages, own GPT-2", "generate, own GPT-2", None),
        ("generate, static cache, HF GPT-2", "generate, HF GPT-2", None),
    ]
    return Section(name, times, [times_as_fast(times, *pair) for pair in pairs], {"new_tokens": new_tokens})


def of_llama(name: str, shape: Shape, rows: int, new_tokens: int, options: Options) -> Section:
    """The same with a Llama, or the model of ``--causal``."""
    place = options.causal or spec_of("llama", shape)
    model = load_model(place, seed=0, vocab_size=shape.vocab, max_positions=shape.positions).to(DEVICE).eval()
    tokenizer, starts = load_tokenizer(options.causal or "byte"), random_starts(np.arange(250), rows, seed=0)
    ids = torch.tensor(starts, device=DEVICE)
    arms: dict[str, Arm] = {
        "passages": partial(
            generate_passages, model, tokenizer, starts, new_tokens=new_tokens, batch_rows=rows
        ),
        "generate": partial(
            usual_model(shape, model).to(DEVICE).eval().generate, ids, attention_mask=torch.ones_like(ids),
            pad_token_id=0, eos_token_id=None, max_new_tokens=new_tokens, do_sample=True, top_k=0,
        ),
    }  # fmt: skip
    times = in_turns(arms, options.rounds(3))
    ratio = times_as_fast(times, "passages", "generate", TARGETS.get(rows))
    return Section(name, times, [ratio], {"new_tokens": new_tokens, "model": place})


def shared(name: str, shape: Shape, options: Options) -> Section:
    """Eight samples of one long prompt beside those of eight prompts that differ in their first token."""
    place, rows, width = options.causal or spec_of("llama", shape), 8, 8 if options.quick else 347
    model = load_model(place, seed=0, vocab_size=shape.vocab, max_positions=512).to(DEVICE).eval()
    tokenizer, ids = load_tokenizer(options.causal or "byte"), list(range(40, 40 + width))
    once, each = [ids] * rows, [[200 + row, *ids[1:]] for row in range(rows)]
    arms: dict[str, Arm] = {
        label: partial(generate_passages, model, tokenizer, prompts, new_tokens=4 if options.quick else 32)
        for label, prompts in (("one prompt", once), ("eight prompts", each))
    }
    times = in_turns(arms, options.rounds(3))
    return Section(name, times, [times_as_fast(times, "one prompt", "eight prompts")], {"model": place})


def sections(options: Options) -> Iterator[tuple[str, Callable[[], Section]]]:
    """Names and what runs them."""
    shape, new_tokens = (SMALL.quick(), 4) if options.quick else (SMALL, 100)
    for rows in (8,) if options.quick else (8, 32, 128):
        name = f"generation-{rows}"
        yield name, partial(generation, name, shape, rows, new_tokens, options)
    for rows in (8,) if options.quick else (8, 32, 64, 96, 128):
        name = f"llama-generation-{rows}"
        yield name, partial(of_llama, name, shape, rows, new_tokens, options)
    yield "llama-generation-shared", partial(shared, "llama-generation-shared", shape, options)
