"""The command ``generate``: what a model writes, token by token in a terminal, as JSON lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftkit.cli.model_options import AllowPickle, TrustRemoteCode, check_revision, find_model
from ftkit.cli.output import run_command
from ftkit.cli.samples import counted, show_both, show_samples, show_stream

if TYPE_CHECKING:
    from ftkit.generation import Prompt, Speaker, WritingSettings

__all__ = ["generate", "speaks_in_turns"]


def generate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model: a folder, an adapter's or a run's too, or a Hub id.")
    ],
    prompt: Annotated[str | None, typer.Option(help="Text to continue or to answer. Else: standard input.")] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Many: lines of a text file, or a column prompt or messages of a table (JSONL, CSV); - for lines of "
            "standard input. Written in batches.",
        ),
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option(
            help="Answer by the chat template, or continue the text. Without either: what the model is made for."
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(help="System turn of a chat.")] = None,
    num: Annotated[int, typer.Option(min=1, help="Samples of each prompt.")] = 1,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest sample in tokens [default: 200, or what the model has room for].")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, help="0: always the likeliest token [default: the model's own, else 0.7 with top_p 0.9]."),
    ] = None,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="Likeliest tokens of this probability.")] = None,
    top_k: Annotated[int | None, typer.Option(min=0, help="So many of the likeliest tokens; 0: all.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(min=0.01, help="Above 1: fewer repetitions.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Same seed, same text; sample n of one prompt has seed + n - 1.")
    ] = 42,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts of --prompts written together.")] = 16,
    compare_with_base: Annotated[
        bool, typer.Option("--compare-with-base", help="Show what its base writes beside it, from the same seed.")
    ] = False,
    base: Annotated[str | None, typer.Option(help="Base of an adapter or of a run, where it is not found.")] = None,
    dtype: Annotated[str, typer.Option(help="Numbers of the model: float32, bfloat16, float16 or auto.")] = "float32",
    encoding: Annotated[str, typer.Option(help="Encoding of files and of standard input.")] = "utf-8",
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of MODEL where it is a Hub id, else of --base.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines in a terminal too.")] = False,
) -> None:
    """Let a model write: continue a text, or answer it where it is a chat model.

    A terminal shows the text as it is written. A file or a pipe gets one JSON object a line for each sample.

    Examples: ftkit generate runs/NAME --prompt "Once upon a time"; ftkit generate MODEL --prompts questions.txt --json
    """

    def start() -> None:
        from ftkit.errors import ConfigError
        from ftkit.generation import SampleWriter, WritingSettings, chosen_sampling, load_speaker

        if num > 1 and temperature == 0:
            raise ConfigError("--num: with --temperature 0 all samples are the same; drop one of these two options")
        asked = _asked(prompt, prompts, encoding)
        found = find_model(model)
        check_revision(revision, base if base and Path(found).expanduser().exists() else found)
        place = _base_place(found, base, compare_with_base)
        options: dict[str, Any] = {
            "dtype": dtype, "trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle
        }  # fmt: skip
        if found == model and sys.stderr.isatty():
            typer.echo(f"loading {model}", err=True)  # which may take a while
        speaker = load_speaker(found, base=base, revision=revision, **options)
        turns = speaks_in_turns(speaker, found, chat)
        if system is not None and not turns:
            raise ConfigError(f"--system: has no effect where {found} continues a text; leave it out, or add --chat")
        draw = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "repetition_penalty": repetition_penalty}
        settings = WritingSettings(turns, system, max_new_tokens, chosen_sampling(speaker.model, draw), seed)
        typer.echo(_described(speaker, settings), err=True)
        batch_rows = batch_size if prompts else None
        in_terminal = sys.stdout.isatty() and not as_json
        writer = SampleWriter(speaker, settings)
        rows = writer.rows(asked)
        if compare_with_base:
            tuned = list(counted("tuned", writer.samples(rows, num, batch_rows), len(rows)))
            with _base_of(speaker, found, place, options) as beside:
                untuned = SampleWriter(beside, settings)
                its = counted("base", untuned.samples(untuned.rows(asked), num, batch_rows), len(rows))
                show_both(zip(asked, list(its), tuned, strict=True), (beside.name, found), in_terminal)
        elif prompts or not in_terminal:
            show_samples(zip(asked, writer.samples(rows, num, batch_rows), strict=True), found, in_terminal)
        else:
            show_stream(writer, asked[0], rows[0], num)

    run_command(start)


def _asked(prompt: str | None, file: str | None, encoding: str) -> "list[Prompt]":
    """What the command line, a file or standard input asks."""
    from ftkit.data.text_files import check_codec
    from ftkit.errors import ConfigError, DataError
    from ftkit.generation.prompts import Prompt, decoded_prompt, decoded_prompts, read_prompts

    check_codec(encoding)
    if prompt is not None and file is not None:
        raise ConfigError("--prompt and --prompts were both given; keep one of them")
    if file == "-":
        return decoded_prompts("standard input", sys.stdin.buffer.read(), encoding)
    if file is not None:
        return read_prompts(file, encoding)
    if prompt is not None:
        return [Prompt("the prompt", prompt)]
    if not sys.stdin.isatty():
        return [decoded_prompt("standard input", sys.stdin.buffer.read(), encoding)]
    typer.echo("prompt: ", nl=False, err=True)
    line = sys.stdin.readline().rstrip("\r\n")
    if not line.strip():
        raise DataError("there is no prompt: give one with --prompt, --prompts FILE or on standard input")
    return [Prompt("the prompt", line)]


def speaks_in_turns(speaker: "Speaker", place: str, asked: bool | None) -> bool:
    """Whether a model answers by its chat template; the default is what it was made for.

    Args:
        speaker: The model with its tokenizer.
        place: Where it came from; a run that trained on plain text made a model that continues text.
        asked: What the command line says.

    Raises:
        ConfigError: A chat with a model whose tokenizer has no chat template.
    """
    from ftkit.errors import ConfigError
    from ftkit.generation import is_chat_model
    from ftkit.runs.models import trained_on_text

    if asked and not speaker.tokenizer.chat_template:
        raise ConfigError(f"--chat: the tokenizer of {place} has no chat template; leave it out")
    return is_chat_model(speaker) and not trained_on_text(place) if asked is None else asked


def _described(speaker: "Speaker", settings: "WritingSettings") -> str:
    """How a model writes, in one line."""
    draw = settings.sampling
    parts = [f"temperature {draw.temperature:g}" if draw.do_sample else "always the likeliest token"]
    parts += [f"top_p {draw.top_p:g}"] if draw.do_sample and draw.top_p < 1 else []
    parts += [f"top_k {draw.top_k}"] if draw.do_sample and draw.top_k else []
    parts += [f"repetition_penalty {draw.repetition_penalty:g}"] if draw.repetition_penalty != 1 else []
    parts += [f"seed {settings.seed}"] if draw.do_sample else []
    if settings.chat:
        kind = "answers by its chat template (--no-chat continues the text)"
    else:
        kind = "continues the text" + (" (--chat answers it)" if speaker.tokenizer.chat_template else "")
    return f"{kind}; {', '.join(parts)}"


def _base_place(model: str, base: str | None, compare: bool) -> str | None:
    """Where the base to compare with is; ``None`` where the adapter's folder says it, or none is needed."""
    from ftkit.errors import ConfigError
    from ftkit.jobs.bases import base_on_disk
    from ftkit.models.trust import is_adapter_folder
    from ftkit.runs.models import base_of_run

    is_adapter = is_adapter_folder(model)
    if base is not None and not is_adapter and not compare:
        raise ConfigError(
            f"--base: {model} is no adapter, so it needs no base; leave it out or add --compare-with-base"
        )
    if base is not None or is_adapter or not compare:
        return base
    started = base_of_run(model)
    if started is None:
        raise ConfigError(f"--compare-with-base: no run says what {model} began as; name its base with --base")
    return base_on_disk(started)


@contextmanager
def _base_of(tuned: "Speaker", model: str, place: str | None, options: dict[str, Any]) -> "Iterator[Speaker]":
    """The base of a model that has written: inside an adapter where it is there untouched, else loaded in its place."""
    from ftkit.generation import Speaker, load_speaker
    from ftkit.models import base_or_beneath, contains_base
    from ftkit.runs.models import base_of_adapter

    revision = None
    if place is None:
        place, revision = base_of_adapter(Path(model).expanduser())
    if contains_base(tuned.model):
        with base_or_beneath(None, tuned.model) as beneath:
            yield Speaker(place, beneath, tuned.tokenizer)
        return
    tuned.model.to("meta")  # type: ignore[arg-type]  # one model in memory: the tuned one has written
    base = load_speaker(place, revision=revision, **options)
    base.tokenizer.chat_template = base.tokenizer.chat_template or tuned.tokenizer.chat_template
    yield Speaker(place, base.model, base.tokenizer)
