"""Passages for the comparison of measures of style: real text, and what models write that were tuned to a book."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ftkit.config import AdapterSettings
from ftkit.data import load_corpus, load_tokenizer, split_corpus, tokenize_texts
from ftkit.evidence import PassageWriter, cut_passages, spread_evenly
from ftkit.generation import PRESETS, Sampling
from ftkit.models import load_model
from ftkit.training import NEXT_TOKEN, Engine, TokenWindows
from ftkit.tuning import attach_adapter

CHARACTERS = 400
"""As in ``ftkit verdict``."""
BOOKS = {"alice": "11-alice.txt", "gulliver": "829-gulliver.txt"}
"""Texts to learn; each has the other books for comparison."""
OTHER, UNSEEN = "2701-moby-dick.txt", "2148-poe.txt"
"""Another author that the judge learns, and one that it does not."""


@dataclass(frozen=True)
class Tuning:
    """How a base is tuned: what is tried for each of them."""

    peft: Literal["none", "lora"]
    learning_rate: float
    steps: int
    half: int
    """Steps after which it counts as half trained."""
    rows: int
    passages: int


TUNINGS = {
    "stories260k": Tuning("none", 2e-3, 600, 60, 16, 48),
    "smollm": Tuning("lora", 1e-3, 40, 8, 4, 48),
}
"""By the name of the base's folder."""


def real_texts(books: Path, target: str) -> dict[str, list[str]]:
    """Passages of real text by role: training and held-out text of the target, of the other, and of an unseen one."""
    found = {}
    for role, file in (("target", BOOKS[target]), ("other", OTHER), ("unseen", UNSEEN)):
        split = split_corpus(load_corpus(str(books / file), name=role), policy="blocks", heldout_share=0.2, seed=0)
        for side, texts in (("train", split.train_documents), ("heldout", split.heldout_documents)):
            found[f"{role} {side}"] = spread_evenly(cut_passages(list(texts), CHARACTERS), 600)
    return found


def written(books: Path, base: Path, target: str) -> dict[str, list[str]]:
    """What a base writes, and the same base tuned to a book: half and fully, and the latter at temperature 0.5."""
    tuning, tokenizer = TUNINGS[base.name], load_tokenizer(str(base))
    split = split_corpus(
        load_corpus(str(books / BOOKS[target]), name=target), policy="blocks", heldout_share=0.2, seed=0
    )
    train, heldout = (tokenize_texts(list(t), tokenizer) for t in (split.train_documents, split.heldout_documents))
    n = tuning.passages

    def passages(seed: int, sampling: Sampling = PRESETS["plain"]) -> list[str]:
        """What the model writes now after words of held-out text; every second passage follows training text."""
        writer = PassageWriter.after(heldout, split.heldout_documents, split.train_documents, CHARACTERS, sampling)
        return list(writer.write(model.eval(), 2 * n, seed).heldout)

    model: Any = load_model(str(base))
    found = {"base": passages(0), "base for judges": [*passages(1), *passages(3)]}
    settings = AdapterSettings(
        model=str(base), peft=tuning.peft, learning_rate=tuning.learning_rate, max_steps=tuning.steps, save_steps=0,
        per_device_train_batch_size=tuning.rows, window_tokens=128, warmup_steps=0.1, use_cpu=True,
    )  # fmt: skip
    model = attach_adapter(model, settings) if tuning.peft != "none" else model
    with Engine(model, NEXT_TOKEN, TokenWindows(train, 128, seed=0), settings) as engine:
        for record in engine:
            if record.step == tuning.half:
                found["half trained"] = passages(2)
                model.train()
    return found | {"honest": passages(2), "caricature": passages(2, Sampling(temperature=0.5))}


def all_passages(books: Path, bases: list[Path], kept: Path) -> Iterator[tuple[str, str, dict[str, list[str]]]]:
    """Passages by base and book; what is written once is kept in a folder."""
    kept.mkdir(parents=True, exist_ok=True)
    for base in bases:
        for target in BOOKS:
            file = kept / f"{base.name}-{target}.json"
            if not file.is_file():
                found = real_texts(books, target) | written(books, base, target)
                file.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
            yield base.name, target, json.loads(file.read_text(encoding="utf-8"))
