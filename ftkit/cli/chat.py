"""The command ``chat``: two models that talk, or a model and you."""

import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftkit.cli.model_options import AllowPickle, TrustRemoteCode, check_revision
from ftkit.cli.output import print_json, run_command

if TYPE_CHECKING:
    from ftkit.generation import Conversation, Speaker, Turn

__all__ = ["chat", "safe_text"]


def safe_text(text: str) -> str:
    """A text without characters that steer a terminal or turn the direction of writing."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def chat(
    first: Annotated[
        str, typer.Argument(metavar="A", help="A model: a folder, an adapter's or a run's too, or a Hub id.")
    ],
    second: Annotated[str | None, typer.Argument(metavar="[B]", help="Another; without it you are the other.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Base of an adapter, where it is not where the adapter's folder says.")
    ] = None,
    opening: Annotated[
        str | None, typer.Option(help="Text before the first turn; where two talk 'Hello, my name is Alice.'")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each model, where two talk.")] = 5,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a turn.")] = 50,
    sampling: Annotated[str, typer.Option(help="plain, greedy, focused, creative, top50 or judged.")] = "top50",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same talk.")] = 42,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of A where it is a Hub id, else of --base.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Let two models write on one text in turns, or write in turns with one.

    With one model every line that you enter is a turn; an empty line or the end of input ends the dialogue. These
    models were not trained to answer: they continue the text.
    """

    def start() -> None:
        from ftkit.errors import ConfigError, nearest_name
        from ftkit.generation import PRESETS, Conversation, converse
        from ftkit.runs.models import model_of_run

        if sampling not in PRESETS:
            raise ConfigError(f"--sampling: unknown {sampling!r}{nearest_name(sampling, PRESETS)}")
        check_revision(revision, base if base and Path(first).expanduser().exists() else first)
        given = [first] if second is None else [first, second]
        models = [model_of_run(model, classifier=False) for model in given]
        revisions = (revision, None)
        speakers = [
            _speaker(model, base, its_revision, trust_remote_code, allow_pickle)
            for model, its_revision in zip(models, revisions, strict=False)
        ]
        names = _names(speakers)
        start_text = opening if opening is not None else "" if second is None else "Hello, my name is Alice."
        draw = PRESETS[sampling]
        if second is None:
            talk = Conversation(start_text, new_tokens=new_tokens, sampling=draw, seed=seed)
            turns = _with_person(talk, speakers[0])
        else:
            turns = converse(speakers, start_text, rounds, new_tokens=new_tokens, sampling=draw, seed=seed)
        said = []
        for number, turn in enumerate(turns):
            said.append(turn)
            if not as_json:
                _show(names[number % len(names)], turn)
        if as_json:
            print_json({"opening": start_text, "models": models, "turns": [turn.as_dict() for turn in said]})

    run_command(start)


def _speaker(
    spec: str, base: str | None, revision: str | None, trust_remote_code: bool, allow_pickle: bool
) -> "Speaker":
    from ftkit.data import load_tokenizer
    from ftkit.errors import ModelError
    from ftkit.generation import Speaker
    from ftkit.models import check_vocabulary, load_model, task_of

    options: dict[str, Any] = {
        "revision": revision, "trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle, "adapter_base": base
    }  # fmt: skip
    task = task_of(spec, **options)
    if task != "causal-lm":
        raise ModelError(f"{spec}: a {task} model cannot write on; give a causal language model")
    model = load_model(spec, task=task, **options)
    tokenizer = load_tokenizer(spec, adapter_base=base, revision=revision, trust_remote_code=trust_remote_code)
    check_vocabulary(model, tokenizer)
    return Speaker(Path(spec).name or spec, model, tokenizer)


def _names(speakers: list["Speaker"]) -> list[str]:
    """Names to show; models of one name are numbered."""
    names = [safe_text(speaker.name) for speaker in speakers]
    return names if len(set(names)) == len(names) else [f"{name} {place}" for place, name in enumerate(names, 1)]


def _with_person(talk: "Conversation", speaker: "Speaker") -> Iterator["Turn"]:
    """The model's answers to every line that is entered."""
    while True:
        if sys.stdin.isatty():
            typer.echo("you: ", nl=False)
        line = sys.stdin.readline().rstrip("\r\n")
        if not line.strip():
            return
        talk.say("you", line)
        yield talk.reply(speaker)


def _show(name: str, turn: "Turn") -> None:
    entropy = "" if turn.entropy is None else f", {turn.entropy:.2f} bits per token"
    left_out = f", {turn.left_out} before them left out" if turn.left_out else ""
    typer.echo(f"{name}: {safe_text(turn.text).strip()}")
    typer.echo(f"  [read {turn.context_tokens} tokens{left_out}{entropy}]")
