"""Is generated code well formed, and does it look like the code that it should? (lessons 07/013 and 07/014)

Generated code is read and never run: Python has no sandbox that holds. It is also not trusted to be harmless to read:
its length is bounded, and what makes Python's own parser give up counts as code that does not parse.
"""

import ast
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ftkit.errors import DataError
from ftkit.evidence.intervals import Interval, bootstrap, change_of_share, wilson

__all__ = [
    "CodeChange",
    "CodeScores",
    "code_change",
    "code_validity",
    "imports_of",
    "parse_code",
    "well_formed_start",
]

MOST_CHARS = 50_000
"""Longer samples are not read: parsing takes time and memory that grow with them."""
_MOST_TRIES = 200
"""Lines that are taken off the end in search of a well-formed start."""
_MOST_TRIED_CHARS = 1_000_000
"""Characters that are parsed in that search, all tries of a sample together."""
_DRAWS = 1000
"""Redraws of a bootstrap: an end of a 95 % interval then rests on 25 of them."""
# What Python's parser and compiler say of source that they do not take; RecursionError and MemoryError come from deep
# nesting, ValueError from null bytes and lone surrogates.
_REFUSALS = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError, SystemError)


@dataclass(frozen=True)
class CodeScores:
    """What can be said of samples of Python code without running them."""

    samples: int
    parses: Interval
    """Share that Python's grammar accepts, and that holds a statement: blank lines and comments say nothing."""
    compiles: Interval
    """Share that compiles too: no ``return`` outside a function and the like. Names need not exist."""
    well_formed: Interval
    """Mean share of a sample's lines in its longest well-formed start: generation stops in the middle of a line."""
    distinct: float
    """Different samples over samples, white space aside."""
    diversity: float
    """Different runs of three tokens over all such runs, of all samples together."""
    imports: dict[str, Interval]
    """Share of samples that import each top-level module, most frequent first."""
    node_coverage: float | None = None
    """Share of the reference's kinds of syntax nodes that the samples use, |generated and reference| / |reference|;
    it grows with the number of samples."""
    node_overlap: Interval | None = None
    """Overlap of how often each pair of parent and child node stands in both: 1 is the same mixture."""
    reference_imports: dict[str, float] | None = None
    """Share of the reference's samples that import each module."""
    unknown_imports: float | None = None
    """Share of all imports that name a module of neither the reference nor the standard library."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class CodeChange:
    """What changed between two models that wrote from the same starts, paired by start."""

    parses: Interval
    """Share of samples that parse, after minus before."""
    compiles: Interval
    well_formed: Interval

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def parse_code(text: str, most_chars: int = MOST_CHARS) -> ast.Module | None:
    """Parse Python code that nobody vouches for, without running it.

    Args:
        text: The code.
        most_chars: Longer code is not read.

    Returns:
        Its syntax tree; ``None`` where Python refuses it, or it is too long.
    """
    if len(text) > most_chars:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an invalid escape in a string
            return ast.parse(text)
    except _REFUSALS:
        return None


def _parses(text: str) -> bool:
    """Whether code parses and holds a statement."""
    tree = parse_code(text)
    return tree is not None and bool(tree.body)


def _compiles(text: str) -> bool:
    """Whether code that parses compiles; the result is thrown away."""
    if not _parses(text):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, "<generated>", "exec", dont_inherit=True)
    except _REFUSALS:
        return False
    return True


def well_formed_start(text: str) -> tuple[ast.Module | None, float]:
    """The longest start of a sample that parses.

    Args:
        text: The code.

    Returns:
        Its tree, ``None`` where nothing parses or it is too long, and its share of the lines that are not empty.
    """
    if len(text) > MOST_CHARS:
        return None, 0.0
    lines, tried = text.split("\n"), 0
    whole = sum(bool(line.strip()) for line in lines)
    for left in range(len(lines), max(len(lines) - _MOST_TRIES, 0), -1):
        start = "\n".join(lines[:left])
        tried += len(start)
        if tried > max(_MOST_TRIED_CHARS, len(text)):
            break
        kept = sum(bool(line.strip()) for line in lines[:left])
        if kept and (tree := parse_code(start)) is not None and tree.body:
            return tree, kept / whole
    return None, 0.0


def imports_of(tree: ast.Module) -> set[str]:
    """Top-level modules that code names in its imports; none is imported."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def code_validity(samples: Sequence[str], reference: Sequence[str] = ()) -> CodeScores:
    """Measure samples of Python code.

    Args:
        samples: Generated code. Trees, imports and nodes are those of the longest well-formed start of each.
        reference: Real code of the kind that was asked for; without it overlap and unknown imports are not asked.

    Returns:
        Shares with 95 % intervals: Wilson's for what is counted, the bootstrap over samples for the rest.

    Raises:
        DataError: No sample.
    """
    if not samples:
        raise DataError("no sample of code was given")
    n = len(samples)
    starts = [well_formed_start(sample) for sample in samples]
    trees = [tree for tree, _ in starts if tree is not None]
    named = [imports_of(tree) for tree in trees]
    tokens = [re.findall(r"\w+|[^\w\s]", sample[:MOST_CHARS]) for sample in samples]
    runs = [run for line in tokens for run in zip(line, line[1:], line[2:], strict=False)]
    counts = Counter(module for modules in named for module in modules)
    scores = CodeScores(
        samples=n,
        parses=wilson(sum(map(_parses, samples)), n),
        compiles=wilson(sum(map(_compiles, samples)), n),
        well_formed=bootstrap(lambda shares: shares.mean(-1), np.array([share for _, share in starts])),
        distinct=len({" ".join(line) for line in tokens}) / n,
        diversity=len(set(runs)) / max(len(runs), 1),
        imports={module: wilson(count, n) for module, count in _most_common(counts)},
    )
    return _beside(scores, trees, counts, reference) if reference else scores


def _most_common(counts: Counter[str]) -> list[tuple[str, int]]:
    """Most frequent first, by name where two are equal: sets have no order that another process would have."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def code_change(before: Sequence[str], after: Sequence[str]) -> CodeChange:
    """Compare samples that begin at the same starts.

    Args:
        before: Samples of the base.
        after: Samples of the tuned model, in the same order.

    Returns:
        Differences with 95 % intervals: Newcombe's of paired shares, for well-formed starts the bootstrap over starts.

    Raises:
        DataError: No sample, or not as many of both.
    """
    if not before or len(before) != len(after):
        raise DataError(f"{len(before)} samples before and {len(after)} after cannot be paired; give one of each start")

    def change(measure: Callable[[str], float]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([measure(text) for text in before]), np.array([measure(text) for text in after])

    first, second = change(lambda text: well_formed_start(text)[1])
    return CodeChange(
        change_of_share(*change(_parses)),
        change_of_share(*change(_compiles)),
        bootstrap(lambda drawn: drawn.mean(-1), second - first),
    )


def _beside(
    scores: CodeScores, trees: Sequence[ast.Module], counts: Counter[str], reference: Sequence[str]
) -> CodeScores:
    """The same scores with what a reference says."""
    real = [tree for tree, _ in map(well_formed_start, reference) if tree is not None]
    if not real:
        raise DataError(f"none of the {len(reference)} reference samples is Python code that parses")
    theirs = Counter(module for tree in real for module in imports_of(tree))
    known = set(theirs) | sys.stdlib_module_names
    unknown = sum(count for module, count in counts.items() if module not in known) / max(counts.total(), 1)
    coverage, overlap = _overlaps(trees, real, scores.samples)
    return CodeScores(
        **vars(scores)
        | {
            "node_coverage": coverage,
            "node_overlap": overlap,
            "reference_imports": {module: count / len(reference) for module, count in _most_common(theirs)},
            "unknown_imports": unknown,
        }
    )


def _nodes(tree: ast.Module) -> Counter[tuple[str, str]]:
    """How often each kind of node stands below each kind; whether a name is read or written is left out."""
    found: Counter[tuple[str, str]] = Counter()
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.expr_context):
                found[type(node).__name__, type(child).__name__] += 1
    return found


def _overlaps(trees: Sequence[ast.Module], real: Sequence[ast.Module], samples: int) -> tuple[float, Interval]:
    """Coverage of kinds of nodes, and overlap of pairs with samples redrawn, those without a tree too.

    A redraw repeats samples, so it overlaps less than they do; its spread is what the interval takes, not its place.
    """
    ours, theirs = [_nodes(tree) for tree in trees], sum(map(_nodes, real), Counter())
    pairs = sorted(set(theirs).union(*ours))
    place = {pair: number for number, pair in enumerate(pairs)}
    counts = np.zeros((samples, len(pairs)))
    for row, found in enumerate(ours):
        for pair, count in found.items():
            counts[row, place[pair]] = count
    wanted = np.array([float(theirs[pair]) for pair in pairs])
    drawn = np.random.default_rng(0).multinomial(samples, [1 / samples] * samples, size=_DRAWS)
    weights = np.concatenate([np.ones((1, samples)), drawn])
    used = weights @ counts
    mixture = used / np.maximum(used.sum(1, keepdims=True), 1)
    overlap = np.minimum(mixture, wanted / wanted.sum()).sum(1)
    low, high = np.clip(overlap[0] + np.percentile(overlap[1:] - overlap[1:].mean(), [2.5, 97.5]), 0, 1)
    used_kinds, asked_kinds = ({child for _, child in found} for found in (set().union(*ours), theirs))
    coverage = len(used_kinds & asked_kinds) / len(asked_kinds)
    return coverage, Interval(float(overlap[0]), float(low), float(high))
