"""A function reads every parameter that it takes, has at most eight, and at most eighty lines."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_PARAMETERS, MOST_LINES = 8, 80
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    """Every function of package and recipes by ``FILE:NAME``."""
    for path in sorted([*(ROOT / "ftkit").rglob("*.py"), *(ROOT / "recipes").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, Function):
                yield f"{path.relative_to(ROOT)}:{node.name}", node


def parameters(function: Function) -> list[str]:
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [each.arg for each in every if each is not None and each.arg not in ("self", "cls")]


def is_declaration(function: Function) -> bool:
    """Whether the body is a docstring, ``...`` or ``raise`` alone: a protocol or something to override."""
    return all(
        isinstance(node, ast.Raise | ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in function.body
    )


def unread(function: Function) -> list[str]:
    """Parameters whose name occurs nowhere in the body."""
    names = {node.id for part in function.body for node in ast.walk(part) if isinstance(node, ast.Name)}
    return [name for name in parameters(function) if name not in names]


SIGNATURES = {
    # Python, torch and transformers call these by their own signature.
    "__exit__", "__torch_dispatch__", "_note_signal", "_as_log_probabilities", "forward", "eager_attention_forward",
    "update", "on_train_begin", "on_train_end",
    # One of several functions of one form: a mark is drawn in axes, a probe the step, a task a model,
    # a writer the text and the seed, an evaluation the number of rows.
    "diagonal",
    "before", "begin", "measure", "write", "real_passages", "prompts", "scores",
    # Recipes override it.
    "fast_values",
}  # fmt: skip
"""Functions whose parameters belong to a form that others decide, so that one may stay unread."""
HOOKS = ("ftkit/evidence/measure.py", "ftkit/evidence/measures/", "ftkit/evidence/judges/")
"""Measures and judges plug in: each fills the same methods, and few need all that they are given."""
LONG = {
    # Commands of the command line: each parameter is an option, and the body builds a settings object.
    "ftkit/cli/blend.py:blend", "ftkit/cli/chat.py:chat", "ftkit/cli/generate.py:generate",
    "ftkit/cli/predict.py:predict", "ftkit/cli/verdict.py:verdict", "ftkit/cli/inspect.py:inspect",
    "ftkit/cli/inspect.py:perturb",
    # Tools of an agent: each parameter is a field that it may fill.
    "ftkit/cli/mcp.py:generate", "ftkit/cli/mcp.py:verdict",
    # Public: one call with a name for each text and option.
    "ftkit/jobs/verdicts.py:verdict",
    # transformers' own signatures.
    "ftkit/models/loader.py:load_model", "ftkit/models/modeling_ftkit_gpt2.py:forward",
}  # fmt: skip
"""Functions with more parameters or lines than others may have."""


def test_a_function_reads_every_parameter():
    found = list(functions())
    assert len(found) > 1500
    unread_names = {
        place: unread(function)
        for place, function in found
        if not place.startswith(HOOKS) and not is_declaration(function) and unread(function)
    }
    assert {place: names for place, names in unread_names.items() if place.partition(":")[2] not in SIGNATURES} == {}
    assert {place.partition(":")[2] for place in unread_names} == SIGNATURES, "an exception that nobody needs"


def test_a_planted_unread_parameter_is_found():
    [function] = ast.parse("def scale(x, factor, *, size=1):\n    return x * factor").body
    assert isinstance(function, ast.FunctionDef)
    assert unread(function) == ["size"]


def test_functions_are_short_and_have_few_parameters():
    long = {
        place
        for place, function in functions()
        if len(parameters(function)) > MOST_PARAMETERS or (function.end_lineno or 0) - function.lineno + 1 > MOST_LINES
    }
    assert long - LONG == set()
    assert LONG - long == set(), "an exception that nobody needs"
