"""The command that judges models which ftkit did not train: ``verdict``."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftkit.cli.model_options import AllowPickle, TrustRemoteCode, find_model
from ftkit.cli.output import print_json
from ftkit.config.catalogue import described_sources
from ftkit.errors import ConfigError

if TYPE_CHECKING:
    from ftkit.jobs.verdicts import Judged, SeveralJudged

__all__ = ["read_numbers", "verdict"]

_SOURCE = described_sources()


def verdict(
    base: Annotated[
        str, typer.Option(help="Model that the tuned one started from: a folder, a GGUF file or a Hub id.")
    ],
    tuned: Annotated[
        list[str],
        typer.Option(
            help="Model to judge: a folder (an adapter's or a run's too), GGUF file or Hub id. Repeat it for several."
        ),
    ],
    text: Annotated[str | None, typer.Option(help=f"What it was trained on: {_SOURCE}.")] = None,
    examples: Annotated[
        str | None,
        typer.Option(help="Instead of --text, prompts with completions: a .jsonl, .csv or .parquet file, or hub:NAME."),
    ] = None,
    labelled: Annotated[
        str | None,
        typer.Option(metavar="FILE#TEXT,LABEL", help="Of a classifier, instead of --text: its texts with classes."),
    ] = None,
    labelled_test: Annotated[
        str | None, typer.Option(metavar="FILE#TEXT,LABEL", help="Texts with classes that a classifier never saw.")
    ] = None,
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
    window_tokens: Annotated[
        int,
        typer.Option(min=2, help="Tokens in a window at most; fewer where the held-out text has less than 20 of them."),
    ] = 256,
    eval_windows: Annotated[int, typer.Option(min=15, help="Windows of each text that are evaluated at most.")] = 256,
    train_windows: Annotated[
        int | None,
        typer.Option(min=1, help="Windows of --text that are evaluated [default: as many as of held-out text]."),
    ] = None,
    canaries: Annotated[
        str | None, typer.Option(metavar="FILE", help="Short texts, one on each line: does the tuned model know them?")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(metavar="FILE", help="Prompts, one on each line, that both models continue.")
    ] = None,
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
    heldout_examples: Annotated[
        str | None, typer.Option(help="Examples that it never saw; else a tenth of --examples.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="prompt=...,completion=...", help="Columns of the examples.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(help="plain, alpaca or chatml [default: the template saved with the tuned model, else plain]."),
    ] = None,
    chat_template: Annotated[str | None, typer.Option(help="File with a chat template, instead of --template.")] = None,
    also: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SOURCE", help="Other examples, for forgetting.")
    ] = None,
    answer_pattern: Annotated[
        str | None, typer.Option(help="Regular expression whose first group is the answer in a completion.")
    ] = None,
    num_answers: Annotated[
        int | None, typer.Option(min=1, help="One look at so many answers [default: 50, 100, 200 until decided].")
    ] = None,
    few_shot: Annotated[int, typer.Option(min=0, help="Examples in the base's prompt; 0 leaves this out.")] = 4,
    judge_style: Annotated[
        bool, typer.Option("--judge-style", help="Judge the style of the answers to --examples too (for rewrites).")
    ] = False,
    require: Annotated[
        str | None, typer.Option(metavar="WORD,...", help="Leave with 8 unless the main word is one of these: worked.")
    ] = None,
    fail_on: Annotated[
        str | None, typer.Option(metavar="WORD,...", help="Leave with 8 at any of these: broken,copied,forgot.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="OUT.xml", help="Write the conditions of --require and --fail-on as JUnit.")
    ] = None,
) -> None:
    """Judge a model that was fine-tuned with any tool.

    Leaves with 0 and a verdict, with 4 where the inputs cannot be judged, or with 8 where --require or --fail-on does
    not hold.
    """
    from ftkit.config.launch import configure_output, report_errors

    if not as_json:
        configure_output()

    def start() -> None:
        from ftkit.jobs.verdict_requests import request_of
        from ftkit.jobs.verdicts import judge_request
        from ftkit.report.gate import Gate

        gate = Gate.of(require, fail_on)
        if junit and gate == Gate():
            raise ConfigError("--junit: has no conditions to write; give --require or --fail-on")
        options = {
            "labelled_test": labelled_test, "heldout": heldout, "general": general, "judge": judge,
            "against": _named(against or []), "reference": reference, "window_tokens": window_tokens,
            "eval_windows": eval_windows, "train_windows": train_windows, "canaries": canaries, "prompts": prompts,
            "passage_chars": passage_chars, "num_passages": num_passages, "sampling": sampling, "seed": seed,
            "thresholds": read_numbers(threshold or []), "dtype": dtype, "revision": revision, "encoding": encoding,
            "special_tokens": special_tokens, "trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle,
            "heldout_examples": heldout_examples, "columns": _pairs("--columns", columns), "template": template,
            "chat_template": chat_template, "also": _named(also or [], "--also"), "answer_pattern": answer_pattern,
            "num_answers": num_answers, "few_shot": few_shot, "judge_style": judge_style,
        }  # fmt: skip
        models = _models(tuned, classifier=labelled is not None)
        request = request_of(
            find_model(base, classifier=None if labelled else False), next(iter(models.values())),
            {"text": text, "examples": examples, "labelled": labelled}, options,
        )  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="ftkit-verdict-") as folder:
            judged = judge_request(request, models, Path(folder))
            if report:
                judged.save_report(report)
        one = next(iter(judged.models.values())) if len(judged.models) == 1 else None
        _show(one or judged, report, as_json)
        verdicts = {tuned[0] if one else name: each.verdict.as_dict() for name, each in judged.models.items()}
        if junit:
            gate.write_junit(junit, verdicts)
        gate.check(verdicts)

    sys.exit(report_errors(start))


def _models(tuned: list[str], classifier: bool) -> dict[str, str]:
    """Where each model is, by a short name."""
    from ftkit.report.several import short_name

    paths = [Path(each) for each in tuned]
    if len(set(paths)) < len(paths):
        raise ConfigError(f"--tuned: takes different models, found {', '.join(tuned)}")
    if len(paths) == 1:  # the report calls it so
        return {"tuned": find_model(tuned[0], classifier=classifier)}
    return {
        short_name(path, paths): find_model(each, classifier=classifier)
        for path, each in zip(paths, tuned, strict=True)
    }


def _pairs(option: str, text: str | None) -> dict[str, str]:
    """``NAME=VALUE,...`` as a mapping."""
    pairs = [pair.partition("=") for pair in (text or "").split(",") if pair.strip()]
    if bad := ["".join(pair) for pair in pairs if not all(pair)]:
        raise ConfigError(f"{option}: takes prompt=COLUMN,completion=COLUMN, found {', '.join(bad)}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _named(pairs: list[str], option: str = "--against") -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, source = pair.partition("=")
        if not (name and equals and source):
            raise ConfigError(f"{option}: takes NAME=SOURCE, found {pair!r}")
        found[name] = source
    return found


def read_numbers(pairs: list[str]) -> dict[str, float]:
    """``NAME=NUMBER`` of --threshold as a mapping."""
    found = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise ConfigError(f"--threshold: takes NAME=NUMBER, found {pair!r}") from None
    return found


def _show(judged: "Judged | SeveralJudged", report: Path | None, as_json: bool) -> None:
    if as_json:
        print_json(judged.as_dict())
        return
    typer.echo(f"\n{judged}")
    if report:
        typer.echo(f"\nreport: {report.resolve()}")
