"""The help page of a recipe, drawn from its settings class: what it does, examples, and its settings under headings."""

import ast
import re
import shutil
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from ftkit.config.catalogue import described_sources
from ftkit.config.settings import Settings

__all__ = ["HEADINGS", "first_settings", "help_page", "show_help", "value_form"]

_WIDEST = 100  # columns; longer lines of text are hard to read
_NAMES = 28  # columns of a setting's name and value; a longer name has a line of its own

HEADINGS = {
    "Text": "corpus corpora examples labelled classes columns labelled_test heldout_examples heldout_share split "
    "encoding special_tokens window_tokens truncate template chat_template loss_on merge_labels texts_per_class",
    "Model": "model revision tokenizer donor transplant trust_remote_code allow_pickle",
    "Training": "num_train_epochs max_steps learning_rate per_device_train_batch_size gradient_accumulation_steps "
    "optimizer optimizer_args muon_learning_rate learning_rates layer_lr_decay weight_decay lr_scheduler_type "
    "warmup_steps min_lr_rate lr_cycles schedule_steps max_grad_norm max_grad_value max_group_norms clip_after "
    "watch_gradients objective dropout bf16 fp16 activation_checkpointing use_cpu require_processes seed eval_steps "
    "eval_windows load_best_model_at_end early_stopping_patience early_stopping_threshold validation_share patience "
    "probes probe_steps",
    "What may change": "peft lora_r lora_alpha lora_dropout lora_target_modules virtual_tokens trainable_tokens train "
    "freeze freeze_until freeze_from unfreeze_every",
    "Judging": "general also num_passages passage_chars sampling temperature prompt prompt_tokens prompted_passages "
    "top_tokens min_token_chars judge_model judge_max_steps judge_learning_rate judge_batch_size judge_tokens "
    "judge_seeds judge_steps judged_passages answer_pattern num_answers few_shot judge_style eval_texts metrics "
    "sample_steps sample_prompt",
    "Output": "output_dir resume report_to save_steps save_total_limit",
}
"""The settings under each heading, in their order; one that stands under none has the recipe's own heading."""

_FIRST = (
    "corpus", "corpora", "examples", "labelled", "classes", "model", "num_train_epochs", "max_steps", "learning_rate",
    "peft", "output_dir", "per_device_train_batch_size", "window_tokens", "general", "tokenizer", "seed",
)  # fmt: skip
"""The settings that people use first: what is trained on what, how long, and what goes where."""
_NUM_FIRST = 10  # a page of them fits on a screen

_SHARED = (
    ("config", "NAME", "A configuration: a name that 'ftkit list' shows, or a YAML file."),
    ("fast", "", "A tiny version of everything, offline, in under a minute."),
    ("sweep", "NAME=VALUE,VALUE", "Run a study: every combination of the values (docs/studies.md)."),
    ("seeds", "N,N", "Run a study: each point once for each seed."),
)


def value_form(annotation: Any) -> str:
    """What follows a flag on the help page: ``N``, ``NUMBER``, ``TEXT``, ``NAME=TEXT``; nothing after a switch."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return next(value_form(member) for member in inner if member is not type(None))
    if origin is dict:
        return f"NAME={value_form(inner[1])}"
    if origin is list:
        return f"{value_form(inner[0])},..."
    return "CHOICE" if origin is typing.Literal else {bool: "", int: "N", float: "NUMBER"}.get(annotation, "TEXT")


def choices(annotation: Any) -> list[str]:
    """The values that a setting may have; none where it takes any text or number."""
    if typing.get_origin(annotation) is typing.Literal:
        return [str(value) for value in typing.get_args(annotation)]
    return [choice for inner in typing.get_args(annotation) for choice in choices(inner)]


def _limits(field: FieldInfo) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = [(word, getattr(item, key, None)) for item in field.metadata for key, word in words.items()]
    return " and ".join(f"{word} {limit:,}" for word, limit in found if limit is not None)


def _default(name: str, field: FieldInfo, settings_class: type[Settings]) -> str:
    """A default as it is typed on the command line; empty where the meaning says what holds without the setting."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value in (None, "", {}, [], False):
        return ""
    if name in settings_class.LENGTHS:
        return "default: by model and text"
    if isinstance(value, dict):
        value = " ".join(f"{key}={inner}" for key, inner in value.items())
    elif isinstance(value, list):
        value = ",".join(map(str, value))
    elif isinstance(value, float):
        value = re.sub("e-0", "e-", f"{value:g}")
    return f"default: {'on' if value is True else value}"


def first_settings(names: Iterable[str]) -> list[str]:
    """Return the settings of a recipe that people use first: general ones, and two or more of its own."""
    known, names = {name for listed in HEADINGS.values() for name in listed.split()}, list(names)
    first, own = [name for name in _FIRST if name in names], [name for name in names if name not in known]
    own = own[: max(2, _NUM_FIRST - len(first))]
    return [*first[: _NUM_FIRST - len(own)], *own]


def _by_heading(names: Iterable[str]) -> dict[str, list[str]]:
    groups, names = {heading: listed.split() for heading, listed in HEADINGS.items()}, list(names)
    known = {name for listed in groups.values() for name in listed}
    found = {"This recipe": [name for name in names if name not in known]}
    found |= {heading: [name for name in listed if name in names] for heading, listed in groups.items()}
    return {heading: listed for heading, listed in found.items() if listed}


def _setting_lines(flag: str, meaning: str, width: int) -> Iterator[str]:
    space = " " * (_NAMES + 2)
    lines = textwrap.wrap(meaning, width - len(space), break_on_hyphens=False)
    if len(flag) > _NAMES:
        yield f"  {flag}"
    else:
        yield f"  {flag:<{_NAMES}}{lines.pop(0)}"
    yield from (f"{space}{line}" for line in lines)


def help_page(program: Path, settings_class: type[Settings], width: int, *, every: bool = False) -> Iterator[str]:
    """Lines of a recipe's help page; headings stand at the left margin, everything else is indented.

    Args:
        program: The recipe's file, whose docstring has its question, what it does, and indented examples.
        settings_class: Its settings.
        width: Columns.
        every: Whether all settings are shown, or those that people use first.
    """
    docstring = ast.get_docstring(ast.parse(program.read_text(encoding="utf-8"))) or program.stem
    question, *paragraphs = docstring.replace("``", "").split("\n\n")
    yield from textwrap.wrap(question, width)
    for paragraph in paragraphs:
        if not paragraph.startswith(" "):
            yield from ("", *textwrap.wrap(paragraph, width, initial_indent="  ", subsequent_indent="  "))
    for paragraph in paragraphs:
        if paragraph.startswith(" "):
            yield from ("", "Examples", *(f"  {line.strip()}" for line in paragraph.split("\n")))
    fields = settings_class.model_fields
    names = list(fields) if every else first_settings(fields)
    for heading, listed in _by_heading(names).items():
        yield from ("", heading)
        for name in listed:
            field = fields[name]
            meaning = " ".join((field.description or "").replace("{sources}", described_sources()).split())
            notes = [" | ".join(choices(field.annotation)), _limits(field) if every else ""]
            notes = [note for note in (*notes, _default(name, field, settings_class)) if note]
            meaning += f" [{'; '.join(notes)}]" if notes else ""
            yield from _setting_lines(f"--{name} {value_form(field.annotation)}", meaning, width)
    yield from ("", "Every recipe")
    for name, value, meaning in _SHARED:
        if every or name in ("config", "fast"):
            yield from _setting_lines(f"--{name} {value}", meaning, width)
    yield ""
    yield (
        "--no-NAME turns a switch off. In YAML a setting is a line 'name: value'."
        if every
        else (f"All {len(fields)} settings: --help-all. What a run will need: ftkit plan {program.stem}.")
    )


def show_help(program: Path, settings_class: type[Settings], *, every: bool = False) -> None:
    """Print the help page of a recipe, with bold headings in a terminal.

    Args:
        program: The recipe's file.
        settings_class: Its settings.
        every: Whether all settings are shown, or those that people use first.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, soft_wrap=True)
    width = min(shutil.get_terminal_size((80, 0)).columns, _WIDEST)
    for number, line in enumerate(help_page(program, settings_class, width, every=every)):
        is_heading = line and (number == 0 or re.fullmatch(r"[A-Z][a-z ]+", line))
        console.print(Text(line, "bold" if is_heading else ""))
