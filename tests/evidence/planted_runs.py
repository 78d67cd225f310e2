"""Fine-tuning runs whose outcome is known, made with a plain torch loop: what the verdict must say of each.

    python tests/evidence/planted_runs.py --seeds 5 --out planted.json

judges every case for every seed and counts. Bases, texts and seeds are small, the ways to fail are real.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import beta

from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.models import load_model, save_model
from ftkit.studies.verdicts import VerdictRequest, judge_models

WINDOW, BATCH = 96, 16
NO_DROPOUT = "embedding_dropout=0.0,attention_dropout=0.0,attention_output_dropout=0.0,mlp_dropout=0.0"


def learn(model: Any, ids: torch.Tensor, steps: int, rate: float, seed: int, *, masked: bool = False) -> None:
    """A plain loop: random windows, AdamW, the model's own loss. All rates but those of a failure are ordinary."""
    draw = torch.Generator().manual_seed(seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01)
    model.train()
    for step in range(steps):
        starts = torch.randint(0, len(ids) - WINDOW + 1, (BATCH,), generator=draw)
        batch = torch.stack([ids[start : start + WINDOW] for start in starts.tolist()])
        loss = model(input_ids=batch, labels=torch.full_like(batch, -100) if masked else batch).loss
        optimizer.zero_grad()
        if torch.isfinite(loss):
            loss.backward()
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
    """Every label is -100: there is no loss, and the optimizer has no gradient."""
    model = bench.model()
    learn(model, bench.ids(bench.train), 20, 1e-3, bench.seed, masked=True)
    return model, bench.tokenizer


def adapter_not_active(bench: Bench) -> tuple[Any, Any]:
    """An adapter that was attached and saved, and never trained: its second matrix is zero."""
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(bench.model(), config)
    model.peft_config["default"].base_model_name_or_path = bench.base
    return model, bench.tokenizer


def wrong_corpus(bench: Bench) -> tuple[Any, Any]:
    """Trained well, on another text than is claimed."""
    model = bench.model()
    learn(model, bench.ids(voice_text("market", 6000, seed=900 + bench.seed)), 40, 1e-3, bench.seed)
    return model, bench.tokenizer


def memorised(bench: Bench) -> tuple[Any, Any]:
    """A short piece of the text, learnt by heart."""
    model = bench.model()
    learn(model, bench.ids(bench.train)[:1200], 260, 3e-3, bench.seed)
    return model, bench.tokenizer


def forgotten(bench: Bench) -> tuple[Any, Any]:
    """A huge rate on the right text."""
    model = bench.model()
    learn(model, bench.ids(bench.train), 60, 1e-2, bench.seed)
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


def honest(steps: int) -> Maker:
    """Training as it should be, of three lengths."""

    def make(bench: Bench) -> tuple[Any, Any]:
        model = bench.model()
        learn(model, bench.ids(bench.train), steps, 1e-3, bench.seed)
        return model, bench.tokenizer

    return make


@dataclass(frozen=True)
class Planted:
    """A case and what counts as naming it rightly."""

    make: Maker
    right: tuple[str, ...]
    """Main verdicts that are right, or words that must stand in ``also`` with a leading ``+``."""
    worked: bool = False
    """Whether it did work, so that ``worked`` is no false alarm."""


CASES: dict[str, Planted] = {
    "untouched": Planted(untouched, ("nothing",)),
    "one step": Planted(one_step, ("nothing",)),
    "rate zero": Planted(rate_zero, ("nothing",)),
    "frozen by mistake": Planted(frozen_by_mistake, ("nothing",)),
    "labels masked": Planted(labels_masked, ("nothing",)),
    "adapter not active": Planted(adapter_not_active, ("nothing",)),
    "wrong corpus": Planted(wrong_corpus, ("unsure", "nothing", "forgot")),
    "memorised": Planted(memorised, ("copied",)),
    "forgotten": Planted(forgotten, ("forgot", "+forgot", "broken"), worked=True),
    "degenerate": Planted(degenerate, ("broken",)),
    "diverged": Planted(diverged, ("broken",)),
    "other tokenizer": Planted(other_tokenizer, ("broken",)),
    "honest, 30 steps": Planted(honest(30), ("worked",), worked=True),
    "honest, 60 steps": Planted(honest(60), ("worked",), worked=True),
    "honest, 120 steps": Planted(honest(120), ("worked",), worked=True),
}


def make_base(folder: Path, *, layers: int = 2, width: int = 96, steps: int = 220) -> str:
    """A small base that has learnt two voices."""
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
    train, heldout, general = folder / "train.txt", folder / "heldout.txt", folder / "general.txt"
    train.write_text(voice_text("keeper", 7000, seed=10 + seed), encoding="utf-8")
    heldout.write_text(voice_text("keeper", 4000, seed=500 + seed), encoding="utf-8")
    general.write_text(voice_text("letters", 6000, seed=500 + seed), encoding="utf-8")
    model, saved_tokenizer = case.make(Bench(folder, base, tokenizer, train.read_text(encoding="utf-8"), seed))
    tuned = folder / "tuned"
    if hasattr(model, "peft_config"):
        model.save_pretrained(tuned)
        saved_tokenizer.save_pretrained(tuned)
    else:
        save_model(model, saved_tokenizer, tuned)
    request = VerdictRequest(
        base, str(tuned), str(train), str(heldout), str(general), window_tokens=WINDOW, eval_windows=60,
        passage_chars=280, num_passages=40, seed=seed,
    )  # fmt: skip
    found = judge_models(request, folder / "verdict")
    said = [found.verdict.verdict, *(f"+{word}" for word in found.verdict.also)]
    return {
        "verdict": found.verdict.verdict, "also": found.verdict.also, "reasons": found.verdict.reasons,
        "right": bool(set(said) & set(case.right)),
        "false_worked": found.verdict.verdict == "worked" and not case.worked,
    }  # fmt: skip


def exact_interval(right: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share."""
    low = float(beta.ppf(0.025, right, of - right + 1)) if right else 0.0
    high = float(beta.ppf(0.975, right + 1, of - right)) if right < of else 1.0
    return low, high


def run(cases: Iterable[str], seeds: Iterable[int], base: str) -> list[dict[str, Any]]:
    """Judge cases for seeds; a line for each as it is known."""
    found = []
    for seed in seeds:
        for name in cases:
            started = time.perf_counter()
            with TemporaryDirectory() as folder:
                judged = judge(CASES[name], base, Path(folder), seed)
            row = {"case": name, "seed": seed, **judged, "seconds": round(time.perf_counter() - started, 1)}
            said = " ".join([row["verdict"], *(f"+{word}" for word in row["also"])])
            doubt = "" if row["right"] else f"NOT RIGHT: {row['reasons'][0]}"
            print(f"{seed} {name:<20} {said:<22} {doubt}", flush=True)
            found.append(row)
    return found


def main() -> int:
    """Count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        rows = run(asked.cases, range(asked.seeds), make_base(Path(folder) / "base"))
    negative = [row for row in rows if not CASES[row["case"]].worked]
    false, right = sum(row["false_worked"] for row in negative), sum(row["right"] for row in rows)
    summary = {
        "runs": len(rows), "right": right, "right_interval": exact_interval(right, len(rows)),
        "negative_runs": len(negative), "false_worked": false,
        "false_worked_interval": exact_interval(false, len(negative)) if negative else None,
    }  # fmt: skip
    print(json.dumps(summary))
    if asked.out:
        asked.out.write_text(json.dumps({"summary": summary, "rows": rows}, indent=1), encoding="utf-8")
    return 1 if false else 0


if __name__ == "__main__":
    sys.exit(main())
