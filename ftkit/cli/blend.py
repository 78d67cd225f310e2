"""The command that takes back a part of what training changed: ``blend``."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ftkit.cli.model_options import AllowPickle, TrustRemoteCode, find_model
from ftkit.cli.output import run_command
from ftkit.cli.verdict import read_numbers
from ftkit.errors import ConfigError

__all__ = ["blend"]


def blend(
    base: Annotated[str, typer.Argument(metavar="BASE", help="Model that the tuned one started from.")],
    tuned: Annotated[str, typer.Argument(metavar="TUNED", help="Tuned model: a folder, an adapter's too, or a run's.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    alphas: Annotated[
        str, typer.Option(metavar="NUMBER,...", help="Points: 0 is the base, 1 the tuned model.")
    ] = "0,0.25,0.5,0.75,1",
    text: Annotated[str | None, typer.Option(help="What it was trained on, as for 'ftkit verdict'.")] = None,
    heldout: Annotated[str | None, typer.Option(help="Text that it never saw; else the last tenth of --text.")] = None,
    general: Annotated[str | None, typer.Option(help="Other real text, for forgetting.")] = None,
    figure: Annotated[Path | None, typer.Option(metavar="OUT.svg", help="Draw the curve, as PNG and CSV too.")] = None,
    judge: Annotated[bool, typer.Option("--verdict", help="Give a verdict on the model that was written.")] = False,
    window_tokens: Annotated[int, typer.Option(min=2, help="Tokens in a window, at most the models' positions.")] = 256,
    eval_windows: Annotated[int, typer.Option(min=15, help="Windows of each text that are evaluated at most.")] = 256,
    passage_chars: Annotated[int, typer.Option(min=20, help="Characters in a passage of --verdict.")] = 400,
    threshold: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Allowed rise of general loss: forgot_rise=0.05.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of text files.")] = "utf-8",
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Write a model between a base and its tuned model, to mend what was forgotten.

    The largest gain with general loss within the threshold is written; a single alpha is written as it is.
    """

    def start() -> None:
        from ftkit.config.launch import configure_output
        from ftkit.jobs.blends import blend_models
        from ftkit.jobs.verdicts import VerdictRequest, judge_models

        configure_output()
        if (judge or figure) and text is None:
            raise ConfigError("--verdict and --figure need --text and --general")
        request = VerdictRequest(
            find_model(base), find_model(tuned), text or (), heldout, general, encoding=encoding,
            window_tokens=window_tokens, eval_windows=eval_windows, passage_chars=passage_chars,
            thresholds=read_numbers(threshold or []),
            trust_remote_code=trust_remote_code, allow_pickle=allow_pickle,
        )  # fmt: skip
        blended = blend_models(request, out, _points(alphas))
        if figure:
            blended.save_figure(figure)
        typer.echo(blended)
        if judge:
            from dataclasses import replace

            with tempfile.TemporaryDirectory(prefix="ftkit-verdict-") as folder:
                typer.echo(f"\n{judge_models(replace(request, tuned=str(out)), Path(folder))}")

    run_command(start)


def _points(alphas: str) -> list[float]:
    try:
        return [float(number) for number in alphas.split(",")]
    except ValueError:
        raise ConfigError(f"--alphas: takes numbers separated by commas, found {alphas!r}") from None
