"""The same small trainings on any number of processes; test_many_processes.py starts it under torchrun and calls it."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from torch.distributed.fsdp import FSDPModule
from conftest import FAMILIES, settings, tiny

from ftkit.config import AdapterSettings
from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.generation import generate_passages
from ftkit.models import load_model, save_model
from ftkit.runs.processes import gathered, num_processes
from ftkit.training import (
    MASKED_TOKENS,
    NEXT_TOKEN,
    CheckpointFolder,
    Engine,
    MaskedWindows,
    TokenWindows,
    held_out_loss,
    lockstep,
)
from ftkit.tuning import attach_adapter
from ftkit.tuning.shards import local_part

STEPS, BATCH = 4, 8
TEXT = voice_text("keeper", 2000)


@dataclass
class Recorded:
    """A source that writes down which rows were asked for."""

    source: TokenWindows
    asked: list[int]

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    def rows(self, indices: Any) -> Any:
        self.asked.extend(int(i) for i in indices)
        return self.source.rows(indices)


def run_settings(**values: object) -> Any:
    """One global batch, however many share it: 8 rows, half of them at a time where there is room."""
    rows = {"per_device_train_batch_size": BATCH // num_processes()}
    return settings(**{"max_steps": STEPS, "weight_decay": 0.1, "max_grad_norm": 0.5, "warmup_steps": 2, **rows, **values})


def store(folder: Path) -> Any:
    return tokenize_texts([TEXT], load_tokenizer("byte"), cache=folder / "tokens")


def weights(model: torch.nn.Module) -> list[float]:
    """A sample of all weights, the whole of none."""
    return torch.cat([p.detach().ravel()[::23] for p in model.parameters()]).tolist()


def ranks_differ(model: torch.nn.Module) -> float:
    """Largest difference of any weight between two processes."""
    flat = [weights(model)]
    everyone = torch.tensor(gathered(flat), dtype=torch.float64)
    return float((everyone - everyone[0]).abs().max())


def trained(engine: Engine, until: int = STEPS) -> dict[str, Any]:
    """Train and tell what happened."""
    with engine:
        records = []
        for record in engine:
            records.append(record)
            if record.step == until:
                break
    return {
        "steps": [r.step for r in records],
        "losses": [r.loss for r in records],
        "norms": [r.grad_norm for r in records],
        "groups": [r.group_norms for r in records],
        "targets": [r.num_targets for r in records],
        "rates": [r.learning_rate for r in records],
        "weights": weights(engine.model),
        "ranks_differ": ranks_differ(engine.model),
    }


def families(folder: Path) -> dict[str, Any]:
    """All five families, without dropout."""
    found = {}
    for family in FAMILIES:
        source = Recorded(TokenWindows(store(folder), 32, 3), [])
        found[family] = trained(Engine(tiny(family), NEXT_TOKEN, source, run_settings()))
        rows = gathered(source.asked)
        found[family]["rows"] = [sorted(rows)[first : first + BATCH] for first in range(0, len(rows), BATCH)]
    found["bert"] = trained(bert_engine(folder))
    return found


def bert_engine(folder: Path) -> Engine:
    """An encoder that learns masked tokens."""
    tokenizer = load_tokenizer("train:300", texts=[TEXT], with_mask=True)
    pieces = tokenize_texts([TEXT], tokenizer, cache=folder / "pieces")
    bert = load_model(
        "new:bert,hidden_dropout_prob=0.0,attention_probs_dropout_prob=0.0", task="masked-lm", vocab_size=len(tokenizer), seed=0
    )
    return Engine(bert, MASKED_TOKENS, MaskedWindows(pieces, 32, 3, tokenizer), run_settings())


def others(folder: Path) -> dict[str, Any]:
    """Accumulation, a pair in lock-step, an adapter, freezing that changes with time and in slices, dropout."""
    source = TokenWindows(store(folder), 32, 3)
    half = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": BATCH // num_processes() // 2}
    found = {"accumulated": trained(Engine(tiny(), NEXT_TOKEN, source, run_settings(**half)))} if BATCH // num_processes() > 1 else {}
    timed = {"freeze": "attention.q,embedding[rows=32]", "freeze_until": {"mlp": 2}}
    found["timed"] = trained(Engine(tiny("gpt2"), NEXT_TOKEN, source, run_settings(**timed)))
    found["thawed"] = trained(Engine(tiny("gpt_neo"), NEXT_TOKEN, source, run_settings(thaw_every=1)))
    lora = AdapterSettings(**run_settings().model_dump() | {"peft": "lora", "learning_rate": 1e-2})
    found["lora"] = trained(Engine(attach_adapter(tiny("gpt2"), lora, base="m"), NEXT_TOKEN, source, lora))
    found["dropout"] = trained(Engine(tiny(dropout=True), NEXT_TOKEN, source, run_settings()))
    models = {"all": tiny(), "norms": tiny()}
    engines = {
        "all": Engine(models["all"], NEXT_TOKEN, source, run_settings()),
        "norms": Engine(models["norms"], NEXT_TOKEN, source, run_settings(train="norm")),
    }
    order = [(name, r.loss) for name, r in lockstep(engines, {name: iter(e) for name, e in engines.items()})]
    found["pair"] = {"order": order, "weights": {name: weights(model) for name, model in models.items()}}
    return found


def cut(folder: Path, name: str) -> dict[str, Any]:
    """Train half of the steps and leave a checkpoint."""
    run = run_settings(save_steps=STEPS // 2)
    engine = Engine(tiny("gpt2"), NEXT_TOKEN, TokenWindows(store(folder), 32, 3), run, CheckpointFolder(folder / name))
    trained(engine, until=STEPS // 2 + 1)
    return {"files": sorted(path.name for path in (folder / name / f"step-{STEPS // 2:06d}").iterdir())}


def resumed(folder: Path, name: str) -> dict[str, Any]:
    """Go on from a checkpoint that others have left, and leave it as it is."""
    run = run_settings()
    return trained(
        Engine(tiny("gpt2"), NEXT_TOKEN, TokenWindows(store(folder), 32, 3), run, CheckpointFolder(folder / name))
    )


def divided(folder: Path) -> dict[str, Any]:
    """The same with FSDP2: every tensor divided, blocks by themselves; whole again to look at, and at the end."""
    os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")
    data = store(folder)
    source, found = TokenWindows(data, 32, 3), {}
    for name, family, values in (
        ("own", "ftkit_gpt2", {}),
        ("gpt2", "gpt2", {"max_group_norms": {"attention.q": 0.01}}),
        ("timed", "gpt2", {"freeze": "attention.q,embedding[rows=32]", "freeze_until": {"mlp": 2}}),
    ):
        engine = Engine(tiny(family), NEXT_TOKEN, source, run_settings(**values))
        blocks = [n for n, m in engine.module.named_modules() if isinstance(m, FSDPModule)]
        shares = [local_part(p).numel() / p.numel() for p in engine.model.parameters()]
        found[name] = trained(engine) | {"blocks": blocks, "largest_share": max(shares)}
    found["bert"] = trained(bert_engine(folder))
    model = tiny("gpt2")
    with Engine(model, NEXT_TOKEN, source, run_settings(save_steps=STEPS // 2), CheckpointFolder(folder / "sharded")) as engine:
        looks = []
        for record in engine:
            with engine.whole_model():
                if engine.accelerator.is_main_process:
                    text = generate_passages(model, load_tokenizer("byte"), ["The keeper"], new_tokens=8)[0].text
                    looks.append([held_out_loss(model, data, 32, max_windows=4).nats_per_target, text])
    found["looks"] = looks
    found["weights"] = weights(model)
    if engine.accelerator.is_main_process:
        save_model(model, None, folder / "saved")
    return found


def main(folder: Path, parts: list[str]) -> None:
    torch.manual_seed(0)
    found: dict[str, Any] = {"processes": num_processes()}
    for part in parts:
        name, _, argument = part.partition(":")
        arguments = [argument] if argument else []
        found[part] = globals()[name](folder, *arguments)
    if os.environ["RANK"] == "0":
        (folder / f"found-{num_processes()}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
