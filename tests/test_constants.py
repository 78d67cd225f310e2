"""A numeric constant of a module has its reason beside it: a comment, or a string below."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def is_number(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Constant):
        return isinstance(value.value, int | float) and not isinstance(value.value, bool)
    if isinstance(value, ast.BinOp):
        return is_number(value.left) and is_number(value.right)
    if isinstance(value, ast.Tuple):
        return bool(value.elts) and all(map(is_number, value.elts))
    return isinstance(value, ast.UnaryOp) and is_number(value.operand)


def constants(source: str) -> Iterator[tuple[str, bool]]:
    """Each numeric constant of a module, and whether a reason stands beside, below or above it."""
    lines, body = source.splitlines(), ast.parse(source).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not is_number(node.value):
            continue
        target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        if target.strip("(_").isupper() or target[:1].isupper():
            below = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            beside = "#" in lines[(node.end_lineno or node.lineno) - 1]
            yield target, below or beside or lines[node.lineno - 2].startswith("#")


def test_every_numeric_constant_has_a_reason():
    found = {
        f"{path.relative_to(ROOT)}:{name}": has_reason
        for path in sorted((ROOT / "ftkit").rglob("*.py"))
        for name, has_reason in constants(path.read_text(encoding="utf-8"))
    }
    assert len(found) > 60
    assert [place for place, has_reason in found.items() if not has_reason] == []


def test_a_planted_constant_without_a_reason_is_found():
    source = 'import re\n\n_MOST = 3\n_LEAST = 2  # two are a pair\nSHARE = 0.5\n"""Half."""\n'
    assert list(constants(source)) == [("_MOST", False), ("_LEAST", True), ("SHARE", True)]
