"""The command that changes a model's architecture: ``convert``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ftkit.cli.model_options import AllowPickle, Revision, check_revision
from ftkit.cli.output import run_command

__all__ = ["convert"]


def convert(
    model: Annotated[str, typer.Argument(help="A folder or a Hub id.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    to: Annotated[
        Literal["gpt2", "ftkit_gpt2"], typer.Option(help="gpt2 is Hugging Face's, ftkit_gpt2 is ftkit's own.")
    ],
    revision: Revision = None,
    allow_pickle: AllowPickle = False,
) -> None:
    """Convert a GPT-2 between ftkit's own architecture and Hugging Face's.

    Language models and classifiers of texts, with their tokenizer. OUT appears once its logits are those of MODEL.
    """

    def start() -> None:
        from ftkit.inspection.converted_folder import convert_folder

        check_revision(revision, model)
        done = convert_folder(model, out, to, revision=revision, allow_pickle=allow_pickle)
        typer.echo(
            f"{out}: {done.source} -> {done.target}, {done.parameters:,} parameters in {done.dtype},"
            f" {'with' if done.has_tokenizer else 'without'} a tokenizer"
        )
        typer.echo(f"largest difference of the logits: {done.difference:.3g}")

    run_command(start)
