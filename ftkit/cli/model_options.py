"""Options of every command that loads a model: its revision, and what a foreign model may bring along."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AllowPickle", "Revision", "TrustRemoteCode", "check_revision", "find_model"]

Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")]
TrustRemoteCode = Annotated[
    bool, typer.Option(help="Run Python files that the model brings along. A Hub id then needs --revision.")
]
AllowPickle = Annotated[bool, typer.Option(help="Read pytorch_model.bin where there is no safetensors.")]


def check_revision(revision: str | None, model: str) -> None:
    """Refuse a revision of what has none.

    Args:
        revision: As given; ``None`` where it was not.
        model: The model that it is for.

    Raises:
        ConfigError: The model is a folder or is made here.
    """
    from ftkit.errors import ConfigError

    if revision is not None and (model.startswith("new:") or Path(model).expanduser().exists()):
        raise ConfigError(f"--revision: has no effect on {model!r}, which is not on the Hub; leave it out")


def find_model(spec: str, *, classifier: bool | None = False) -> str:
    """Return the model that a person names: of a run's folder its model, said on the terminal, or a shipped base.

    Args:
        spec: A model or a run.
        classifier: As for ``model_of_run``.

    Raises:
        ModelError: A run's folder in which no model fits, or several do; it names them.
    """
    from ftkit.runs.models import model_of_run

    found = model_of_run(spec, classifier=classifier)
    if found != spec and not spec.startswith("base:"):
        typer.echo(f"model of the run: {found}", err=True)  # standard output is for what the command makes
    return found
