"""Trains a tiny model for a few steps; started by test_engine.py in one process or two."""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from conftest import settings, tiny

from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.training import NEXT_TOKEN, Engine, TokenWindows

out, rows = Path(sys.argv[1]), int(sys.argv[2])
run = settings(per_device_train_batch_size=rows, max_steps=5, weight_decay=0.1, max_grad_norm=0.5)
store = tokenize_texts([voice_text("keeper", 2000)], load_tokenizer("byte"), cache=out.parent / "tokens")
model = tiny()
with Engine(model, NEXT_TOKEN, TokenWindows(store, 32, 3), run) as engine:
    records = list(engine)
    if engine.accelerator.is_main_process:
        result = {
            "processes": engine.accelerator.num_processes,
            "losses": [r.loss for r in records],
            "norms": [r.grad_norm for r in records],
            "targets": [r.num_targets for r in records],
            "weights": np.concatenate([p.detach().numpy().ravel()[:200] for p in model.parameters()]).tolist(),
        }
        out.write_text(json.dumps(result))
    engine.accelerator.end_training()
