"""Fine-tuning runs whose outcome is known, made with a plain torch loop: what the verdict must say of each.

    python tests/recipes/planted_runs.py --seeds 6 --out planted.json

judges every case for every seed and counts. Bases, texts and seeds are small, the ways to fail are real.
"""

import argparse
import functools
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from scipy.stats import beta

from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.errors import FtkitError
from ftkit.jobs.verdicts import VerdictRequest, judge_models
from ftkit.models import load_model, save_model
from ftkit.models.adapter_files import wrap
from ftkit.runs.files import write_json

WINDOW, BATCH = 96, 8
NO_DROPOUT = "embedding_dropout=0.0,attention_dropout=0.0,attention_output_dropout=0.0,mlp_dropout=0.0"


def learn(model: Any, ids: torch.Tensor, steps: int, rate: float, seed: int, *, masked: bool = False) -> None:
    """A plain loop: random windows, AdamW, the mean loss of a token. All rates but those of a failure are ordinary."""
    draw = torch.Generator().manual_seed(seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01)
    model.train()
    for step in range(steps):
        starts = torch.randint(0, len(ids) - WINDOW + 1, (BATCH,), generator=draw)
        batch = torch.stack([ids[start : start + WINDOW] for start in starts.tolist()])
        labels = torch.full_like(batch, -100) if masked else batch
        logits = model(input_ids=batch).logits[:, :-1]
        summed = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
        optimizer.zero_grad()
        (summed / labels[:, 1:].numel()).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (steps - step) / (0.5 * steps))
        optimizer.step()
    model.eval()


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
        return torch.from_numpy(np.asarray(tokenize_texts([text], self.tokenizer).ids).astype(np.int64))


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


def shuffled_words(bench: Bench) -> tuple[Any, Any]:
    """Trained on the right words in no order: it knows the vocabulary and no sentence."""
    words = bench.train.split()
    random.Random(bench.seed).shuffle(words)
    model = bench.model()
    learn(model, bench.ids(" ".join(words)), 40, 1e-3, bench.seed)
    return model, bench.tokenizer


def memorised(bench: Bench) -> tuple[Any, Any]:
    """A short piece of the text, learned by heart: a loss of less than 0.1 nats a token."""
    model = bench.model()
    learn(model, bench.ids(bench.train)[:400], 250, 4e-3, bench.seed)
    return model, bench.tokenizer


def forgotten(bench: Bench) -> tuple[Any, Any]:
    """A huge rate on the right text."""
    model = bench.model()
    learn(model, bench.ids(bench.train), 60, 2e-2, bench.seed)
    return model, bench.tokenizer


def degenerate(bench: Bench) -> tuple[Any, Any]:
    """Noise of the weights' own size in every matrix."""
    model = bench.model()
    draw = torch.Generator().manual_seed(bench.seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.add_(torch.randn(parameter.shape, generator=draw) * parameter.std())
    return model, bench.tokenizer


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


@dataclass(frozen=True)
class Planted:
    """A case and what counts as naming it rightly."""

    make: Maker
    right: tuple[str, ...]
    """Main verdicts that are right."""
    says: str = ""
    """What must stand in a reason: the cause, where it can be seen."""
    beside: str = ""
    """What must be the main verdict or stand in ``also``."""
    never: str = ""
    """What must not stand in ``also``."""
    worked: bool = False
    """Whether it did work, so that ``worked`` is no false alarm."""
    size: str = "small"
    """Of the base."""


SIZES = {"tiny": (1, 48), "small": (2, 64), "medium": (3, 96)}
"""Blocks and width of the bases."""

CASES: dict[str, Planted] = {
    "untouched": Planted(untouched, ("nothing",), "bit for bit"),
    "one step": Planted(one_step, ("nothing",), "of their norm"),
    "rate zero": Planted(rate_zero, ("nothing",), "bit for bit"),
    "frozen by mistake": Planted(frozen_by_mistake, ("nothing",), "only norm changed"),
    "labels masked": Planted(labels_masked, ("nothing",), "weight decay alone"),
    "adapter not active": Planted(adapter_not_active, ("nothing",), "LoRA B matrices are zero"),
    "adapter left out": Planted(adapter_left_out, ("nothing",), "bit for bit"),
    "wrong corpus": Planted(wrong_corpus, ("unsure", "forgot")),
    "memorised": Planted(memorised, ("copied",)),
    "shuffled words": Planted(shuffled_words, ("broken",), "insensitive to word order"),
    "degenerate": Planted(degenerate, ("broken",)),
    "diverged": Planted(diverged, ("broken",), "not finite"),
    "other tokenizer": Planted(other_tokenizer, ("broken",), "wrong tokenizer"),
    "larger tokenizer": Planted(larger_tokenizer, ("refused",)),
    "forgotten": Planted(forgotten, ("worked", "forgot"), beside="forgot", worked=True),
    "honest, 30 steps": Planted(honest(30), ("worked",), worked=True),
    "honest, 60 steps": Planted(honest(60), ("worked",), worked=True),
    "honest, 120 steps": Planted(honest(120), ("worked",), worked=True),
    "honest, tiny model": Planted(honest(60), ("worked",), worked=True, size="tiny"),
    "honest, medium model": Planted(honest(60), ("worked",), worked=True, size="medium"),
    "honest, with replay": Planted(honest_with_replay, ("worked", "unsure"), never="forgot", worked=True),
}


def make_base(folder: Path, size: str = "small", steps: int = 250) -> str:
    """A small base that has learned two voices."""
    layers, width = SIZES[size]
    text = voice_text("market", 9000, seed=1) + "\n\n" + voice_text("letters", 9000, seed=1)
    tokenizer = load_tokenizer("train:512", texts=[text])
    model = load_model(
        f"new:ftkit_gpt2,num_hidden_layers={layers},hidden_size={width},num_attention_heads=4,{NO_DROPOUT}",
        seed=0, vocab_size=len(tokenizer), max_positions=256,
    )  # fmt: skip
    ids = torch.from_numpy(np.asarray(tokenize_texts([text], tokenizer).ids).astype(np.int64))
    learn(model, ids, steps, 4e-3, 0)
    save_model(model, tokenizer, folder)
    return str(folder)


def judge(case: Planted, base: str, folder: Path, seed: int) -> dict[str, Any]:
    """Make a case, save it as any tool would, and ask for the verdict."""
    tokenizer = load_tokenizer(base)
    texts = {
        "train": voice_text("keeper", 7000, seed=10 + seed), "heldout": voice_text("keeper", 4000, seed=500 + seed),
        "general": voice_text("letters", 6000, seed=500 + seed),
    }  # fmt: skip
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    bench = Bench(folder, base, tokenizer, texts["train"], voice_text("letters", 7000, seed=10 + seed), seed)
    model, saved_tokenizer = case.make(bench)
    tuned = folder / "tuned"
    if hasattr(model, "peft_config"):
        model.save_pretrained(tuned)
        saved_tokenizer.save_pretrained(tuned)
    else:
        save_model(model, saved_tokenizer, tuned)
    request = VerdictRequest(
        base, str(tuned), *(str(folder / f"{name}.txt") for name in texts), window_tokens=WINDOW, eval_windows=48,
        passage_chars=280, num_passages=32, seed=seed,
    )  # fmt: skip
    try:
        found = judge_models(request, folder / "verdict").verdict
    except FtkitError as error:
        return _row(case, "refused", [], [str(error)], [f"exit {error.exit_code}"])
    return _row(case, found.verdict, found.also, found.reasons, found.decided_by)


def _row(case: Planted, word: str, also: list[str], reasons: list[str], by: list[str]) -> dict[str, Any]:
    right = word in case.right and (not case.beside or case.beside in [word, *also]) and case.never not in also
    return {
        "verdict": word, "also": also, "reasons": reasons, "decided_by": by,
        "right": right and any(case.says in reason for reason in reasons),
        "false_worked": word == "worked" and not case.worked,
    }  # fmt: skip


def exact_interval(right: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share."""
    low = float(beta.ppf(0.025, right, of - right + 1)) if right else 0.0
    high = float(beta.ppf(0.975, right + 1, of - right)) if right < of else 1.0
    return low, high


def run(
    cases: Iterable[str], seeds: Iterable[int], folder: Path, rows: list[dict[str, Any]] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Judge cases for seeds; all rows again after each that is new, so that they can be kept.

    Args:
        cases: Names.
        seeds: Of texts, training and sampling.
        folder: Where bases are made.
        rows: What is known already, which is not judged again.
    """
    base = functools.cache(lambda size: make_base(folder / f"base-{size}", size))
    found = list(rows or [])
    known = {(row["case"], row["seed"]) for row in found}
    for seed, name in ((seed, name) for seed in seeds for name in cases if (name, seed) not in known):
        case = CASES[name]
        based = base(case.size)
        started = time.process_time()
        with TemporaryDirectory() as run_folder:
            judged = judge(case, based, Path(run_folder), seed)
        row = {"case": name, "seed": seed, **judged, "cpu_seconds": round(time.process_time() - started, 1)}
        doubt = "" if row["right"] else f"NOT RIGHT: {row['reasons'][0]}"
        print(f"{seed} {name:<20} {said(row):<22} {row['cpu_seconds']:>5} s {doubt}", flush=True)
        found.append(row)
        yield found


def said(row: dict[str, Any]) -> str:
    """The main verdict and what stands beside it."""
    return " + ".join([row["verdict"], *row["also"]])


def counts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many were named rightly, and how often ``worked`` was wrong, with exact intervals."""
    negative = [row for row in rows if not CASES[row["case"]].worked]

    def share(rows: list[dict[str, Any]], key: str) -> dict[str, Any]:
        count = sum(row[key] for row in rows)
        return {"count": count, "of": len(rows), "interval": exact_interval(count, len(rows)) if rows else None}

    return {
        "right": share(rows, "right"),
        "negative_right": share(negative, "right"),
        "negative_false_worked": share(negative, "false_worked"),
        "by_case": {
            name: share([row for row in rows if row["case"] == name], "right")
            for name in dict.fromkeys(row["case"] for row in rows)
        },
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Counts by case in Markdown."""
    lines = ["| case | said | named rightly |", "|---|---|---|"]
    for name, share in counts(rows)["by_case"].items():
        words = Counter(said(row) for row in rows if row["case"] == name)
        heard = ", ".join(f"{count} x {word}" for word, count in words.most_common())
        lines.append(f"| {name} | {heard} | {in_words(share)} |")
    return "\n".join(lines)


def in_words(share: dict[str, Any]) -> str:
    """A count and its interval."""
    low, high = share["interval"]
    return f"{share['count']} of {share['of']} [{low:.0%}, {high:.0%}]"


def main() -> int:
    """Count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--out", type=Path, help="Kept after every run; what it holds is not judged again.")
    asked = parser.parse_args()
    before = json.loads(asked.out.read_text(encoding="utf-8"))["rows"] if asked.out and asked.out.exists() else []
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    with TemporaryDirectory() as folder:
        os.environ["FTKIT_CACHE"] = f"{folder}/cache"
        rows = before
        for rows in run(asked.cases, seeds, Path(folder), before):
            if asked.out:
                write_json(asked.out, {"counts": counts(rows), "rows": rows})
    found = counts(rows)
    print(table(rows))
    for name in ("right", "negative_right", "negative_false_worked"):
        print(f"{name}: {in_words(found[name])}")
    return 1 if found["negative_false_worked"]["count"] else 0


if __name__ == "__main__":
    sys.exit(main())
