"""Tiny real models and data for the tests of the engine."""

from pathlib import Path

import pytest
from transformers import PreTrainedModel

from ftkit.config import TrainingSettings
from ftkit.data import TokenStore, load_tokenizer, tokenize_texts, voice_text
from ftkit.models import load_model

FAMILIES = ["ftkit_gpt2", "gpt2", "gpt_neo", "codegen"]
NO_DROPOUT = {
    "ftkit_gpt2": "embedding_dropout=0.0,attention_dropout=0.0,attention_output_dropout=0.0,mlp_dropout=0.0",
    "gpt2": "resid_pdrop=0.0,embd_pdrop=0.0,attn_pdrop=0.0",
    "gpt_neo": "resid_dropout=0.0,embed_dropout=0.0,attention_dropout=0.0",
    "codegen": "resid_pdrop=0.0,embd_pdrop=0.0,attn_pdrop=0.0",
    "bert": "hidden_dropout_prob=0.0,attention_probs_dropout_prob=0.0",
}


def tiny(family: str = "ftkit_gpt2", *, dropout: bool = False, seed: int = 0, **values: object) -> PreTrainedModel:
    """A tiny model of a family, with random weights."""
    spec = f"new:{family}" + ("" if dropout else f",{NO_DROPOUT[family]}")
    return load_model(spec, seed=seed, vocab_size=257, max_positions=64, **values)


def settings(**values: object) -> TrainingSettings:
    """Settings for a few steps on the CPU."""
    defaults: dict[str, object] = {
        "model": "m", "max_steps": 6, "window_tokens": 32, "per_device_train_batch_size": 8, "learning_rate": 1e-3,
        "lr_scheduler_type": "linear", "save_steps": 0, "use_cpu": True,
    }  # fmt: skip
    return TrainingSettings(**{**defaults, **values})


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Byte tokens of an embedded voice."""
    cache: Path = tmp_path_factory.mktemp("tokens")
    return tokenize_texts([voice_text("keeper", 2000)], load_tokenizer("byte"), cache=cache)
