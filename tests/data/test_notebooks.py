"""Notebooks as text: both formats, what only IPython understands, and archives that mean harm."""

import ast
import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ftkit.data import load_corpus
from ftkit.data.sources import notebooks as notebooks_module
from ftkit.errors import DataError


def notebook(*cells: Any, language: str = "python") -> dict[str, Any]:
    """A notebook of format 4; a string is a code cell."""
    made = [cell if isinstance(cell, dict) else {"cell_type": "code", "source": cell, "outputs": []} for cell in cells]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"language_info": {"name": language}}, "cells": made}


def saved(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def code_of(folder: Path, *cells: Any) -> str:
    saved(folder / "one.ipynb", notebook(*cells))
    return load_corpus(f"notebooks:{folder}", warn_short=False).text


def test_each_notebook_of_a_folder_is_a_document_of_its_code_cells(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    prose = {"cell_type": "markdown", "source": ["# Not code\n"]}
    saved(shelf / "b" / "limits.ipynb", notebook(prose, ["x = 1\n", "\ty = 2"], "caf\u00e9 = '\u4e2d\u6587'\n", "  "))
    old = {"cell_type": "code", "language": "python", "input": ["print(3)\n", "print(4)"]}
    saved(shelf / "a.ipynb", {"nbformat": 3, "worksheets": [{"cells": [old, {**old, "input": "print(5)"}]}]})
    saved(shelf / ".ipynb_checkpoints" / "a-checkpoint.ipynb", "left alone")
    saved(shelf / "notes.txt", "no notebook")
    corpus = load_corpus(f"notebooks:{shelf}", warn_short=False)
    assert [(document.name, document.text) for document in corpus.documents] == [
        ("a.ipynb", "print(3)\nprint(4)\n\nprint(5)"),
        ("b/limits.ipynb", "x = 1\n\ty = 2\n\ncaf\u00e9 = '\u4e2d\u6587'"),
    ]
    assert (corpus.name, corpus.removed) == ("shelf", ())
    one = load_corpus(f"notebooks:{shelf / 'a.ipynb'}", warn_short=False)
    assert (one.name, one.text) == ("a", "print(3)\nprint(4)\n\nprint(5)")


def test_magics_go_and_are_counted_and_python_that_looks_like_them_stays(tmp_path: Path) -> None:
    magic = [
        "%matplotlib inline",
        "!pip install sympy",
        "?print",
        "np.array??",
        "files = !ls",
        "%time f(1)",
        "y = %env X",
    ]
    python = "s = ('%s is'\n     % name)\nt = '''\n%not a magic\n!nor this\n'''\nu = 7 \\\n% 4\nv = [1,\n  2]  # 100 %"
    block = "if there:\n    !ls\nelse:\n    z = 1"
    text = code_of(tmp_path, "\n".join([*magic, python]), block)
    assert text == f"{python}\n\nif there:\n    pass\nelse:\n    z = 1"
    ast.parse(text)
    removed = load_corpus(f"notebooks:{tmp_path}", warn_short=False).removed
    assert [(item.kind, item.characters) for item in removed] == [
        ("IPython magics", sum(map(len, magic)) + len("    !ls"))
    ]
    assert removed[0].sample == "8, the first: %matplotlib inline"
    raw = load_corpus(f"notebooks:{tmp_path}", clean=False, warn_short=False)
    assert (raw.text.count("!ls"), raw.removed) == (2, ())


def test_a_cell_in_another_language_goes_whole_and_a_timed_one_stays(tmp_path: Path) -> None:
    text = code_of(tmp_path, "%%bash\nls\n", "%%time\nx = 1", "%%capture out\n%%timeit -n 1\ny = 2", "%%html\n<b>")
    assert text == "x = 1\n\ny = 2"
    found = {item.kind: item for item in load_corpus(f"notebooks:{tmp_path}", warn_short=False).removed}
    assert found["cells in other languages"].characters == len("%%bash\nls\n") + len("%%html\n<b>")
    assert found["IPython magics"].sample.startswith("3,")


def test_what_only_ipython_reads_goes_with_the_lines_that_it_goes_on_in(tmp_path: Path) -> None:
    lines = (
        ("!pip install numpy \\\n    scipy\nimport numpy", "import numpy"),
        ("rows = %sql select \\\n  * from t\nx = 1", "x = 1"),
        ("df.head()?\nprint(f(x))??\na = 1  # why?", "a = 1  # why?"),
        ("for i in y: %time f(i)\nz = {'a': 'b:%c'}", "for i in y: pass\nz = {'a': 'b:%c'}"),
        ("a: int = !ls\nb = 2", "b = 2"),
        ("%%time\n" * 3000 + "c = 3", "c = 3"),
    )
    for number, (cell, code) in enumerate(lines):
        assert code_of(tmp_path / str(number), cell) == code
        ast.parse(code)


def test_a_cell_of_many_magics_is_read_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    begins = notebooks_module._begins_a_statement
    monkeypatch.setattr(
        notebooks_module, "_begins_a_statement", lambda before: read.append(len(before)) or begins(before)
    )
    assert code_of(tmp_path, "x=1\n!pip\n" * 300).count("x=1") == 300
    assert sum(read) == 300


@pytest.mark.parametrize("name", ["ir", "julia-1.9", "iruby", "bash"])
def test_a_kernel_that_says_only_its_name_is_known_by_it(tmp_path: Path, name: str) -> None:
    unsaid = notebook("x<-1") | {"metadata": {"kernelspec": {"name": name, "display_name": name}}}
    saved(tmp_path / "odd.ipynb", unsaid)
    with pytest.raises(DataError, match="no notebook in Python; 1 in another"):
        load_corpus(f"notebooks:{tmp_path}")
    for kernel in ("python3", "my-env", "irisenv"):
        ours = notebook("x = 1") | {"metadata": {"kernelspec": {"name": kernel}}}
        saved(tmp_path / "odd.ipynb", ours)
        assert load_corpus(f"notebooks:{tmp_path}", warn_short=False).text == "x = 1"


def test_format_3_says_the_language_cell_by_cell(tmp_path: Path) -> None:
    cells = [{"cell_type": "code", "language": name, "input": f"from {name}"} for name in ("ruby", "python")]
    saved(tmp_path / "old.ipynb", {"nbformat": 3, "worksheets": [{"cells": cells}]})
    assert load_corpus(f"notebooks:{tmp_path}", warn_short=False).text == "from python"


def test_notebooks_of_other_languages_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path / "r.ipynb", notebook("x <- 1", language="R"))
    with pytest.raises(DataError, match="no notebook in Python; 1 in another"):
        load_corpus(f"notebooks:{tmp_path}")
    with caplog.at_level(logging.WARNING, "ftkit"):
        assert code_of(tmp_path, "x = 1") == "x = 1"
    assert "left out: 1" in caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{not json", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"a": 1}', "neither cells nor worksheets"),
        ("[]", "neither cells nor worksheets"),
        ('{"cells": [{"cell_type": "code", "source": [1]}]}', "something else than text"),
        ('{"cells": [{"cell_type": "code", "source": "x\\u0000"}]}', "NUL character"),
        ('{"cells": [{"cell_type": "code", "source": "\\ud800"}]}', "surrogate"),
        ('{"cells": []}', "no text"),
        ('{"worksheets": [{"cells": 5}]}', "no text"),
        ('{"cells": [], "a": ' + "9" * 5000 + "}", "no JSON"),
    ],
)
def test_what_is_no_notebook_is_refused_by_name(tmp_path: Path, content: str, said: str) -> None:
    saved(tmp_path / "odd.ipynb", content)
    with pytest.raises(DataError, match=said) as caught:
        load_corpus(f"notebooks:{tmp_path}")
    assert "odd.ipynb" in str(caught.value) or said == "no text"


def zipped(path: Path, **files: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content if isinstance(content, str | bytes) else json.dumps(content))
    return path


def test_an_archive_is_read_like_its_folder_and_nothing_lands_on_the_disk(tmp_path: Path) -> None:
    files = {"book/b.ipynb": notebook("b = 1"), "book/a.ipynb": notebook("a = 1"), "book/readme.md": "text"}
    files |= {"__MACOSX/book/._a.ipynb": "resource", "book/.ipynb_checkpoints/a.ipynb": "old"}
    path = zipped(tmp_path / "book.zip", **files)
    corpus = load_corpus(f"notebooks:{path}", warn_short=False)
    assert [(d.name, d.text) for d in corpus.documents] == [("book/a.ipynb", "a = 1"), ("book/b.ipynb", "b = 1")]
    assert [entry.name for entry in tmp_path.iterdir()] == ["book.zip"]


def test_a_colon_in_a_name_of_an_archive_is_no_trick(tmp_path: Path) -> None:
    path = zipped(tmp_path / "book.zip", **{"week 1: limits.ipynb": notebook("x = 1")})
    assert load_corpus(f"notebooks:{path}", warn_short=False).text == "x = 1"


@pytest.mark.parametrize(
    "name", ["../evil.ipynb", "/etc/evil.ipynb", "a/../../evil.ipynb", "..\\evil.ipynb", "C:/e.ipynb"]
)
def test_an_archive_with_path_tricks_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    path = zipped(folder / "trick.zip", **{name: notebook("x = 1")})
    with pytest.raises(DataError, match="outside itself"):
        load_corpus(f"notebooks:{path}")
    assert [entry.name for entry in tmp_path.rglob("*")] == ["inside", "trick.zip"]


def test_bombs_and_damaged_archives_are_data_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks_module, "MOST_NOTEBOOK_BYTES", 10_000)
    monkeypatch.setattr(notebooks_module, "MOST_ARCHIVE_BYTES", 15_000)
    bomb = zipped(tmp_path / "bomb.zip", **{"a.ipynb": b" " * 5_000_000})
    assert bomb.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"a\.ipynb is larger than the limit of 10,000 bytes"):
        load_corpus(f"notebooks:{bomb}")
    many = zipped(tmp_path / "many.zip", **{f"{n}.ipynb": notebook("x = 1" + " " * 6_000) for n in range(4)})
    with pytest.raises(DataError, match="more than 15,000 bytes"):
        load_corpus(f"notebooks:{many}")
    whole = zipped(tmp_path / "whole.zip", **{"a.ipynb": notebook("x = 1")})
    data = bytearray(whole.read_bytes())
    data[45] ^= 0xFF  # inside the packed notebook
    whole.write_bytes(bytes(data))
    with pytest.raises(DataError, match="cannot be read"):
        load_corpus(f"notebooks:{whole}")
    with pytest.raises(DataError, match="no notebook among 1 files"):
        load_corpus(f"notebooks:{zipped(tmp_path / 'none.zip', **{'a.txt': 'x'})}")


def test_a_folder_without_notebooks_says_what_is_there(tmp_path: Path) -> None:
    saved(tmp_path / "a.txt", "x")
    with pytest.raises(DataError, match=r"ending in \.ipynb are read; found: 1 with ending \.txt"):
        load_corpus(f"notebooks:{tmp_path}")
    with pytest.raises(DataError, match="no such file or folder"):
        load_corpus(f"notebooks:{tmp_path / 'nowhere'}")
