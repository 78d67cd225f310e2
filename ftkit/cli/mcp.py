"""``ftkit mcp``: plan, inspect, verdict and generate for agents, by the Model Context Protocol on standard streams.

Each call runs the command of the same name with ``--json`` in a process of its own, so that the answers are those of
the command line, memory is given back, and a call that is cancelled ends.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mcp.server import MCPServer

__all__ = ["Folders", "Refused", "mcp", "server"]

_PREFIX = re.compile(r"(voices|halves):")
"""Sources that read no file by themselves, and one whose rest is a file."""
_NEVER = ("trust_remote_code", "allow_pickle", "config", "output_dir", "resume", "report_to", "figure")
"""What an agent cannot set: it runs code, reads a file of settings, or writes. Other tools' names for these too."""


_PROGRAM = """
from ftkit.config.launch import configure_output
configure_output(to_stderr=True)
from ftkit.cli import main
main()
"""
"""The ``ftkit`` command, which with ``--json`` would say nothing on the way."""
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


class Refused(ValueError):
    """What an agent asked for and does not get."""


class Folders:
    """The folders that may be read.

    Args:
        paths: The folders.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = [path.resolve() for path in paths]

    def _inside(self, path: Path) -> bool:
        return any(path.resolve().is_relative_to(folder) for folder in self.paths)

    def path(self, asked: str, *, new: bool = False) -> str:
        """A path under the folders, absolute; a relative one begins at the first folder.

        Args:
            asked: As the agent gave it.
            new: Whether it is a file that is to be written.

        Raises:
            Refused: It is elsewhere, does not exist, or holds a link to elsewhere.
        """
        path = self.paths[0] / Path(asked).expanduser()
        allowed = ", ".join(map(str, self.paths))
        if not self._inside(path.parent if new else path):
            raise Refused(f"{asked}: is not under a folder that this server was started with: {allowed}")
        if new:
            if path.exists():
                raise Refused(f"{asked}: exists already; name a new file")
            return str(path)
        if not path.exists():
            raise Refused(f"{asked}: there is nothing of this name under {allowed}")
        if path.is_dir():
            self._check_content(asked, path)
        return str(path.resolve())

    def _check_content(self, asked: str, folder: Path) -> None:
        for parent, folders, files in os.walk(folder):
            for name in (*folders, *files):
                if not self._inside(Path(parent) / name):
                    raise Refused(f"{asked}: {name} in it is a link to a place that this server may not read")
        adapter = folder / "adapter_config.json"
        if adapter.is_file():
            base = str(json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path") or "")
            if Path(base).exists() and not self._inside(Path(base)):
                raise Refused(f"{asked}: the base of this adapter, {base}, is not under the server's folders")

    def source(self, asked: str) -> str:
        """A source of text: a path, a voice, or halves of one of these."""
        if (prefix := _PREFIX.match(asked)) is None:
            return self.path(asked)
        rest = asked[prefix.end() :]
        return asked if prefix[1] == "voices" else prefix[0] + self.source(rest)

    def setting(self, name: str, value: Any) -> str:
        """A setting's value as a flag has it; texts that name a file are paths under the folders."""
        from ftkit.config.other_names import own_name

        setting = name.replace("-", "_")
        if not setting.isidentifier():
            raise Refused(f"{name}: is no name of a setting, such as max_steps")
        if own_name(setting, _NEVER) in _NEVER:
            raise Refused(f"{name}: an agent cannot set this")
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, list):
            return ",".join(self.setting(name, each) for each in value)
        if not isinstance(value, str):
            return str(value)
        key, equals, rest = value.partition("=")
        if equals and key.isidentifier():
            return key + equals + self.setting(name, rest)
        is_path = "/" in value or "\\" in value or value.startswith(("~", ".")) or (self.paths[0] / value).exists()
        return self.source(value) if is_path or (":" in value and not _spec(value)) else value


def _spec(value: str) -> bool:
    """Whether a value with a colon names no place: a new model, a base that is made, a tokenizer, a voice."""
    return value.startswith(("new:", "base:", "train:", "voices:"))


def _options(**values: Any) -> list[str]:
    """Flags of those values that were given."""
    flags = []
    for name, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            if each is not None and each is not False:
                flags.append(f"--{name.replace('_', '-')}" + ("" if each is True else f"={each}"))
    return flags


async def _run(words: Iterable[str], context: Any, folders: Folders) -> Any:
    """Run a command; its lines on standard error are progress, and its answer is JSON or lines of JSON."""
    from mcp.server.mcpserver.exceptions import ToolError

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, *words, cwd=folders.paths[0], env=os.environ | _OFFLINE,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        answer = asyncio.ensure_future(process.stdout.read())
        lines: list[str] = []
        async for line in process.stderr:
            if said := line.decode("utf-8", errors="replace").strip():
                lines.append(said)
                await context.report_progress(len(lines), message=said)
        text = (await answer).decode("utf-8", errors="replace").strip()
        code = await process.wait()
    finally:
        if process.returncode is None:  # the call was cancelled
            process.kill()
    if not text.startswith(("{", "[")):
        raise ToolError("\n".join([*lines[-5:], text]).strip() or f"ftkit ended with exit code {code}")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines()]


def _checked(words: Callable[[], list[str]]) -> list[str]:
    """The words of a command; what is refused is an error of the tool."""
    from mcp.server.mcpserver.exceptions import ToolError

    try:
        return words()
    except Refused as error:
        raise ToolError(str(error)) from None


class Tools:
    """The four tools; their parameters and docstrings are what an agent is told.

    Args:
        folders: What may be read.
    """

    def __init__(self, folders: Folders) -> None:
        self.folders = folders

    async def inspect(self, model: str, context: Any) -> Any:
        """Show what a model folder consists of: architecture, parameters, dtype, adapters.

        Args:
            model: A model folder, an adapter's too.
        """
        return await _run(_checked(lambda: ["inspect", self.folders.path(model), "--json"]), context, self.folders)

    async def plan(self, recipe: str, context: Any, settings: dict[str, Any] | None = None) -> Any:
        """Say what a training run will need before it runs: tokens, memory, minutes.

        Args:
            recipe: A recipe or configuration that `ftkit list` shows, such as finetune or sft.
            settings: Its settings, such as {"model": "base", "corpus": "my.txt", "peft": "lora"}.
        """

        def words() -> list[str]:
            if not recipe.isidentifier():
                raise Refused(f"{recipe}: give the name of a recipe or of a configuration, such as finetune")
            given = [f"--{name}={self.folders.setting(name, value)}" for name, value in (settings or {}).items()]
            return ["plan", recipe, "--json", *given]

        return await _run(_checked(words), context, self.folders)

    async def verdict(
        self, base: str, tuned: str | list[str], context: Any, text: str | None = None, examples: str | None = None,
        heldout: str | None = None, general: str | None = None, against: dict[str, str] | None = None,
        report: str | None = None, num_passages: int | None = None, passage_chars: int = 400,
    ) -> Any:  # fmt: skip
        """Judge a fine-tuned model against its base: worked, worse, copied, broken, nothing or unsure, with evidence.

        Takes minutes. Give `text` or `examples`.

        Args:
            base: Folder of the model that the tuned one started from.
            tuned: Folder of the tuned model, an adapter's too, or its GGUF file; a list judges several of one base.
            text: File or folder of what it was trained on.
            examples: Instead of `text`, a file of prompts with completions (.jsonl, .csv, .parquet).
            heldout: Text, or examples, of the same kind that it never saw.
            general: Other text, for forgetting.
            against: Text by other authors, by name.
            report: New HTML file for the report.
            num_passages: One look at so many passages instead of up to three.
            passage_chars: Characters in a passage.
        """

        def words() -> list[str]:
            sources = {"text": text, "examples": examples, "general": general}
            sources["heldout" if examples is None else "heldout_examples"] = heldout
            options: dict[str, Any] = {
                name: self.folders.source(each) for name, each in sources.items() if each is not None
            }
            if report is not None:
                options["report"] = self.folders.path(report, new=True)
            if text is not None:
                options |= {"passage_chars": passage_chars, "num_passages": num_passages}
                options["against"] = [f"{name}={self.folders.source(each)}" for name, each in (against or {}).items()]
            asked = [tuned] if isinstance(tuned, str) else tuned
            models = {"base": self.folders.path(base), "tuned": [self.folders.path(each) for each in asked]}
            return ["verdict", "--json", *_options(**models, **options)]

        return await _run(_checked(words), context, self.folders)

    async def generate(
        self, model: str, prompt: str, context: Any, chat: bool | None = None, system: str | None = None,
        num: int = 1, max_new_tokens: int = 200, temperature: float | None = None, seed: int = 42,
        compare_with_base: bool = False, base: str | None = None,
    ) -> Any:  # fmt: skip
        """Let a model continue a text, or answer it if it is a chat model.

        Args:
            model: A model folder, an adapter's or a run's too.
            prompt: The text.
            chat: True answers by the chat template, False continues the text.
            system: System turn of a chat.
            num: Samples.
            max_new_tokens: Longest sample.
            temperature: 0 takes always the likeliest token.
            seed: Same seed, same text.
            compare_with_base: Add what its base writes from the same seed.
            base: Folder of an adapter's base, where it is not found.
        """

        def words() -> list[str]:
            kind = {None: [], True: ["--chat"], False: ["--no-chat"]}[chat]
            options = _options(
                system=system, num=num, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed,
                compare_with_base=compare_with_base, base=None if base is None else self.folders.path(base),
            )  # fmt: skip
            return ["generate", self.folders.path(model), "--json", f"--prompt={prompt}", *kind, *options]

        return await _run(_checked(words), context, self.folders)


def server(folders: Folders) -> "MCPServer[Any]":
    """The server with its four tools.

    Args:
        folders: What may be read.
    """
    from mcp.server import MCPServer
    from mcp.server.mcpserver import Context

    from ftkit import __version__

    where = ", ".join(map(str, folders.paths))
    made: MCPServer[Any] = MCPServer(
        "ftkit",
        version=__version__,
        instructions=f"Fine-tuned language models: whether a tuning worked, with evidence. Paths are under {where}.",
        log_level="WARNING",
    )
    tools = Tools(folders)
    for name in ("inspect", "plan", "verdict", "generate"):
        getattr(Tools, name).__annotations__["context"] = Context  # its package may be missing when this file is read
        made.tool()(getattr(tools, name))
    return made


def mcp(
    folders: Annotated[list[Path], typer.Argument(help="Folders with the models and texts that may be read.")],
) -> None:
    """Offer plan, inspect, verdict and generate to an agent (Model Context Protocol, standard input and output).

    Only paths under the folders are read; nothing is downloaded, and no code of a model is run.
    """
    from ftkit.config.launch import report_errors

    def start() -> None:
        from importlib.util import find_spec

        from ftkit.errors import ConfigError

        if find_spec("mcp") is None:
            raise ConfigError("ftkit mcp needs the package mcp: pip install 'ftkit[mcp]'")
        if missing := [str(folder) for folder in folders if not folder.is_dir()]:
            raise ConfigError(f"{missing[0]}: is no folder; name folders with the models and texts that may be read")
        server(Folders(folders)).run()

    sys.exit(report_errors(start))
