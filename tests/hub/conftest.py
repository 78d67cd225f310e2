"""A Hub of our own, and a tiny model with its tokenizer to share."""

from pathlib import Path

import pytest
from hub_server import Hub, serving

from ftkit.data import load_tokenizer
from ftkit.models import load_model, save_model


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """A running Hub, which the client may reach."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the LFS way, which HTTP can play
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An own GPT-2 with its tokenizer."""
    folder = tmp_path_factory.mktemp("saved") / "alice"
    tokenizer = load_tokenizer("byte")
    save_model(load_model("new:ftkit_gpt2,hidden_size=32", vocab_size=len(tokenizer), seed=0), tokenizer, folder)
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """The same in a folder that a test may change."""
    import shutil

    return Path(shutil.copytree(saved, tmp_path / "alice"))
