"""Trains a model whose activations overflow; started by test_diagnosing.py under torchrun."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from conftest import settings, tiny

from ftkit.data import load_tokenizer, tokenize_texts, voice_text
from ftkit.errors import DivergedError
from ftkit.training import NEXT_TOKEN, Engine, TokenWindows

out = Path(sys.argv[1])
model = tiny("gpt2")
with torch.no_grad():
    model.transformer.h[1].mlp.c_fc.bias.fill_(1e37)
    model.transformer.h[1].mlp.c_proj.weight.fill_(1.0)
run = settings(per_device_train_batch_size=2, max_steps=2)
store = tokenize_texts([voice_text("keeper", 2000)], load_tokenizer("byte"), cache=out / "tokens")
with Engine(model, NEXT_TOKEN, TokenWindows(store, 32, 3), run) as engine:
    try:
        list(engine)
    except DivergedError as error:
        (out / f"{engine.accelerator.process_index}.txt").write_text(str(error), encoding="utf-8")
    engine.accelerator.end_training()
