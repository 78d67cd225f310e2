"""The command ``predict``: what a saved classifier says of texts."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ftkit.cli.showing import print_json, run_command, show_table

if TYPE_CHECKING:
    import numpy as np

__all__ = ["add_commands"]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command()(predict)


def predict(
    model: Annotated[str, typer.Argument(help="The folder of a classifier, e.g. RUN/models/classifier, or a Hub id.")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts. Without any: lines of --file or standard input.")
    ] = None,
    file: Annotated[
        str | None, typer.Option(help="A text file, each line a text, or a table, each row one: FILE or FILE#COLUMN.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of --file and of standard input.")] = "utf-8",
    max_tokens: Annotated[int, typer.Option(min=0, help="Longer texts are cut; 0: as in training.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show which class a classifier gives to texts, and how sure it is."""

    def start() -> None:
        asked = _asked(texts or [], file, encoding)
        classes, probabilities = _predicted(model, asked, max_tokens)
        said = [(classes[int(row.argmax())], row) for row in probabilities]
        if as_json:
            rows = [
                {"text": text, "label": label, "probabilities": dict(zip(classes, row.tolist(), strict=True))}
                for text, (label, row) in zip(asked, said, strict=True)
            ]
            print_json({"model": model, "texts": rows})
            return
        shown = [(label, f"{row.max():.1%}", text) for text, (label, row) in zip(asked, said, strict=True)]
        show_table(("class", "probability", "text"), shown, right=("probability",))

    run_command(start)


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


def _predicted(model: str, texts: list[str], max_tokens: int) -> "tuple[list[str], np.ndarray]":
    """Names of the classes, and probabilities [texts, classes]."""
    import numpy as np

    from ftkit.data import load_tokenizer
    from ftkit.errors import ModelError
    from ftkit.models import check_positions, load_model, usable_positions
    from ftkit.training import predict_classes

    classifier, tokenizer = load_model(model, task="sequence-classification"), load_tokenizer(model)
    if not any("SequenceClassification" in name for name in classifier.config.architectures or []):
        raise ModelError(f"{model}: holds no classifier; make one with 'ftkit run classify --model {model} ...'")
    limit = usable_positions(classifier) or 512
    most = max_tokens or min(tokenizer.model_max_length, limit)
    check_positions(classifier, most, "max_tokens")
    labels = [str(name) for _, name in sorted((classifier.config.id2label or {}).items())]
    return labels, np.exp(predict_classes(classifier, tokenizer, texts, most))
