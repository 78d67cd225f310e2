"""Trains a tiny GPT-2 with frozen slices and a timed thaw; started by test_freezing.py, alone or with another."""

import json
import sys
from pathlib import Path

import torch

from ftkit.config import TrainingSettings
from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.models import load_model
from ftkit.training import NEXT_TOKEN, Engine, TokenWindows
from ftkit.tuning import movement, snapshot

out, rows = Path(sys.argv[1]), int(sys.argv[2])
run = TrainingSettings(
    model="m", tokenizer="byte", max_steps=4, window_tokens=24, per_device_train_batch_size=rows, learning_rate=1e-3,
    gradient_accumulation_steps=2, weight_decay=0.1, max_grad_norm=0.5, save_steps=0, use_cpu=True,
    freeze="attention.q,embedding[rows=32]", freeze_until={"mlp": 2},
)  # fmt: skip
store = tokenize_texts([voice_text("keeper", 2000)], load_tokenizer("byte"), cache=out.parent / "tokens")
model = load_model("new:gpt2,resid_pdrop=0.0,embd_pdrop=0.0,attn_pdrop=0.0", seed=1, vocab_size=257)
start = snapshot(model)
moved_by_step = []
with Engine(model, NEXT_TOKEN, TokenWindows(store, 24, 3), run) as engine:
    for _ in engine:
        proof = movement(start, model, engine.freezing.trainable)
        moved_by_step.append(sorted({row.group[:3] for row in proof.groups if row.relative and row.group[:3] == "mlp"}))
    flat = torch.cat([p.detach().ravel() for p in model.parameters()])
    everyone = engine.accelerator.gather(flat).reshape(engine.accelerator.num_processes, -1)
    if engine.accelerator.is_main_process:
        result = {
            "processes": engine.accelerator.num_processes,
            "leaks": list(proof.leaks),
            "moved_by_step": moved_by_step,
            "ranks_differ": float((everyone - everyone[0]).abs().max()),
            "weights": flat[::37].tolist(),
        }
        out.write_text(json.dumps(result))
    engine.accelerator.end_training()
