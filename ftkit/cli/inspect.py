"""Commands that look into models: ``inspect``, ``diff``, ``verify`` and ``perturb``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftkit.cli.model_options import AllowPickle, Revision, TrustRemoteCode, check_revision
from ftkit.cli.output import print_json, run_command, show_table

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ftkit.data import TokenStore
    from ftkit.inspection.diff import Change, FolderDifference
    from ftkit.inspection.model_summary import Inspection
    from ftkit.inspection.verification import Verification

__all__ = ["add_commands"]

_MOST_ROWS = 12  # a terminal shows them beside the summary without scrolling
_WINDOW = 128
"""Tokens in a window of ``perturb``: long enough to use its context, short enough for most models."""

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_Model = Annotated[str, typer.Argument(help="A folder, a Hub id, or new:FAMILY[,key=value,...].")]
_First = Annotated[Path, typer.Argument(help="A model folder.")]
_Second = Annotated[Path, typer.Argument(help="Another.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    for command in (inspect, diff, verify, perturb):
        app.command()(command)


def inspect(
    model: _Model,
    train: Annotated[list[str] | None, typer.Option(help="Selectors of what would train.")] = None,
    freeze: Annotated[list[str] | None, typer.Option(help="Selectors of what would be frozen.")] = None,
    task: Annotated[
        str | None,
        typer.Option(help="causal-lm, masked-lm, sequence-classification or none, where MODEL leaves it open."),
    ] = None,
    revision: Revision = None,
    tree: Annotated[bool, typer.Option("--tree", help="Show every module.")] = False,
    weights: Annotated[
        Path | None, typer.Option(help="Folder for histograms of the weights, which are then loaded.")
    ] = None,
    groups: Annotated[str, typer.Option(help="Selectors of what --weights shows.")] = "all",
    allow_pickle: Annotated[
        bool, typer.Option(help="For --weights read pytorch_model.bin where there is no safetensors.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Show what a model consists of.

    Its configuration is enough: no weights are read, except for --weights.
    """

    def start() -> None:
        from ftkit.inspection.model_summary import inspect_model, module_tree
        from ftkit.models.meta_models import outline

        check_revision(revision, model)
        described = outline(model, task=task, revision=revision)
        found = inspect_model(described, train, freeze)
        written = []
        if weights:
            written = _write_weights(model, described.task, revision, allow_pickle, groups, weights)
        if as_json:
            print_json(found.as_dict() | ({"files": [str(path) for path in written]} if weights else {}))
            return
        _show_inspection(model, found)
        if tree:
            rows = [("  " * depth + (name or "(model)"), *rest) for depth, name, *rest in module_tree(described.model)]
            show_table(("module", "class", "shapes", "groups"), rows)
        for path in written:
            typer.echo(path)

    run_command(start)


def diff(first: _First, second: _Second, as_json: _Json = False) -> None:
    """Show which tensors of two model folders differ, and by how much."""

    def start() -> None:
        from ftkit.inspection.diff import diff_folders

        difference = diff_folders(first, second)
        if as_json:
            print_json(difference.as_dict())
        else:
            _show_difference(difference)

    run_command(start)


def verify(
    first: _First,
    second: _Second,
    tolerance: Annotated[float, typer.Option(min=0.0, help="Largest difference that is none.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Draws the token ids on which logits are compared.")] = 0,
    as_json: _Json = False,
) -> None:
    """Check that two folders hold the same model.

    Compares tensors, logits, ties and sizes. Leaves with 4 where they differ.
    """

    def start() -> None:
        from ftkit.errors import ModelError
        from ftkit.inspection.verification import verify_folders

        found = verify_folders(first, second, tolerance=tolerance, seed=seed)
        if as_json:
            print_json(found.as_dict())
        else:
            _show_verification(found)
        if not found.equal:
            raise ModelError(f"{first} and {second} are not the same model: {'; '.join(found.reasons)}")

    run_command(start)


def perturb(
    model: _Model,
    text: Annotated[str, typer.Option(help="Source of text that the model was not trained on.")],
    groups: Annotated[
        str | None,
        typer.Option(
            help="Selectors of what is perturbed, inside the blocks. Without it: attention.q, or where the model has "
            "no such group everything in the blocks."
        ),
    ] = None,
    kind: Annotated[str, typer.Option(help="noise, constant, zero or shuffle.")] = "noise",
    value: Annotated[float | None, typer.Option(help="For constant.")] = None,
    seed: Annotated[int, typer.Option(help="Draws noise and order.")] = 42,
    window_tokens: Annotated[
        int | None,
        typer.Option(min=2, help="Tokens in a window of evaluation. Without it: 128, or what the model can read."),
    ] = None,
    max_windows: Annotated[int, typer.Option(min=1, help="Windows at most, spread over the text.")] = 64,
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer, where it is not MODEL's own.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the curve as CSV, SVG and PNG.")] = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    as_json: _Json = False,
) -> None:
    """Show how much worse a model gets with the first blocks perturbed.

    The model itself is not changed.
    """

    def start() -> None:
        check_revision(revision, model)
        trust = {"revision": revision, "trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle}
        loaded, store, window = _read(model, text, tokenizer, window_tokens, trust)
        chosen = _perturbed_groups(model, loaded, groups)
        from ftkit.evidence.damage import damage_curve

        how: Any = {"kind": kind, "value": value, "seed": seed, "max_windows": max_windows}
        points = damage_curve(loaded, store, window, chosen, **how)
        if out:
            from ftkit.report.weights import write_damage

            write_damage(points, f"{kind} in {chosen}", out)
        if as_json:
            print_json([point.as_row() for point in points])
        else:
            show_table(
                ("blocks", "bits per byte", "above the whole model"),
                [(str(point.blocks), str(point.bits_per_byte), str(point.rise)) for point in points],
            )

    run_command(start)


# ---------------------------------------------------------------------------------------------------------- doing


def _write_weights(
    model: str, task: str, revision: str | None, allow_pickle: bool, groups: str, folder: Path
) -> list[Path]:
    from ftkit.inspection.distributions import weight_statistics
    from ftkit.models import load_model
    from ftkit.report.weights import write_weights

    loaded = load_model(model, task=task, revision=revision, allow_pickle=allow_pickle)
    return write_weights(weight_statistics(loaded, groups), folder)


def _read(
    model: str, text: str, tokenizer: str | None, window_tokens: int | None, trust: dict[str, Any]
) -> "tuple[PreTrainedModel, TokenStore, int]":
    """Load a model, its text in tokens, and the window that both allow."""
    from ftkit.data import fix_special_tokens, load_corpus, load_tokenizer, tokenize_texts
    from ftkit.models import check_positions, check_vocabulary, load_model, usable_positions

    if tokenizer is None and model.startswith("new:"):
        tokenizer = "byte"
    own = {} if tokenizer else {name: trust[name] for name in ("revision", "trust_remote_code")}
    reader = load_tokenizer(tokenizer or model, **own)
    loaded = load_model(model, vocab_size=len(reader), max_positions=window_tokens, **trust)
    check_vocabulary(loaded, reader)
    texts = [load_corpus(text).text]
    if (chosen := fix_special_tokens("auto", texts, reader)).counts:
        typer.echo(str(chosen), err=True)
    store = tokenize_texts(texts, reader)
    if window_tokens is None:
        window_tokens = min(_WINDOW, usable_positions(loaded) or _WINDOW, store.num_tokens)
    check_positions(loaded, window_tokens, "--window-tokens")
    return loaded, store, window_tokens


def _perturbed_groups(name: str, model: "PreTrainedModel", groups: str | None) -> str:
    """Selectors of what is perturbed: those that were given, or the queries, or all blocks.

    Raises:
        ModelError: The blocks of the model are unknown.
    """
    from ftkit.errors import ModelError
    from ftkit.tuning import ParameterGroups

    parts = ParameterGroups(model)
    if not parts.num_layers:
        raise ModelError(
            f"{name}: the family {parts.family!r} is not declared, so its blocks are unknown and perturb cannot go "
            "from block to block; declare it (docs/own_family.md), or take a model of a declared family"
        )
    return groups or ("attention.q" if "attention.q" in parts.names else "all@0..")


# -------------------------------------------------------------------------------------------------------- showing


def _show_inspection(spec: str, found: "Inspection") -> None:
    total = found.table.total
    typer.echo(f"{spec}: {found.model}, family {found.family}, {found.num_layers} blocks\n")
    rows = [
        (
            row.group,
            _block_range(row.layers),
            ", ".join(row.shapes),
            f"{row.parameters:,}",
            f"{100 * row.share:.2f} %",
            f"{row.trainable:,}",
        )
        for row in found.table.rows
    ]
    trainable = found.table.trainable
    rows.append(("total", "", "", f"{total:,}", "", f"{trainable:,} ({100 * trainable / total:.2f} %)"))
    show_table(
        ("group", "blocks", "shapes", "parameters", "share", "trainable"),
        rows,
        right=("parameters", "share", "trainable"),
    )
    typer.echo(f"\nmatrices and embeddings {found.weights:,}, biases and gains {total - found.weights:,}")
    typer.echo(", ".join(f"{dtype} {size / 1e6:,.1f} MB" for dtype, size in found.num_bytes.items()))
    for names in found.tied:
        typer.echo(f"one tensor: {' = '.join(names)}")
    if found.tied:
        typer.echo(f"(counted once; {found.counted_by_name:,} if counted under each name)")


def _block_range(layers: Sequence[int]) -> str:
    """``0-11``, or each number where some are missing between the ends."""
    if not layers:
        return ""
    whole = len(layers) > 1 and layers[-1] - layers[0] + 1 == len(layers)
    return f"{layers[0]}-{layers[-1]}" if whole else ", ".join(map(str, layers))


def _show_difference(difference: "FolderDifference") -> None:
    def row(change: "Change") -> tuple[str, ...]:
        said = "" if change.identical else f"{change.relative:.3g}"
        return change.name, change.group, f"{change.elements:,}", said, "identical" if change.identical else "changed"

    headings = ("", "group", "elements", "relative change", "")
    show_table(headings, [row(change) for change in (*difference.by_group, *difference.by_layer, difference.total)])
    moved = sorted((c for c in difference.changes if not c.identical), key=lambda c: -c.relative)
    if moved:
        typer.echo(f"\n{len(moved)} of {len(difference.changes)} parts of tensors changed, most of all:")
        show_table(headings, [row(change) for change in moved[:_MOST_ROWS]])
    for names, where in ((difference.only_first, "only in the first"), (difference.only_second, "only in the second")):
        if names:
            typer.echo(f"{where}: {', '.join(names[:_MOST_ROWS])}{' ...' if len(names) > _MOST_ROWS else ''}")
    if difference.misshapen:
        typer.echo(f"other shapes: {'; '.join(difference.misshapen[:_MOST_ROWS])}")
    typer.echo("\nidentical" if difference.identical else "\nnot identical")


def _show_verification(found: "Verification") -> None:
    def said(value: float | None) -> str:
        return "not compared" if value is None else f"{value:.3g}"

    ties = {True: "one tensor", False: "two tensors", None: "no such head"}
    rows = [
        ("parts of tensors compared", str(found.paired)),
        ("largest difference", said(found.largest)),
        ("norm of the difference", said(found.l2)),
        ("largest difference of logits", said(found.logits_difference)),
        ("head and embedding", " / ".join(ties[tie] for tie in found.ties)),
        ("bytes of tensors", " / ".join(f"{size:,}" for size in found.bytes_found)),
        ("parameters x bytes", " / ".join("mixed dtypes" if s is None else f"{s:,}" for s in found.bytes_expected)),
        ("dtypes", " / ".join(", ".join(sorted(dtypes)) for dtypes in found.bytes_by_dtype)),
    ]
    show_table(("", ""), rows)
    for note in found.notes:
        typer.echo(f"note: {note}")
    if found.equal:
        typer.echo("the same model")
