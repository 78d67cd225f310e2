"""Generated code is read, never run, and hostile code does no harm."""

import ast
import sys

import pytest
from scipy.stats import binomtest

from ftkit.errors import DataError
from ftkit.evidence.code import MOST_CHARS, code_change, code_validity, imports_of, parse_code, well_formed_start

GOOD = "import numpy as np\n\ndef f(x):\n    return np.sin(x) + 1\n"
OUTSIDE = "return 1\n"  # parses, does not compile
BAD = "def f(:\n"


def test_shares_are_counts_with_wilsons_interval():
    scores = code_validity([GOOD] * 5 + [OUTSIDE] * 2 + [BAD] * 3)
    for share, hits in ((scores.parses, 7), (scores.compiles, 5), (scores.imports["numpy"], 5)):
        theirs = binomtest(hits, 10).proportion_ci(method="wilson")
        assert (share.value, share.low, share.high) == pytest.approx((hits / 10, theirs.low, theirs.high))
    assert scores.distinct == 0.3


def test_code_that_would_leave_a_mark_is_not_run(tmp_path):
    mark = tmp_path / "mark"
    (tmp_path / "planted_module.py").write_text(f"open({str(mark)!r}, 'w')")
    sys.path.insert(0, str(tmp_path))
    write = f"open({str(mark)!r}, 'w').close()\n"
    samples = [
        write,
        "import planted_module\n",
        "from planted_module import *\n",
        f"class A:\n    x = {write}",
        f"@{write}def f(): pass\n",
        f"def f(x={write.strip()}): pass\n",
        f"raise SystemExit({write.strip()})\n",
        f"x: {write}",
        f"f'{{{write.strip()}}}'\n",
    ]
    try:
        scores = code_validity(samples, reference=samples)
    finally:
        sys.path.remove(str(tmp_path))
    assert scores.parses.value > 0.7  # most of it would run
    assert not mark.exists()
    assert "planted_module" not in sys.modules


@pytest.mark.parametrize(
    "hostile",
    [
        "(" * 5000,
        "(" * 150 + ")" * 150,
        "-" * 40_000 + "1",
        "+".join(["1"] * 20_000),
        "a" + ".b" * 20_000,
        "if x:\n" + "".join(" " * n + "if x:\n" for n in range(1, 200)),
        "x = 1\0",
        "x = '\ud800'",
        "9" * 20_000,
        "10 ** 10 ** 10 ** 10",
        "'a' * 10 ** 12",
        "x = '\\d'",
        "1 is 1",
        "# coding: nonsense\nx = 1",
        "x" * (MOST_CHARS + 1),
        "",
        "\ufeff",
        "\x1b[2J",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_hostile_code_does_no_harm(hostile):
    scores = code_validity([hostile, GOOD])
    assert scores.parses.value in (0.5, 1.0)
    assert scores.compiles.value in (0.5, 1.0)


def test_a_sample_that_was_cut_is_read_up_to_its_last_whole_statement():
    tree, share = well_formed_start("import sympy\nx = 1\ny = [1, 2")
    assert tree is not None
    assert imports_of(tree) == {"sympy"}
    assert share == pytest.approx(2 / 3)
    assert well_formed_start("while")[1] == 0


def test_imports_are_top_level_modules_by_name():
    tree = ast.parse("import a.b, c as d\nfrom e.f import g\nfrom . import h\nfrom .i import j\ndef k():\n    import l")
    assert imports_of(tree) == {"a", "c", "e", "l"}


def test_the_same_code_overlaps_wholly_and_other_code_less():
    same = code_validity([GOOD] * 8, [GOOD])
    assert same.node_overlap is not None
    assert (same.node_coverage, same.node_overlap.value) == pytest.approx((1, 1))
    other = code_validity(["x = 1\n"] * 8, [GOOD])
    assert other.node_overlap is not None
    assert other.node_overlap.high < 0.2


def test_coverage_is_the_lessons_quotient_of_kinds_of_nodes():
    reference, sample = "x = f(1)\nwhile x:\n    pass\n", "y = g(2) + 3\n"
    contexts = (ast.Load, ast.Store, ast.Module)

    def kinds(code: str) -> set[str]:
        return {type(node).__name__ for node in ast.walk(ast.parse(code)) if not isinstance(node, contexts)}

    found = code_validity([sample], [reference]).node_coverage
    assert found == pytest.approx(len(kinds(sample) & kinds(reference)) / len(kinds(reference)))


def test_an_invented_module_is_unknown_and_those_of_reference_and_library_are_not():
    scores = code_validity(["import numpy, os, nompy\n", "import math\n"], ["import numpy\n"])
    assert scores.unknown_imports == 1 / 4


def test_without_samples_or_with_a_reference_that_is_no_code_it_says_so():
    with pytest.raises(DataError, match="no sample"):
        code_validity([])
    with pytest.raises(DataError, match="none of the 1 reference"):
        code_validity([GOOD], ["this is no code"])
    assert parse_code(BAD) is None


def test_the_interval_of_the_mixture_holds_its_value():
    statements = [
        "import os\n",
        "x = 1\n",
        "def f(a):\n    return a\n",
        "for i in y:\n    print(i)\n",
        "class A:\n    b = 2\n",
    ]
    found = code_validity(statements[:3] * 4, statements).node_overlap
    assert found is not None
    assert found.low <= found.value <= found.high


def test_modules_named_as_often_stand_in_the_order_of_their_names():
    assert list(code_validity(["import zlib, ast, heapq, bisect\n", "import zlib\n"]).imports) == [
        "zlib", "ast", "bisect", "heapq",
    ]  # fmt: skip


def test_the_search_for_a_start_ends_when_it_has_read_enough(monkeypatch):
    read = []
    monkeypatch.setattr("ftkit.evidence.code.parse_code", lambda text: read.append(len(text)))
    well_formed_start("x = 1\n" * 8000)
    assert sum(read) < 1_100_000
    assert len(read) < 30


def test_a_sample_that_is_too_long_is_not_read_in_part_either():
    scores = code_validity(["a" + " and a" * 9000])
    assert (scores.parses.value, scores.well_formed.value) == (0, 0)


def test_samples_that_parse_as_often_as_before_may_still_differ_by_chance():
    change = code_change(["("] * 96, [")"] * 96).parses
    assert change.low < 0 == change.value < change.high
