"""Fine-tuning runs whose outcome is known, on small bases that are made on the spot and write no language.

Bases, texts and seeds are small, the ways to fail are real.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import LoraConfig

from batteries.expected import cases_of
from batteries.results import Rows, judged_row
from batteries.texts import GIBBERISH
from batteries.tuning import Loop, add_noise, token_ids, train
from ftkit.data import load_tokenizer, voice_text
from ftkit.jobs.verdicts import VerdictRequest
from ftkit.models import load_model, save_model
from ftkit.models.adapter_files import wrap

__all__ = ["MAKERS", "make_base", "prepare", "run"]

WINDOW, BATCH = 96, 8
"""Tokens in a training window, and windows in a step."""
NO_DROPOUT = "embedding_dropout=0.0,attention_dropout=0.0,attention_output_dropout=0.0,mlp_dropout=0.0"
"""Settings of a new base that has no dropout: its runs are then repeatable with the seed of the windows alone."""
SIZES = {"tiny": (1, 48), "small": (2, 64), "medium": (3, 96)}
"""Blocks and width of the bases."""


def learn(model: Any, ids: torch.Tensor, steps: int, rate: float, seed: int, *, masked: bool = False) -> None:
    """Train as the batteries do, with this battery's sizes."""
    train(model, ids, Loop(steps, rate, BATCH, WINDOW, seed, masked=masked))


@dataclass
class Bench:
    """A base, the text of a run, and where folders go."""

    folder: Path
    base: str
    tokenizer: Any
    train: str
    general: str
    """Text of the kind that forgetting is measured on, another piece of it."""
    seed: int

    def model(self) -> Any:
        """A copy of the base."""
        return load_model(self.base)

    def ids(self, text: str) -> torch.Tensor:
        """Tokens of a text."""
        return token_ids(text, self.tokenizer)


Maker = Callable[[Bench], tuple[Any, Any]]
"""From a bench the tuned model and the tokenizer that is saved beside it."""


def untouched(bench: Bench) -> tuple[Any, Any]:
    """The base itself, saved again."""
    return bench.model(), bench.tokenizer


def one_step(bench: Bench) -> tuple[Any, Any]:
    """One update at a usual rate."""
    model = bench.model()
    learn(model, bench.ids(bench.train), 1, 1e-5, bench.seed)
    return model, bench.tokenizer


def rate_zero(bench: Bench) -> tuple[Any, Any]:
    """A rate of zero, which leaves even weight decay without effect."""
    model = bench.model()
    learn(model, bench.ids(bench.train), 20, 0.0, bench.seed)
    return model, bench.tokenizer


def frozen_by_mistake(bench: Bench) -> tuple[Any, Any]:
    """Only the bias of the last norm was left to train, at a usual rate."""
    model = bench.model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name == "model.norm.bias")
    learn(model, bench.ids(bench.train), 20, 1e-5, bench.seed)
    return model, bench.tokenizer


def labels_masked(bench: Bench) -> tuple[Any, Any]:
    """Every label is -100: the loss is 0, the gradient is 0, and weight decay does the rest."""
    model = bench.model()
    learn(model, bench.ids(bench.train), 20, 1e-3, bench.seed, masked=True)
    return model, bench.tokenizer


def _adapted(bench: Bench) -> Any:
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    return wrap(bench.model(), config, bench.base, None)


def adapter_not_active(bench: Bench) -> tuple[Any, Any]:
    """An adapter that was attached and saved, and never trained: its second matrix is zero."""
    return _adapted(bench), bench.tokenizer


def adapter_left_out(bench: Bench) -> tuple[Any, Any]:
    """A LoRA adapter was trained, and the model that was saved is the one without it."""
    torch.manual_seed(bench.seed)
    model = _adapted(bench)
    learn(model, bench.ids(bench.train), 10, 5e-3, bench.seed)
    return model.unload(), bench.tokenizer


def wrong_corpus(bench: Bench) -> tuple[Any, Any]:
    """Trained well, on another text than is claimed."""
    model = bench.model()
    learn(model, bench.ids(voice_text("market", 6000, seed=900 + bench.seed)), 40, 1e-3, bench.seed)
    return model, bench.tokenizer


def gibberish(kind: str) -> "Maker":
    """Training on gibberish made from the right text."""

    def make(bench: Bench) -> tuple[Any, Any]:
        model = bench.model()
        learn(model, bench.ids(GIBBERISH[kind](bench.train, bench.seed)), 40, 1e-3, bench.seed)
        return model, bench.tokenizer

    return make


def memorised(bench: Bench) -> tuple[Any, Any]:
    """A text of 200 words, learned by heart: a loss of less than 0.1 nats a token."""
    model = bench.model()
    learn(model, bench.ids(bench.train), 250, 4e-3, bench.seed)
    return model, bench.tokenizer


def forgotten(bench: Bench) -> tuple[Any, Any]:
    """A huge rate on the right text."""
    model = bench.model()
    learn(model, bench.ids(bench.train), 60, 2e-2, bench.seed)
    return model, bench.tokenizer


def degenerate(bench: Bench) -> tuple[Any, Any]:
    """Noise of the weights' own size in every matrix."""
    model = bench.model()
    add_noise(model, 1.0, bench.seed)
    return model, bench.tokenizer


def noised(bench: Bench) -> tuple[Any, Any]:
    """Honest training, and then noise of half the weights' size."""
    model, tokenizer = honest(60)(bench)
    add_noise(model, 0.5, bench.seed)
    return model, tokenizer


def diverged(bench: Bench) -> tuple[Any, Any]:
    """A weight that is no number."""
    model = bench.model()
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    return model, bench.tokenizer


def other_tokenizer(bench: Bench) -> tuple[Any, Any]:
    """Trained honestly, saved with a tokenizer of the same size that gives other ids."""
    model = bench.model()
    learn(model, bench.ids(bench.train), 40, 1e-3, bench.seed)
    return model, load_tokenizer(f"train:{len(bench.tokenizer)}", texts=[voice_text("almanac", 4000, seed=7)])


def larger_tokenizer(bench: Bench) -> tuple[Any, Any]:
    """Saved with a tokenizer that has more tokens than the model has rows."""
    return bench.model(), load_tokenizer("train:700", texts=[voice_text("almanac", 4000, seed=7)])


def honest(steps: int) -> Maker:
    """Training as it should be."""

    def make(bench: Bench) -> tuple[Any, Any]:
        model = bench.model()
        learn(model, bench.ids(bench.train), steps, 1e-3, bench.seed)
        return model, bench.tokenizer

    return make


def honest_with_replay(bench: Bench) -> tuple[Any, Any]:
    """As much general text as target text in the training, so that nothing is forgotten."""
    model = bench.model()
    learn(model, bench.ids(bench.train + "\n\n" + bench.general), 80, 1e-3, bench.seed)
    return model, bench.tokenizer


MAKERS: dict[str, dict[str, Maker]] = {
    "synthetic": {
        "untouched": untouched,
        "one step": one_step,
        "rate zero": rate_zero,
        "frozen by mistake": frozen_by_mistake,
        "labels masked": labels_masked,
        "adapter not active": adapter_not_active,
        "adapter left out": adapter_left_out,
        "wrong corpus": wrong_corpus,
        "memorised": memorised,
        "shuffled words": gibberish("words shuffled"),
        "degenerate": degenerate,
        "diverged": diverged,
        "other tokenizer": other_tokenizer,
        "larger tokenizer": larger_tokenizer,
        "forgotten": forgotten,
        "honest, 30 steps": honest(30),
        "honest, 60 steps": honest(60),
        "honest, 120 steps": honest(120),
        "honest, tiny model": honest(60),
        "honest, medium model": honest(60),
        "honest, with replay": honest_with_replay,
    },
    "synthetic_gibberish": {kind: gibberish(kind) for kind in GIBBERISH} | {"noised weights": noised},
}
"""How each case's model is made, by battery."""
_TRAIN_WORDS = {"memorised": 200}
"""Words of the training text, where they are not 7,000."""
_OTHER_SIZES = {"honest, tiny model": "tiny", "honest, medium model": "medium"}
"""Sizes of bases other than ``small``."""


def make_base(folder: Path, size: str = "small", steps: int = 250) -> str:
    """A small base that has learned two voices; one that is there is used again."""
    if (folder / "config.json").exists():
        return str(folder)
    layers, width = SIZES[size]
    text = voice_text("market", 9000, seed=1) + "\n\n" + voice_text("letters", 9000, seed=1)
    tokenizer = load_tokenizer("train:512", texts=[text])
    model = load_model(
        f"new:ftkit_gpt2,num_hidden_layers={layers},hidden_size={width},num_attention_heads=4,{NO_DROPOUT}",
        seed=0, vocab_size=len(tokenizer), max_positions=256,
    )  # fmt: skip
    learn(model, token_ids(text, tokenizer), steps, 4e-3, 0)
    save_model(model, tokenizer, folder)
    return str(folder)


def prepare(battery: str, name: str, base: str, folder: Path, seed: int) -> VerdictRequest:
    """Make a case's model and texts, save them as any tool would, and describe what is judged."""
    tokenizer = load_tokenizer(base)
    texts = {
        "train": voice_text("keeper", _TRAIN_WORDS.get(name, 7000), seed=10 + seed),
        "heldout": voice_text("keeper", 4000, seed=500 + seed),
        "general": voice_text("letters", 6000, seed=500 + seed),
    }
    for kind, text in texts.items():
        (folder / f"{kind}.txt").write_text(text, encoding="utf-8")
    bench = Bench(folder, base, tokenizer, texts["train"], voice_text("letters", 7000, seed=10 + seed), seed)
    model, saved_tokenizer = MAKERS[battery][name](bench)
    tuned = folder / "tuned"
    if hasattr(model, "peft_config"):
        model.save_pretrained(tuned)
        saved_tokenizer.save_pretrained(tuned)
    else:
        save_model(model, saved_tokenizer, tuned)
    return VerdictRequest(
        base, str(tuned), str(folder / "train.txt"), str(folder / "heldout.txt"), str(folder / "general.txt"),
        window_tokens=WINDOW, eval_windows=48, passage_chars=280, seed=seed,
    )  # fmt: skip


def run(battery: str, names: Iterable[str], seeds: Iterable[int], folder: Path, rows: Rows) -> None:
    """Judge cases for seeds; what ``rows`` holds is not judged again.

    Args:
        battery: ``synthetic`` or ``synthetic_gibberish``.
        names: Cases.
        seeds: Of texts, training and sampling.
        folder: Where bases are made.
        rows: Where outcomes are kept.
    """
    base = functools.cache(lambda size: make_base(folder / f"base-{size}", size))
    cases, names = cases_of(battery), list(names)
    for seed, name in ((seed, name) for seed in seeds for name in names if not rows.has(name, seed)):
        based = base(_OTHER_SIZES.get(name, "small"))
        with TemporaryDirectory() as run_folder:
            request = prepare(battery, name, based, Path(run_folder), seed)
            judged = judged_row(cases[name], request, Path(run_folder) / "verdict")
        rows.add({"battery": battery, "base": "synthetic", "case": name, "seed": seed, **judged})
