"""The same small trainings on any number of processes; test_many_processes.py calls it and starts it under torchrun."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from conftest import FAMILIES, NO_DROPOUT, settings, tiny
from torch.distributed.fsdp import FSDPModule

from ftkit.config import AdapterSettings, Settings
from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.errors import CheckpointError, ConfigError, DeviceError, PeerError
from ftkit.generation import PRESETS, generate_passages
from ftkit.models import load_model, save_model
from ftkit.runs import RunFolder, open_run
from ftkit.runs.processes import gathered, is_main_process, join_processes, num_processes
from ftkit.training import (
    MASKED_TOKENS,
    NEXT_TOKEN,
    CheckpointFolder,
    Engine,
    HeldOutWindows,
    MaskedWindows,
    TokenWindows,
    held_out_loss,
    lockstep,
    train_and_log,
)
from ftkit.tuning import attach_adapter, movement, snapshot
from ftkit.tuning.shards import local_part

STEPS, BATCH = 4, 8
TIMED = {"freeze": "attention.q,embedding[rows=32]", "freeze_until": {"mlp": 2}}
SLICED = {"max_group_norms": {"attention.v": 0.05}, "max_grad_value": 0.02}
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
    """One batch of 8 rows, however many processes share it."""
    asked = {"max_steps": STEPS, "weight_decay": 0.1, "max_grad_norm": 0.5, "warmup_steps": 2}
    return settings(**{**asked, "per_device_train_batch_size": BATCH // num_processes(), **values})


def store(folder: Path) -> Any:
    return tokenize_texts([TEXT], load_tokenizer("byte"), cache=folder / "tokens")


def windows(folder: Path) -> TokenWindows:
    return TokenWindows(store(folder), 32, 3)


def weights(model: torch.nn.Module) -> list[float]:
    """Every 23rd weight of every tensor."""
    return torch.cat([p.detach().ravel()[::23] for p in model.parameters()]).tolist()


def ranks_differ(model: torch.nn.Module) -> float:
    """Largest difference of a weight between two processes."""
    everyone = torch.tensor(gathered([weights(model)]), dtype=torch.float64)
    return float((everyone - everyone[0]).abs().max())


def trained(engine: Engine, until: int = STEPS) -> dict[str, Any]:
    """Train and tell what happened."""
    records = []
    with engine:
        for record in engine:
            records.append(record)
            if record.step == until:
                break
    return {
        "steps": [r.step for r in records],
        "losses": [r.loss for r in records],
        "norms": [{"all": r.grad_norm, **r.group_norms} for r in records],
        "targets": [r.num_targets for r in records],
        "rates": [r.learning_rate for r in records],
        "cut": [r.clip_factor for r in records],
        "weights": weights(engine.model),
        "ranks_differ": ranks_differ(engine.model),
    }


def bert_engine(folder: Path) -> Engine:
    """An encoder that learns masked tokens."""
    tokenizer = load_tokenizer("train:300", texts=[TEXT], with_mask=True)
    pieces = tokenize_texts([TEXT], tokenizer, cache=folder / "pieces")
    bert = load_model(f"new:bert,{NO_DROPOUT['bert']}", task="masked-lm", vocab_size=len(tokenizer), seed=0)
    return Engine(bert, MASKED_TOKENS, MaskedWindows(pieces, 32, 3, tokenizer), run_settings())


def timed_engine(folder: Path) -> Engine:
    return Engine(tiny("gpt2"), NEXT_TOKEN, windows(folder), run_settings(**TIMED))


def lora_engine(folder: Path) -> Engine:
    run = AdapterSettings(**run_settings().model_dump() | {"peft": "lora", "learning_rate": 1e-2})
    return Engine(attach_adapter(tiny("gpt2"), run, base="m"), NEXT_TOKEN, windows(folder), run)


def families(folder: Path) -> dict[str, Any]:
    """All five families, without dropout."""
    found = {}
    for family in FAMILIES:
        source = Recorded(windows(folder), [])
        found[family] = trained(Engine(tiny(family), NEXT_TOKEN, source, run_settings()))
        found[family]["rows"] = gathered(source.asked)
    found["bert"] = trained(bert_engine(folder))
    return found


def others(folder: Path) -> dict[str, Any]:
    """Accumulation, clipping and freezing of slices, freezing that changes with time, an adapter, dropout."""
    rows = BATCH // num_processes() // 2
    half = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": rows}
    found = {"accumulated": trained(Engine(tiny("gpt2"), NEXT_TOKEN, windows(folder), run_settings(**half)))}
    found["sliced"] = trained(Engine(tiny("gpt2"), NEXT_TOKEN, windows(folder), run_settings(**SLICED)))
    found["thawed"] = trained(Engine(tiny("gpt_neo"), NEXT_TOKEN, windows(folder), run_settings(unfreeze_every=1)))
    found["lora"] = trained(lora_engine(folder))
    found["dropout"] = trained(Engine(tiny(dropout=True), NEXT_TOKEN, windows(folder), run_settings()))
    engine = timed_engine(folder)
    start, moved = snapshot(engine.model), []
    with engine:
        for _ in engine:
            proof = movement(start, engine.model, engine.freezing.trainable)
            moved.append(sorted({row.group[:3] for row in proof.groups if row.relative and row.group[:3] == "mlp"}))
    found["proof"] = {"leaks": list(proof.leaks), "moved": moved, "ranks_differ": ranks_differ(engine.model)}
    found["timed"] = trained(timed_engine(folder))
    return found


def pair(folder: Path) -> dict[str, Any]:
    """Two arms in lock-step."""
    runs = {"all": run_settings(), "norms": run_settings(train="norm")}
    models = {name: tiny() for name in runs}
    arms = {name: Engine(models[name], NEXT_TOKEN, windows(folder), run) for name, run in runs.items()}
    records = list(lockstep(arms, {name: iter(arm) for name, arm in arms.items()}))
    return {
        "order": [name for name, _ in records],
        "losses": [record.loss for _, record in records],
        "weights": {name: weights(model) for name, model in models.items()},
        "ranks_differ": max(ranks_differ(model) for model in models.values()),
    }


def best(folder: Path, place: str) -> dict[str, Any]:
    """A planted overfit that stops early and goes back to its best step; killed after an odd step and resumed too."""
    tokenizer = load_tokenizer("byte")
    learned = TokenWindows(tokenize_texts([TEXT[:48]], tokenizer, cache=folder / "few"), 32, 3)
    unseen = HeldOutWindows(tokenize_texts([voice_text("almanac", 300)], tokenizer, cache=folder / "few"), 32)
    run = run_settings(
        max_steps=30, learning_rate=1e-2, lr_scheduler_type="constant", warmup_steps=0, eval_steps=2, save_steps=5,
        eval_windows=4, load_best_model_at_end=True, early_stopping_patience=3,
    )  # fmt: skip

    def train(name: str, until: int = 0) -> dict[str, Any]:
        at = folder / f"best-{place}-{num_processes()}-{name}"
        at.mkdir(exist_ok=True)
        phase, model, seen = RunFolder(at, "best", {"phases": {}}, is_main_process()), tiny("gpt2"), {}
        checkpoints = CheckpointFolder(phase.checkpoints("model"))
        with Engine(model, NEXT_TOKEN, learned, run, checkpoints) as engine:
            phase.truncate_logs("model", engine.step or -1)
            for record in train_and_log(engine, phase, "model", learned, unseen):
                with engine.whole_model():
                    seen[record.step] = weights(model) if is_main_process() else []
                if record.step == until:
                    break
        found = phase.manifest.get("best", {}).get("model", {})
        return {
            **found, "every_process": gathered([json.dumps(found)]), "weights": weights(model),
            "then": seen.get(found.get("step")), "ranks_differ": ranks_differ(model),
        }  # fmt: skip

    whole = train("whole")
    train("killed", until=9)
    return {"whole": whole, "resumed": train("killed")}


def cut(folder: Path, name: str) -> dict[str, Any]:
    """Train half of the steps and leave a checkpoint."""
    run = run_settings(save_steps=STEPS // 2)
    engine = Engine(tiny("gpt2"), NEXT_TOKEN, windows(folder), run, CheckpointFolder(folder / name))
    trained(engine, until=STEPS // 2 + 1)
    return {"files": sorted(path.name for path in (folder / name / f"step-{STEPS // 2:06d}").iterdir())}


def resumed(folder: Path, name: str) -> dict[str, Any]:
    """Go on from a checkpoint that others have left, and leave it as it is."""
    checkpoints = CheckpointFolder(folder / name)
    return trained(Engine(tiny("gpt2"), NEXT_TOKEN, windows(folder), run_settings(), checkpoints))


def divide(folder: Path) -> None:
    """From here on with FSDP2."""
    os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")


def divided(folder: Path) -> dict[str, Any]:
    """The same trainings with every tensor divided; whole again to look at, and at the end."""
    found = {"bert": trained(bert_engine(folder)), "timed": trained(timed_engine(folder))}
    found["lora"] = trained(lora_engine(folder))
    found["sliced"] = trained(Engine(tiny("gpt2"), NEXT_TOKEN, windows(folder), run_settings(**SLICED)))
    model, data, looks = tiny(), store(folder), []
    with Engine(model, NEXT_TOKEN, windows(folder), run_settings()) as engine:
        parts = [name for name, module in engine.module.named_modules() if isinstance(module, FSDPModule)]
        largest = max(local_part(p).numel() / p.numel() for p in model.parameters())
        for _ in engine:
            with engine.whole_model():
                if is_main_process():
                    looks.append(look(model, data))
    found["own"] = {"looks": looks, "parts": parts, "largest": largest, "weights": weights(model)}
    if is_main_process():
        save_model(model, None, folder / "saved")
    return found


def look(model: Any, data: Any) -> list[Any]:
    """Held-out loss and a sample."""
    passages = generate_passages(
        model, load_tokenizer("byte"), ["The keeper"], new_tokens=8, sampling=PRESETS["greedy"]
    )
    return [held_out_loss(model, HeldOutWindows(data, 32), 4).nats_per_target, passages[0].text]


def looked(folder: Path) -> list[list[Any]]:
    """What ``divided`` sees, in an ordinary training."""
    model, data, found = tiny(), store(folder), []
    with Engine(model, NEXT_TOKEN, windows(folder), run_settings()) as engine:
        for _ in engine:
            found.append(look(model, data))
    return found


def refused(folder: Path) -> list[list[str]]:
    """Errors of every process: only process 0 sees the folder, only one sees the broken disk, all see the settings."""
    found = []
    (folder / "used").mkdir(exist_ok=True)
    (folder / "used" / "letter.txt").write_text("mine")

    def tell(action: Any) -> None:
        try:
            action()
        except (ConfigError, CheckpointError, DeviceError, PeerError) as error:
            found.append([type(error).__name__, str(error.exit_code)])

    def enter(**values: Any) -> None:
        with open_run(Settings(**values), __file__):
            raise AssertionError

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    def save_where_one_disk_is_full() -> None:
        run, name = run_settings(save_steps=1), folder / "full"
        engine = Engine(tiny("gpt2"), NEXT_TOKEN, windows(folder), run, CheckpointFolder(name))
        if not is_main_process():
            checkpoints.write_tensors = full
        engine.save()

    from ftkit.training import checkpoints

    tell(lambda: enter(output_dir=str(folder / "used")))
    tell(lambda: enter(output_dir=str(folder / "new"), require_processes=3))
    original = checkpoints.write_tensors
    tell(save_where_one_disk_is_full)
    checkpoints.write_tensors = original
    tell(lambda: Engine(tiny("gpt2"), NEXT_TOKEN, windows(folder), run_settings(optimizer="adafactor")))
    os.environ["FSDP_VERSION"] = "1"
    tell(lambda: Engine(tiny("gpt2"), NEXT_TOKEN, windows(folder), run_settings()))
    os.environ["FSDP_VERSION"] = "2"
    left = [path.name for path in (folder / "full").iterdir()]
    return gathered([[*map(list, found), left]])


def main(folder: Path, parts: list[str]) -> None:
    join_processes()
    found: dict[str, Any] = {"processes": torch.distributed.get_world_size()}
    for part in parts:
        name, _, argument = part.partition(":")
        found[part] = globals()[name](folder, *([argument] if argument else []))
    if is_main_process():
        (folder / f"found-{num_processes()}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
