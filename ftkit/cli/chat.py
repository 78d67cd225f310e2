"""The command ``chat``: two models that talk, or a model and you."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftkit.cli.generate import speaks_in_turns
from ftkit.cli.model_options import AllowPickle, TrustRemoteCode, check_revision, find_model
from ftkit.cli.output import print_json, run_command, safe_text
from ftkit.cli.samples import Trimmed

if TYPE_CHECKING:
    from ftkit.generation import Chat, Conversation, Speaker, Turn

__all__ = ["chat"]


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
    new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a turn [default: 50; of an answer in a chat at most 512].")
    ] = None,
    sampling: Annotated[
        str | None,
        typer.Option(
            help="plain, greedy, focused, creative, top50 or judged [default: top50; in a chat the model's own, else "
            "focused]."
        ),
    ] = None,
    as_chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat",
            help="Answer your lines by the chat template, or continue one text. Without either: what A is made for.",
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(help="System turn, where A answers by its chat template.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same talk.")] = 42,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of A where it is a Hub id, else of --base.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Talk with a model, or let two models write on one text in turns.

    Every line that you enter is a turn; an empty line or the end of input ends the talk. A chat model answers by its
    chat template; other models were not trained to answer and continue the text.
    """

    def start() -> None:
        from ftkit.errors import ConfigError, nearest_name
        from ftkit.generation import PRESETS, Chat, Conversation, chosen_sampling, converse, load_speaker

        if sampling is not None and sampling not in PRESETS:
            raise ConfigError(f"--sampling: unknown {sampling!r}{nearest_name(sampling, PRESETS)}")
        check_revision(revision, base if base and Path(first).expanduser().exists() else first)
        models = [find_model(model) for model in ([first] if second is None else [first, second])]
        options: dict[str, Any] = {
            "base": base, "trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle
        }  # fmt: skip
        speakers = [
            load_speaker(model, revision=its_revision, **options)
            for model, its_revision in zip(models, (revision, None), strict=False)
        ]
        names = _names(speakers)
        start_text = opening if opening is not None else "" if second is None else "Hello, my name is Alice."
        if second is None:
            draw = None if sampling is None else PRESETS[sampling]
            if speaks_in_turns(speakers[0], models[0], as_chat):
                if opening is not None:
                    raise ConfigError("--opening: has no effect in a chat; leave it out, or add --no-chat")
                draw = draw or chosen_sampling(speakers[0].model, {})
                talk: Chat | Conversation = Chat(system, new_tokens=new_tokens, sampling=draw, seed=seed)
            elif system is not None:
                raise ConfigError(f"--system: has no effect where {models[0]} continues the text; leave it out")
            else:
                draw = draw or PRESETS["top50"]
                talk = Conversation(start_text, new_tokens=new_tokens or 50, sampling=draw, seed=seed)
            turns = _with_person(talk, speakers[0], names[0], as_json)
        elif as_chat or system is not None:
            raise ConfigError(f"--{'chat' if as_chat else 'system'}: has no effect where two models write on one text")
        else:
            draw = PRESETS[sampling or "top50"]
            turns = converse(speakers, start_text, rounds, new_tokens=new_tokens or 50, sampling=draw, seed=seed)
            turns = _shown(turns, names, as_json)
        said = list(turns)
        if as_json:
            print_json({"opening": start_text, "models": models, "turns": [turn.as_dict() for turn in said]})

    run_command(start)


def _names(speakers: list["Speaker"]) -> list[str]:
    """Names to show; models of one name are numbered."""
    names = [safe_text(speaker.name) for speaker in speakers]
    return names if len(set(names)) == len(names) else [f"{name} {place}" for place, name in enumerate(names, 1)]


def _shown(turns: "Iterator[Turn]", names: list[str], as_json: bool) -> Iterator["Turn"]:
    """Turns of several, each shown when it is there."""
    for number, turn in enumerate(turns):
        if not as_json:
            _show(names[number % len(names)], turn)
        yield turn


def _with_person(talk: "Chat | Conversation", speaker: "Speaker", name: str, as_json: bool) -> Iterator["Turn"]:
    """The model's answers to every line that is entered; an answer in a chat appears as it is written."""
    from ftkit.generation import Chat

    in_terminal = sys.stdin.isatty()
    in_turns = isinstance(talk, Chat)
    if in_terminal:
        how = "answers by its chat template" if in_turns else "continues the text; it was not made to answer"
        typer.echo(f"{name} {how}. An empty line ends the talk.", err=True)
    while True:
        if in_terminal:
            typer.echo("you: ", nl=False, err=as_json)
        line = sys.stdin.readline().rstrip("\r\n")
        if not line.strip():
            return
        talk.say("you", line)
        if isinstance(talk, Chat) and not as_json:
            typer.echo(f"{name}: ", nl=False)
            turn = talk.reply(speaker, Trimmed().show)
            typer.echo(f"\n{_details(turn)}{_cut_off(turn)}")
        else:
            turn = talk.reply(speaker)
            if not as_json:
                _show(name, turn)
        yield turn


def _show(name: str, turn: "Turn") -> None:
    typer.echo(f"{name}: {safe_text(turn.text).strip()}")
    typer.echo(_details(turn))


def _details(turn: "Turn") -> str:
    entropy = "" if turn.entropy is None else f", {turn.entropy:.2f} bits per token"
    left_out = f", {turn.left_out} before them left out" if turn.left_out else ""
    return f"  [read {turn.context_tokens} tokens{left_out}{entropy}]"


def _cut_off(turn: "Turn") -> str:
    return f" [cut off after {turn.tokens} tokens, see --new-tokens]" if turn.stop_reason == "length" else ""
