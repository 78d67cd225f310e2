"""What is said where no command has the name: a job's, another tool's, or a file's is answered with the whole line."""

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

__all__ = ["Commands", "meant_line"]

_JOBS = {"finetune": "fine-tune fine-tuning finetuning fit lora train tune training", "sft": "chat-tuning instruct"}
_COMMANDS = {
    "convert": "export",
    "generate": "complete infer inference sample write",
    "list": "configs jobs recipes",
    "pull": "download",
    "push": "upload",
    "report": "compare show",
    "verdict": "eval evaluate judge score test",
}
"""Names in other tools, by the job or command that does the same."""
_TEXT_SETTING = {"sft": "--examples", "classify": "--labelled"}


def _target(name: str, names: dict[str, str]) -> str:
    return next((target for target, others in names.items() if name in others.split()), "")


class Commands(TyperGroup):
    """The commands; a wrong name ends with one line that says what to type."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command, its name, and what follows it."""
        name = args[0].replace("_", "-")
        if name.startswith("-") or name in self.commands or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        from ftkit.config.launch import report_errors
        from ftkit.errors import ConfigError

        def refuse() -> None:
            raise ConfigError(meant_line(args, self.list_commands(ctx)))

        sys.exit(report_errors(refuse))


def meant_line(arguments: Sequence[str], commands: Sequence[str]) -> str:
    """Message for a name that no command has.

    Args:
        arguments: The name and what follows it.
        commands: The names that there are.
    """
    from ftkit.config.catalogue import entry_paths
    from ftkit.errors import nearest_name

    first, rest = arguments[0], arguments[1:]
    name = first.lower().replace("_", "-")
    jobs = {job.replace("_", "-"): job for job in entry_paths() if job not in commands}
    if job := jobs.get(name) or _target(name, _JOBS):
        if rest and Path(rest[0]).exists():
            rest = [_TEXT_SETTING.get(job, "--corpus"), *rest]
        return f"{first!r} is no command; a job is started with: {_line('run', job, *rest)}"
    if command := _target(name, _COMMANDS):
        return f"{first!r} is no command; 'ftkit {command}' does that: ftkit {command} --help"
    if first.endswith((".yaml", ".yml", ".py")):
        return f"{first!r} is no command; a configuration or a recipe is started with: {_line('run', *arguments)}"
    if Path(first).is_file():
        return f"{first!r} is no command; to train on it: {_line('run', 'finetune', '--corpus', *arguments)}"
    near = nearest_name(name, [*commands, *jobs], otherwise="; 'ftkit --help' shows the commands, 'ftkit run' the jobs")
    return f"unknown command {first!r}" + re.sub(
        r"'([\w-]+)'", lambda found: f"'run {found[1]}'" if found[1] in jobs else found[0], near
    )


def _line(*words: str) -> str:
    return shlex.join(("ftkit", *words))
