"""The server for agents, asked by the protocol's own client over the streams of a real process."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from ftkit.cli.mcp import Folders, Refused
from ftkit.data import load_tokenizer, voice_text
from ftkit.models import load_model, save_model

OUTSIDE = "is not under a folder that this server was started with"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, two copies of it, a text; and a secret beside the folder."""
    parent = tmp_path_factory.mktemp("mcp")
    allowed = parent / "allowed"
    model = load_model("new:ftkit_gpt2,initializer_range=0.4", seed=0, vocab_size=257, max_positions=128)
    for name in ("base", "copy", "again"):
        save_model(model, load_tokenizer("byte"), allowed / name)
    (allowed / "novel.txt").write_text(voice_text("keeper", 4000))
    (parent / "secret.txt").write_text("a secret " * 2000)
    return allowed


def asked(folder: Path, *calls: tuple[str, dict[str, Any]]) -> tuple[list[Any], list[str]]:
    """Answers to calls of tools, and what was reported on the way."""
    reported: list[str] = []
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "ftkit", "mcp", str(folder)], env=variables, cwd=folder.parent
    )

    async def progress(done: float, total: float | None, message: str | None) -> None:
        reported.append(message or "")

    async def talk() -> list[Any]:
        async with Client(stdio_client(parameters)) as client:
            names = sorted(tool.name for tool in (await client.list_tools()).tools)
            assert names == ["generate", "inspect", "plan", "verdict"]
            return [await client.call_tool(name, given, progress_callback=progress) for name, given in calls]

    return asyncio.run(talk()), reported


def text_of(answer: Any) -> str:
    return "".join(part.text for part in answer.content)


def test_an_agent_gets_what_the_command_line_prints(folder: Path) -> None:
    (seen, written, judged, planned, several), reported = asked(
        folder,
        ("inspect", {"model": "base"}),
        ("generate", {"model": str(folder / "base"), "prompt": "The sea", "max_new_tokens": 8, "chat": False}),
        (
            "verdict",
            {
                "base": "base",
                "tuned": "copy",
                "text": "novel.txt",
                "num_passages": 30,
                "passage_chars": 80,
                "report": "out.html",
            },
        ),
        ("plan", {"recipe": "finetune", "settings": {"model": "base", "corpus": "novel.txt", "max_steps": 2}}),
        (
            "verdict",
            {
                "base": "base",
                "tuned": ["copy", "again"],
                "text": "novel.txt",
                "num_passages": 30,
                "passage_chars": 80,
            },
        ),
    )
    assert list(json.loads(text_of(several))["models"]) == ["copy", "again"]
    for answer in (seen, written, judged, planned):
        assert not answer.is_error, text_of(answer)
    assert json.loads(text_of(seen))["total"] > 0
    assert json.loads(text_of(written))["prompt"] == "The sea"
    assert json.loads(text_of(judged))["verdict"] == "nothing"
    assert (folder / "out.html").stat().st_size > 10_000
    assert json.loads(text_of(planned))["recipe"] == "finetune"
    assert any("judge" in line or "held-out" in line for line in reported), reported


def test_errors_are_errors_of_the_tool_and_name_what_to_do(folder: Path) -> None:
    (no_text, elsewhere, code), _ = asked(
        folder,
        ("verdict", {"base": "base", "tuned": "copy"}),
        ("generate", {"model": "../secret.txt", "prompt": "x"}),
        ("plan", {"recipe": "finetune", "settings": {"model": "base", "trust_remote_code": True}}),
    )
    assert all(answer.is_error for answer in (no_text, elsewhere, code))
    assert "text" in text_of(no_text)
    assert OUTSIDE in text_of(elsewhere)
    assert "an agent cannot set this" in text_of(code)


@pytest.mark.parametrize(
    "ask",
    [
        lambda f: f.path("../secret.txt"),
        lambda f: f.path("/etc/passwd"),
        lambda f: f.path("linked.txt"),
        lambda f: f.path("with_link"),
        lambda f: f.path("adapter"),
        lambda f: f.path("../new.html", new=True),
        lambda f: f.path("novel.txt", new=True),
        lambda f: f.path("not_there"),
        lambda f: f.source("halves:../secret.txt"),
        lambda f: f.source("hub:someone/data"),
        lambda f: f.setting("corpora", "one=../secret.txt"),
        lambda f: f.setting("corpora", ["novel.txt", "../secret.txt"]),
        lambda f: f.setting("corpus", "gutenberg:11"),
        lambda f: f.setting("allow-pickle", True),
        lambda f: f.setting("config", "novel.yaml"),
        lambda f: f.setting("output", "new"),
        lambda f: f.setting("figure", "new.svg"),
        lambda f: f.setting("corpus=../secret.txt", "novel.txt"),
        lambda f: f.setting("max_steps 1 --allow_pickle", True),
    ],
)
def test_nothing_outside_the_folders_is_reached(ask: Callable[[Folders], str], folder: Path) -> None:
    links = {folder / "linked.txt": folder.parent / "secret.txt", folder / "with_link/inner": Path("/etc")}
    for link, target in links.items():
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(target)
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    (folder / "adapter").mkdir(exist_ok=True)
    (folder / "adapter/adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(outside)}))
    with pytest.raises(Refused):
        ask(Folders([folder]))


def test_what_names_no_file_passes(folder: Path) -> None:
    folders = Folders([folder])
    passed = {
        "model": "new:gpt2,n_layer=2", "corpus": "voices:keeper", "peft": "lora", "max_steps": 3, "other": "base:tales",
    }  # fmt: skip
    assert [folders.setting(name, value) for name, value in passed.items()] == [str(v) for v in passed.values()]
    assert folders.setting("corpus", "novel.txt") == str(folder / "novel.txt")
    assert folders.setting("corpora", ["a=novel.txt", "b=voices:market"]) == f"a={folder}/novel.txt,b=voices:market"
