"""The command that judges models which ftkit did not train: ``verdict``."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftkit.cli.model_options import AllowPickle, TrustRemoteCode, find_model
from ftkit.cli.output import print_json
from ftkit.config.catalogue import described_sources

if TYPE_CHECKING:
    from ftkit.jobs.verdicts import Judged

__all__ = ["verdict"]

_SOURCE = described_sources()


def verdict(
    base: Annotated[str, typer.Option(help="Model that the tuned one started from: a folder or a Hub id.")],
    tuned: Annotated[str, typer.Option(help="Model to judge: a folder, an adapter's or a run's too, or a Hub id.")],
    text: Annotated[str, typer.Option(help=f"What it was trained on: {_SOURCE}.")],
    heldout: Annotated[
        str | None, typer.Option(help="Real text of the same kind that it never saw; else the last tenth of --text.")
    ] = None,
    general: Annotated[str | None, typer.Option(help="Other real text, for forgetting and for the judges.")] = None,
    against: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SOURCE", help="Text by other hands that judges must tell apart.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="Encoder for a second judge: a classifier that knows the classes, or any to fine-tune."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Language model that says whether the passages are language [default: the base, if it can]."),
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="OUT.html", help="Write the report here.")] = None,
    window_tokens: Annotated[int, typer.Option(min=2, help="Tokens in a window, at most the models' positions.")] = 256,
    eval_windows: Annotated[int, typer.Option(min=15, help="Windows of each text that are evaluated at most.")] = 256,
    passage_chars: Annotated[int, typer.Option(min=20, help="Characters in a passage that is measured.")] = 400,
    num_passages: Annotated[
        int | None,
        typer.Option(min=30, help="One look at so many passages of each model [default: 96, 192, 384 until decided]."),
    ] = None,
    sampling: Annotated[str, typer.Option(help="plain, focused, creative, top50 or judged.")] = "plain",
    seed: Annotated[int, typer.Option(min=0, help="Draws passages and trains judges.")] = 42,
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="A number that decides: worked_gain=0.05."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Numbers of the models: float32, bfloat16, float16 or auto.")] = "float32",
    revision: Annotated[str | None, typer.Option(help="Revision of the base where it is a Hub id.")] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of text files.")] = "utf-8",
    special_tokens: Annotated[
        str,
        typer.Option(help="How special tokens in the texts (<|im_start|>, <s>) are read: auto, text or tokens."),
    ] = "auto",
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Judge a model that was fine-tuned with any tool.

    Leaves with 0 and a verdict, or with 4 where the inputs cannot be judged.
    """
    from ftkit.config.launch import configure_output, report_errors

    if not as_json:
        configure_output()

    def start() -> None:
        from ftkit.jobs.verdicts import VerdictRequest, judge_models

        request = VerdictRequest(
            find_model(base), find_model(tuned), text, heldout, general, _named(against or []), judge, revision,
            trust_remote_code, allow_pickle, encoding, special_tokens, window_tokens, eval_windows, passage_chars,
            num_passages, sampling, seed, thresholds=_numbers(threshold or []), reference=reference, dtype=dtype,
        )  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="ftkit-verdict-") as folder:
            judged = judge_models(request, Path(folder))
            if report:
                judged.save_report(report)
        _show(judged, report, as_json)

    sys.exit(report_errors(start))


def _named(pairs: list[str]) -> dict[str, str]:
    from ftkit.errors import ConfigError

    found = {}
    for pair in pairs:
        name, equals, source = pair.partition("=")
        if not (name and equals and source):
            raise ConfigError(f"--against: takes NAME=SOURCE, found {pair!r}")
        found[name] = source
    return found


def _numbers(pairs: list[str]) -> dict[str, float]:
    from ftkit.errors import ConfigError

    found = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise ConfigError(f"--threshold: takes NAME=NUMBER, found {pair!r}") from None
    return found


def _show(judged: "Judged", report: Path | None, as_json: bool) -> None:
    if as_json:
        print_json(judged.as_dict())
        return
    typer.echo(f"\n{judged}")
    if report:
        typer.echo(f"\nreport: {report.resolve()}")
