"""A number of documents of a data set: read as a stream that stops, and kept where it came from the network."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from ftkit.data import Document, load_corpus
from ftkit.errors import DataError, NetworkError

ROWS = [{"id": number, "text": f"Row {number}."} for number in range(6)]


def texts(source: str) -> list[str]:
    return [document.text for document in load_corpus(source, warn_short=False).documents]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A folder of JSON lines with a broken row, and a file that is none."""
    folder = tmp_path / "lines"
    folder.mkdir()
    good = "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "train-0.jsonl").write_text(good + "{broken\n")
    (folder / "train-1.jsonl").write_bytes(b"\xff\xfe\0 not text")
    (folder / "test.jsonl").write_text(json.dumps({"text": "held out"}))
    return folder


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """A folder of two parquet files, the second cut off."""
    folder = tmp_path / "parquet"
    folder.mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), folder / "train-0.parquet")
    (folder / "train-1.parquet").write_bytes((folder / "train-0.parquet").read_bytes()[:100])
    return folder


@pytest.mark.parametrize("kind", ["lines", "parquet"])
def test_nothing_behind_the_limit_is_touched(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    first = next(folder.glob("train-0.*"))
    for count in (1, 4, 6):
        wanted = [f"Row {number}." for number in range(count)]
        assert texts(f"hub:{folder}@{count}") == texts(f"hub:{folder}:train#text@{count}") == wanted
        assert texts(f"hub:{first}@{count}") == wanted
    for source in (f"hub:{folder}@7", f"hub:{folder}"):  # without a limit everything is read
        with pytest.raises(DataError, match=r"line 7: no JSON|train-1\.parquet cannot be read on"):
            load_corpus(source)


def test_a_stream_reads_no_more_lines_than_documents(tmp_path: Path) -> None:
    """A file of 50 MB, of which the system is asked for its beginning alone."""
    path = tmp_path / "large.jsonl"
    row = json.dumps({"text": "x" * 1000}) + "\n"
    with path.open("w") as file:
        file.writelines([row] * 50)
        file.truncate(50_000_000)  # the rest is a hole of NUL characters, which is no JSON
    assert len(texts(f"hub:{path}@50")) == 50
    with pytest.raises(DataError, match="line 51: a NUL character"):
        load_corpus(f"hub:{path}@51")


def test_fewer_rows_than_were_asked_for_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text('{"text": "a row"}\n' * 3)
    with caplog.at_level("WARNING", "ftkit"):
        assert len(texts(f"hub:{path}@3")) == 3
        assert "only" not in caplog.text
        assert len(texts(f"hub:{path}@4")) == 3
    assert "there are only 3 rows" in caplog.text


def test_splits_columns_and_files_are_named_as_without_a_limit(lines: Path, parquet: Path) -> None:
    assert texts(f"hub:{lines}:test@5") == ["held out"]
    for folder in (lines, parquet):
        with pytest.raises(DataError, match=r"no column 'tekst'; did you mean 'text'\? Columns: id, text"):
            load_corpus(f"hub:{folder}#tekst@2")
    with pytest.raises(DataError, match="row 0 of column 'id' holds int"):
        load_corpus(f"hub:{lines}#id@2")
    with pytest.raises(DataError, match="no files of split 'validation'"):
        load_corpus(f"hub:{lines}:validation@2")
    (lines / "train-0.csv").write_text("text\na row of a CSV file\n")  # sorted before the others
    assert texts(f"hub:{lines}@2")[1:] == ["Row 0."]


def test_a_folder_whose_name_ends_like_a_limit_is_a_folder(tmp_path: Path) -> None:
    named = tmp_path / "at@2"
    named.mkdir()
    (named / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert len(texts(f"hub:{named}")) == len(texts(f"hub:{named}#text")) == 6
    assert texts(f"hub:{named}@3") == ["Row 0.", "Row 1.", "Row 2."]


def test_a_single_file_is_a_data_set_without_a_limit_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    wanted = [row["text"] for row in ROWS]
    assert texts(f"hub:{tmp_path / 'a.jsonl'}") == texts(f"hub:{tmp_path / 'a.parquet'}") == wanted


def test_what_was_streamed_from_the_hub_is_found_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parquet: Path
) -> None:
    import datasets

    asked, original = [], datasets.load_dataset

    def load_dataset(path: str, *_: str, split: str, streaming: bool) -> datasets.IterableDataset:
        asked.append((path, split, streaming))
        return datasets.Dataset.from_list(ROWS).to_iterable_dataset()

    # There is no network in tests: the server's side is played by rows in memory, the rest is real.
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("ftkit.data.hub_rows.hub_unreachable_reason", lambda: "")
    first = load_corpus("hub:owner/web@3")
    assert first.name == "web"
    assert first.documents == tuple(Document(f"row {number}", f"Row {number}.") for number in range(3))
    monkeypatch.setattr(datasets, "load_dataset", original)
    monkeypatch.setattr("ftkit.data.hub_rows.hub_unreachable_reason", lambda: "no such host")
    assert load_corpus("hub:owner/web@3") == first
    assert asked == [("owner/web", "train", True)]
    with pytest.raises(NetworkError, match="no such host"):
        load_corpus("hub:owner/web@4")
