"""The commands that move and share: ``pack``, ``unpack``, ``push``, ``pull``."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ftkit.cli.model_options import find_model

__all__ = ["pack", "pull", "push", "unpack"]

_RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or of a model.")]
_ModelFolder = Annotated[
    Path, typer.Argument(metavar="MODEL", help="The folder of a model, or of the run that made it.")
]
_Zip = Annotated[Path, typer.Argument(metavar="FILE.zip")]
_Repo = Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME on the Hub.")]


def _run(action: Callable[[], None]) -> NoReturn:
    from ftkit.config.launch import configure_output, report_errors

    configure_output()  # before the Hub's client is imported, which reads the environment then
    sys.exit(report_errors(action))


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB" if number >= 1e5 else f"{number:,} bytes"


def _say_left_out(names: Sequence[str]) -> None:
    if names:
        typer.echo(f"left out: {', '.join(names[:12])}{f' and {len(names) - 12} more' if len(names) > 12 else ''}")


def _say_bases(bases: Mapping[str, str], where: str) -> None:
    for adapter, base in bases.items():
        typer.echo(
            f"needs: {'the adapter' if adapter == '.' else adapter} stands on {base}, which is not {where}; where you"
            " load the adapter, name its base with --base or adapter_base"
        )


def pack(
    run: _RunFolder,
    target: _Zip,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Take the checkpoints along, which 'ftkit resume' needs.")
    ] = False,
) -> None:
    """Put a run into one zip file.

    Checkpoints, hidden files and locks stay behind; a run that is at work, links and devices are refused. Where the
    base of an adapter lies outside the folder, the command names it.
    """

    def start() -> None:
        from ftkit.hub.archive import pack as write

        packed = write(run, target, checkpoints=checkpoints)
        typer.echo(
            f"{packed.path}: {packed.files} files, {_size(packed.raw_bytes)} -> {_size(packed.zip_bytes)}"
            f" (ratio {packed.ratio:.2f})"
        )
        _say_left_out(packed.left_out)
        _say_bases(packed.bases, "in the zip")

    _run(start)


def unpack(
    source: _Zip,
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="A new folder. Without it: the file's name.")
    ] = None,
) -> None:
    """Take a packed run apart into a new folder.

    Refused, with nothing written: paths that leave the folder, links, devices, encryption, bombs, a folder in use.
    """

    def start() -> None:
        from ftkit.hub.archive import unpack as read

        unpacked = read(source, folder if folder is not None else Path(source.stem))
        typer.echo(f"{unpacked.path}: {unpacked.files} files, {_size(unpacked.raw_bytes)}")
        _say_bases(unpacked.bases, "in this folder")

    _run(start)


def push(
    model: _ModelFolder,
    repo: _Repo,
    private: Annotated[bool, typer.Option("--private", help="Only the owner sees it.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch; made if it is not there. Without it: main.")] = None,
    license: Annotated[
        str | None, typer.Option(help="License for the model card, as the Hub names it, e.g. mit.")
    ] = None,
) -> None:
    """Send a model to the Hugging Face Hub.

    A model card is written if there is no README.md. Sent are weights, configuration, tokenizer and figures; secrets
    in them are refused. Log in with 'hf auth login' or set HF_TOKEN.
    """

    def start() -> None:
        from ftkit.hub.transfer import push as send

        folder = Path(find_model(str(model), classifier=None))
        pushed = send(folder, repo, private=private, revision=revision, license=license)
        typer.echo(f"{pushed.url}: {len(pushed.files)} files, branch {pushed.revision}, commit {pushed.commit}")
        if pushed.card_written:
            typer.echo(f"model card: {folder / 'README.md'}; edit it and push again")
        _say_left_out(pushed.left_out)

    _run(start)


def pull(
    repo: _Repo,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit. Without it: main.")] = None,
    to: Annotated[Path | None, typer.Option(help="A new folder. Without it: the model's name.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Fetch the model's Python files too; read them.")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Fetch pickled weights where there are no safetensors.")
    ] = False,
) -> None:
    """Fetch a model from the Hugging Face Hub into a new folder.

    All files come from one commit, which pulled.json names. Other files than a model's stay there.
    """

    def start() -> None:
        from ftkit.hub.transfer import pull as fetch

        pulled = fetch(
            repo,
            to if to is not None else Path(repo.rpartition("/")[2]),
            revision=revision,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
        )
        typer.echo(f"{pulled.path}: {len(pulled.files)} files of commit {pulled.commit}")
        _say_left_out(pulled.left_out)

    _run(start)
