"""What ``ftkit predict`` reads: lines are lines, tables are tables, and what is no text is one clear line."""

import io
import json
from pathlib import Path

import pytest

from ftkit.cli.predict import _asked
from ftkit.errors import ConfigError, DataError


def typed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))


def test_only_line_ends_end_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["first\u2028second", "form\ffeed", "next\x85line", "group\x1dmark"]
    data = ("\ufeff" + "\r\n".join(lines) + "\n\n").encode()
    (tmp_path / "lines.txt").write_bytes(data)
    assert _asked([], str(tmp_path / "lines.txt"), "utf-8") == lines
    typed(monkeypatch, data)
    assert _asked([], None, "utf-8") == lines
    typed(monkeypatch, "\ufeffcaf\u00e9\r\n".encode("utf-16-le"))
    assert _asked([], None, "utf-16-le") == ["caf\u00e9"]


def test_a_table_gives_its_column_of_text(tmp_path: Path) -> None:
    rows = [{"id": n, "text": f"row {n}", "label": "a"} for n in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert _asked([], str(tmp_path / "rows.jsonl"), "utf-8") == ["row 0", "row 1", "row 2"]
    assert _asked([], f"{tmp_path / 'rows.jsonl'}#label", "utf-8") == ["a", "a", "a"]


def test_what_is_no_text_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, b"fine\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"standard input: not utf-8 text: 0xE9 at byte 8 \(line 2\)"):
        _asked([], None, "utf-8")
    with pytest.raises(DataError, match="text 2: half of a surrogate pair"):  # bytes of a command line come so
        _asked(["fine", "caf\udce9"], None, "utf-8")
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7")
    with pytest.raises(DataError, match="a PDF file"):
        _asked([], str(tmp_path / "a.pdf"), "utf-8")
    with pytest.raises(DataError, match="no such file or folder"):
        _asked([], str(tmp_path / "none.txt"), "utf-8")
    typed(monkeypatch, b" \n")
    with pytest.raises(ConfigError, match="there is no text"):
        _asked([], None, "utf-8")
