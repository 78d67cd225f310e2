"""Python files as text: nothing of their form is lost, and the standard library is the same corpus every time."""

import ast
import sysconfig
from itertools import pairwise
from pathlib import Path

import pytest

from ftkit.data import load_corpus
from ftkit.errors import DataError


def written(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_a_folder_is_its_python_files_with_every_tab_and_blank_line(tmp_path: Path) -> None:
    code = "\n\n\n\n\n\nif x:\n\ty = 1  \n\n\n\n\n\n# *** START OF THE PROJECT GUTENBERG EBOOK ***\n"
    written(tmp_path / "b.py", code)
    written(tmp_path / "pack" / "a.py", "x = 1\r\ny = 2\r\n")
    written(tmp_path / "pack" / "__init__.py", "")
    written(tmp_path / "venv" / "lib" / "site-packages" / "theirs.py", "z = 1\n")
    written(tmp_path / ".hidden" / "c.py", "z = 1\n")
    written(tmp_path / "readme.txt", "text")
    corpus = load_corpus(f"code:{tmp_path}", warn_short=False)
    assert [(d.name, d.text) for d in corpus.documents] == [("b.py", code), ("pack/a.py", "x = 1\ny = 2\n")]
    assert [(item.kind, item.characters) for item in corpus.removed] == [("line ends", 2)]
    assert load_corpus(f"code:{tmp_path / 'b.py'}", warn_short=False).text == code


def test_a_file_is_read_in_the_encoding_that_it_declares_or_refused(tmp_path: Path) -> None:
    text = "# -*- coding: latin-1 -*-\nname = 'caf\u00e9'\n"
    path = written(tmp_path / "old.py", text.encode("latin-1"))
    assert load_corpus(f"code:{tmp_path}", warn_short=False).text == text
    written(path, "#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\nx = '\u20ac'\n".encode("cp1252"))
    assert "\u20ac" in load_corpus(f"code:{tmp_path}", warn_short=False).text
    written(path, "x = 'caf\u00e9'\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"old\.py: not utf-8 text: 0xE9 at byte 8"):
        load_corpus(f"code:{tmp_path}")
    assert load_corpus(f"code:{tmp_path}", encoding="latin-1", warn_short=False).text == "x = 'caf\u00e9'\n"
    written(path, "# coding: nonsense\nx = 1\n")
    with pytest.raises(DataError, match=r"old\.py: declares the encoding 'nonsense'"):
        load_corpus(f"code:{tmp_path}")


def test_a_folder_without_code_of_its_own_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "__init__.py", "")
    with pytest.raises(DataError, match="none of 1 Python files is code of its own"):
        load_corpus(f"code:{tmp_path}")
    with pytest.raises(DataError, match=r"ending in \.py are read; found: 1 with ending \.txt"):
        load_corpus(f"code:{written(tmp_path / 'sub' / 'a.txt', 'x').parent}")


def test_the_standard_library_is_the_same_every_time_and_a_limit_is_kept() -> None:
    small, again = (load_corpus("code:stdlib:150000", warn_short=False) for _ in range(2))
    assert (small.documents, small.sha256) == (again.documents, again.sha256)
    sizes = [len(document.text.encode()) for document in small.documents]
    assert 140_000 < sum(sizes) <= 150_000
    folder = Path(sysconfig.get_path("stdlib"))
    assert small.documents[0].text == (folder / small.documents[0].name).read_text(encoding="utf-8")
    for document in small.documents:
        ast.parse(document.text)


def test_the_standard_library_has_no_tests_toys_or_installed_packages_and_keeps_packages_together() -> None:
    names = [document.name for document in load_corpus("code:stdlib").documents]
    assert len(names) > 200
    assert {"argparse.py", "json/decoder.py", "asyncio/base_events.py"} <= set(names)
    parts = [set(name.split("/")) for name in names]
    assert not any(part & {"test", "tests", "site-packages", "idlelib", "turtledemo", "encodings"} for part in parts)
    tops = [name.split("/")[0] for name in names]
    assert sum(one != other for one, other in pairwise(tops)) == len(set(tops)) - 1
    assert tops != sorted(tops)


def test_one_package_of_the_standard_library_is_a_corpus_and_the_base_of_code_completion_has_not_read_it() -> None:
    names = [document.name for document in load_corpus("code:stdlib/asyncio").documents]
    assert len(names) > 20
    assert all(name.startswith("asyncio/") for name in names)
    assert [d.name for d in load_corpus("code:stdlib/argparse", warn_short=False).documents] == ["argparse.py"]
    assert not set(names) & {document.name for document in load_corpus("code:stdlib:600000").documents}
    with pytest.raises(DataError, match="no Python file of nowhere"):
        load_corpus("code:stdlib/nowhere")


@pytest.mark.parametrize("limit", ["x", "0", "-5", "1e6"])
def test_a_limit_is_a_number_of_bytes(limit: str) -> None:
    with pytest.raises(DataError, match="no number of bytes"):
        load_corpus(f"code:stdlib:{limit}")
    with pytest.raises(DataError, match="no Python file of at most 3 bytes"):
        load_corpus("code:stdlib:3")
