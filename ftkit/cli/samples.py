"""What a person sees of samples: streamed or in blocks in a terminal, a JSON object a line elsewhere."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import typer

from ftkit.cli.output import json_line, safe_text

if TYPE_CHECKING:
    from ftkit.generation import Prompt, Sample, SampleWriter

__all__ = ["Trimmed", "counted", "ended", "show_both", "show_samples", "show_stream"]

T = TypeVar("T")

_SIDE_BY_SIDE = 80
"""Columns of a terminal from which two texts stand beside each other: a column then has room for six words."""


def _styled(text: str, **style: bool) -> str:
    """A text in bold or dim, unless the terminal or its user wants none of it."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else typer.style(text, **style)


def counted(what: str, items: Iterable[T], total: int) -> Iterator[T]:
    """Pass items on, and show in a terminal how many have come.

    Args:
        what: Whose they are.
        items: The items.
        total: How many there will be.
    """
    shown = sys.stderr.isatty() and total > 1
    for number, item in enumerate(items, start=1):
        if shown:
            typer.echo(f"\r{what}: {number:,} of {total:,}", err=True, nl=number == total)
        yield item


def ended(sample: "Sample") -> str:
    """How a sample came to its end, for a person."""
    tokens = f"{sample.tokens:,} token{'' if sample.tokens == 1 else 's'}"
    return (
        f"[{tokens}, ended by itself]" if sample.stop_reason == "end of text" else f"[{tokens}, cut off at the limit]"
    )


def _note(text: str) -> None:
    typer.echo(_styled(text, dim=True), err=True)


def _heading(prompt: "Prompt") -> str:
    """A prompt as its reader knows it: the text, or the last turn."""
    return safe_text(prompt.messages[-1]["content"] if prompt.messages else prompt.text)


def show_stream(writer: "SampleWriter", prompt: "Prompt", row: Sequence[int], num: int) -> None:
    """Write samples of one prompt in a terminal, token by token.

    Args:
        writer: The model.
        prompt: What it continues or answers; a text that is continued is shown before what follows it.
        row: Its ids.
        num: How many samples.
    """
    continued = not writer.settings.chat
    for number in range(num):
        seed = writer.settings.seed + number
        if num > 1:
            _note(f"{'' if number == 0 else chr(10)}sample {number + 1} of {num}, seed {seed}")
        trimmed = Trimmed(begun=continued)
        if continued:
            typer.echo(_styled(_heading(prompt), bold=True), nl=False)
        try:
            sample = writer.stream(row, seed, trimmed.show)
        except KeyboardInterrupt:
            typer.echo()
            raise
        typer.echo()
        _note(ended(sample))


class Trimmed:
    """Prints the pieces of a text without white space at its beginning and its end.

    Args:
        begun: Whether something stands before it, so that white space at its beginning belongs to it.
    """

    def __init__(self, begun: bool = False) -> None:
        self.held, self.begun = "", begun

    def show(self, piece: str) -> None:
        """Print a piece; white space at its end waits for what follows."""
        text = self.held + safe_text(piece)
        text = text if self.begun else text.lstrip()
        shown = text.rstrip()
        self.held, self.begun = text[len(shown) :], self.begun or bool(shown)
        typer.echo(shown, nl=False)


def show_samples(written: Iterable[tuple["Prompt", Sequence["Sample"]]], model: str, in_terminal: bool) -> None:
    """Show samples of prompts as they come.

    Args:
        written: Prompts with their samples.
        model: Whose they are.
        in_terminal: Whether a person reads; else each sample is a line of JSON.
    """
    for place, (prompt, samples) in enumerate(written):
        if in_terminal:
            typer.echo(f"{chr(10) if place else ''}{_styled(_heading(prompt), bold=True)}")
        for number, sample in enumerate(samples, start=1):
            if in_terminal:
                typer.echo(f"{safe_text(sample.text).strip()} {_styled(ended(sample), dim=True)}")
            else:
                typer.echo(json_line({"model": model, **prompt.as_dict(), "sample": number, **sample.as_dict()}))


def show_both(
    written: Iterable[tuple["Prompt", Sequence["Sample"], Sequence["Sample"]]],
    names: tuple[str, str],
    in_terminal: bool,
) -> None:
    """Show samples of a base and of the model that was made of it, for the same prompts and seeds.

    Args:
        written: Prompts, each with the base's samples and the tuned model's.
        names: Of the base and of the tuned model.
        in_terminal: Whether a person reads; else each pair is a line of JSON.
    """
    for place, (prompt, of_base, of_tuned) in enumerate(written):
        if in_terminal:
            typer.echo(f"{chr(10) if place else ''}{_styled(_heading(prompt), bold=True)}")
            _show_beside(names, list(zip(of_base, of_tuned, strict=True)))
            continue
        for number, (base, tuned) in enumerate(zip(of_base, of_tuned, strict=True), start=1):
            beside = {"base": {"model": names[0], **base.as_dict()}}
            typer.echo(
                json_line({"model": names[1], **prompt.as_dict(), "sample": number, **tuned.as_dict(), **beside})
            )


def _show_beside(names: tuple[str, str], pairs: Sequence[tuple["Sample", "Sample"]]) -> None:
    """Two columns where the terminal has room, else one text below the other."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    headings = (f"base: {safe_text(names[0])}", f"tuned: {safe_text(names[1])}")
    cells = [tuple(Text.assemble(f"{safe_text(s.text).strip()} ", (ended(s), "dim")) for s in pair) for pair in pairs]
    console = Console(highlight=False, markup=False, width=shutil.get_terminal_size().columns)
    if console.width < _SIDE_BY_SIDE:
        for pair in cells:
            for heading, cell in zip(headings, pair, strict=True):
                console.print(Text(heading, "underline"))
                console.print(cell)
        return
    table = Table(box=None, padding=(0, 2, 1, 0), pad_edge=False, expand=True)
    for heading in headings:
        table.add_column(Text(heading, "underline"), ratio=1, overflow="fold")
    for pair in cells:
        table.add_row(*pair)
    console.print(table)
