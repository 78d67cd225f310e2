"""The command ``predict``: what a saved classifier says of texts."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftkit.cli.model_options import AllowPickle, Revision, TrustRemoteCode, check_revision, find_model
from ftkit.cli.output import print_json, run_command, show_table

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerFast

__all__ = ["add_commands"]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command()(predict)


def predict(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A classifier: the folder of a run or a model, or a Hub id.")
    ],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts. Without any: lines of --file or standard input.")
    ] = None,
    file: Annotated[
        str | None, typer.Option(help="A text file, each line a text, or a table, each row one: FILE or FILE#COLUMN.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of --file and of standard input.")] = "utf-8",
    max_tokens: Annotated[int, typer.Option(min=0, help="Longer texts are cut; 0: as in training.")] = 0,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a classifier says of texts: a class and how sure it is, the labels that apply, or a value."""

    def start() -> None:
        check_revision(revision, model)
        asked, found = _asked(texts or [], file, encoding), find_model(model, classifier=True)
        kind, names, outputs = _predicted(found, asked, max_tokens, revision, trust_remote_code, allow_pickle)
        if as_json:
            rows = [
                {"text": text, **_as_json(kind, names, row.tolist())} for text, row in zip(asked, outputs, strict=True)
            ]
            print_json({"model": found, "problem_type": kind, "texts": rows})
            return
        headings = _HEADINGS[kind]
        shown = [(*_as_cells(kind, names, row.tolist()), text) for text, row in zip(asked, outputs, strict=True)]
        show_table((*headings, "text"), shown, right=headings[1:])

    run_command(start)


_HEADINGS = {
    "single_label_classification": ("class", "probability"),
    "multi_label_classification": ("labels", "probability of each"),
    "regression": ("value",),
}
_APPLIES = 0.5
"""Probability from which a label of several is said to apply, as in transformers' own metrics of multi-label models."""
_MOST_SHOWN = 6
"""Labels of a multi-label model that a line of the table has room for; --json has all."""


def _as_json(kind: str, names: list[str], outputs: list[float]) -> dict[str, Any]:
    """What one text gets, for a program."""
    found = dict(zip(names, outputs, strict=True))
    if kind == "regression":
        return {"value": outputs[0]} if len(outputs) == 1 else {"values": found}
    if kind == "multi_label_classification":
        return {"labels": [name for name, p in found.items() if p >= _APPLIES], "probabilities": found}
    return {"label": max(found, key=found.__getitem__), "probabilities": found}


def _as_cells(kind: str, names: list[str], outputs: list[float]) -> tuple[str, ...]:
    """What one text gets, for a person."""
    likeliest = sorted(zip(names, outputs, strict=True), key=lambda pair: -pair[1])
    if kind == "regression":
        several = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, outputs, strict=True))
        return (f"{outputs[0]:.4g}" if len(outputs) == 1 else several,)
    if kind == "multi_label_classification":
        applying = ", ".join(name for name, p in likeliest if p >= _APPLIES) or "none"
        more = ", ..." if len(likeliest) > _MOST_SHOWN else ""
        return applying, ", ".join(f"{name} {p:.1%}" for name, p in likeliest[:_MOST_SHOWN]) + more
    return likeliest[0][0], f"{likeliest[0][1]:.1%}"


def _asked(texts: list[str], file: str | None, encoding: str) -> list[str]:
    """The texts of the command line, of a file, or of standard input, as they were given."""
    from ftkit.data.local_documents import read_lines
    from ftkit.data.text_files import check_characters, check_codec, decode_bytes, split_lines
    from ftkit.errors import ConfigError

    if texts and file:
        raise ConfigError("texts and --file were both given; keep one of them")
    check_codec(encoding)
    place = "text"
    if file:
        texts, place = [text for _, text in read_lines(file, encoding)], file
    elif not texts:
        place = "standard input"
        texts = split_lines(decode_bytes(place, sys.stdin.buffer.read(), encoding))
    found = [text.strip() for text in texts if text.strip()]
    if not found:
        raise ConfigError("there is no text: give some after the model's folder, as --file, or on standard input")
    for number, text in enumerate(found, start=1):
        check_characters(f"{place}, text {number:,}", text)
    return found


def _predicted(
    spec: str, texts: list[str], max_tokens: int, revision: str | None, trust_remote_code: bool, allow_pickle: bool
) -> "tuple[str, list[str], np.ndarray]":
    """What the outputs mean, their names, and the outputs themselves [texts, outputs]."""
    from ftkit.models import (
        check_classifier,
        check_positions,
        check_vocabulary,
        class_names,
        load_model,
        problem_type,
        read_configuration,
        usable_positions,
    )
    from ftkit.models.trust import is_adapter_folder
    from ftkit.training import predict_outputs

    trust: dict[str, Any] = {
        "revision": revision, "trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle
    }  # fmt: skip
    if not is_adapter_folder(spec):  # an adapter says itself what it was trained for
        check_classifier(read_configuration(spec, **trust), spec)
    model = load_model(spec, task="sequence-classification", **trust)
    tokenizer = _tokenizer_of(spec, model, revision, trust_remote_code)
    check_vocabulary(model, tokenizer)
    limit = usable_positions(model) or 512
    most = max_tokens or min(tokenizer.model_max_length, limit)
    check_positions(model, most, "max_tokens")
    return problem_type(model.config), class_names(model.config), predict_outputs(model, tokenizer, texts, most)


def _tokenizer_of(spec: str, model: Any, revision: str | None, trust_remote_code: bool) -> "PreTrainedTokenizerFast":
    """The tokenizer beside a model; of an adapter that was saved without one, the base's."""
    from ftkit.data import load_tokenizer
    from ftkit.errors import FtkitError
    from ftkit.models import is_adapter

    try:
        return load_tokenizer(spec, revision=revision, trust_remote_code=trust_remote_code)
    except FtkitError:
        if not is_adapter(model):
            raise
        return load_tokenizer(model.base_record.base, trust_remote_code=trust_remote_code)
