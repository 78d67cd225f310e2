"""The command that changes a model's architecture: ``convert``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ftkit.cli.model_options import AllowPickle, Revision, check_revision
from ftkit.cli.output import run_command
from ftkit.errors import ConfigError

__all__ = ["convert"]


def convert(
    model: Annotated[str, typer.Argument(help="A folder or a Hub id.")],
    out: Annotated[Path, typer.Argument(help="A new folder, or a new file for gguf.")],
    to: Annotated[
        Literal["gpt2", "ftkit_gpt2", "gguf"],
        typer.Option(help="gpt2 is Hugging Face's, ftkit_gpt2 is ftkit's own, gguf a file for llama.cpp and Ollama."),
    ],
    numbers: Annotated[
        Literal["f32", "f16", "q8_0", "q4_0"] | None,
        typer.Option("--type", help="How a GGUF file stores matrices [default: q8_0]."),
    ] = None,
    revision: Revision = None,
    allow_pickle: AllowPickle = False,
) -> None:
    """Convert a GPT-2 between ftkit's own architecture and Hugging Face's, or a Llama or GPT-2 to GGUF.

    Language models and classifiers of texts, with their tokenizer. OUT appears once its logits are those of MODEL; of a
    GGUF file the difference is printed, and 'ftkit verdict --tuned OUT' measures what it costs.
    """

    def start() -> None:
        from ftkit.inspection.converted_folder import convert_folder, convert_to_gguf

        check_revision(revision, model)
        if to == "gguf":
            file = convert_to_gguf(model, out, numbers or "q8_0", revision=revision, allow_pickle=allow_pickle)
            typer.echo(f"{out}: {file.num_bytes:,} bytes, {file.contents}")
            typer.echo(f"largest difference of the logits: {file.difference:.3g} of the largest logit")
            typer.echo(f"measure what it costs: ftkit verdict --base BASE --tuned {out} --text TEXT")
            return
        if numbers:
            raise ConfigError(f"--type: has no effect with --to {to}; leave it out")
        done = convert_folder(model, out, to, revision=revision, allow_pickle=allow_pickle)
        typer.echo(
            f"{out}: {done.source} -> {done.target}, {done.parameters:,} parameters in {done.dtype},"
            f" {'with' if done.has_tokenizer else 'without'} a tokenizer"
        )
        typer.echo(f"largest difference of the logits: {done.difference:.3g}")

    run_command(start)
