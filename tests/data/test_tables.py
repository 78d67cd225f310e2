"""Tables in every form give the same rows; quotation marks swallow none; what is no table or no text is refused."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.data import formats, load_corpus, load_labelled
from ftkit.data.local_documents import read_lines
from ftkit.errors import DataError

ROWS = [
    {"id": n, "text": text, "label": label}
    for n, (text, label) in enumerate(
        [
            ("A fine, gentle film.", "good"),
            ('He said "no",\nand left.', "bad"),
            ("Caf\u00e9; \u2028 warm", "good"),
            ("x\ty", "bad"),
        ]
    )
]
TEXTS = [row["text"] for row in ROWS]


def delimited(sign: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, ROWS[0], delimiter=sign)
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


def parquet() -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), out)
    return out.getvalue()


def arrow(stream: bool) -> bytes:
    out, table = io.BytesIO(), pyarrow.Table.from_pylist(ROWS)
    with (pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def zipped(data: bytes, name: str = "rows.jsonl", **more: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for inner, content in {name: data, **more}.items():
            archive.writestr(inner, content)
    return out.getvalue()


LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
FORMS: dict[str, Callable[[], bytes]] = {
    "rows.csv": lambda: delimited(","),
    "semicolons.csv": lambda: delimited(";"),
    "rows.tsv": lambda: delimited("\t"),
    "rows.tab": lambda: delimited("\t"),
    "marked.csv": lambda: b"\xef\xbb\xbf" + delimited(","),
    "rows.jsonl": lambda: LINES,
    "rows.ndjson": lambda: LINES.replace(b"\n", b"\r\n"),
    "lines.json": lambda: LINES,
    "lines.txt": lambda: LINES,
    "list.json": lambda: json.dumps(ROWS, indent=1).encode(),
    "list.txt": lambda: json.dumps(ROWS).encode(),
    "within.json": lambda: json.dumps({"version": 1, "data": ROWS}).encode(),
    "columns.json": lambda: json.dumps(COLUMNS).encode(),
    "pandas.json": lambda: json.dumps({name: dict(enumerate(values)) for name, values in COLUMNS.items()}).encode(),
    "rows.parquet": parquet,
    "parquet_by_content": parquet,
    "rows.arrow": lambda: arrow(stream=True),
    "file.arrow": lambda: arrow(stream=False),
    "rows.jsonl.gz": lambda: gzip.compress(LINES),
    "rows.jsonl.bz2": lambda: bz2.compress(LINES),
    "rows.jsonl.xz": lambda: lzma.compress(LINES),
    "rows.csv.lzma": lambda: lzma.compress(delimited(","), lzma.FORMAT_ALONE),
    "rows.jsonl.zst": lambda: pyarrow.compress(LINES, "zstd", asbytes=True),
    "rows.zip": lambda: zipped(LINES),
    "rows.csv.zip": lambda: zipped(delimited(","), "rows.csv", **{"__MACOSX/x": b"x"}),
    "rows.csv.gz": lambda: gzip.compress(delimited(",")),
    "rows.parquet.gz": lambda: gzip.compress(parquet()),
    "gzip_by_content.jsonl": lambda: gzip.compress(LINES),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_table_is_read_as_its_rows_wherever_it_is_given(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FORMS[name]())
    for source in (f"{path}#text", str(path), f"hub:{path}", f"hub:{path}#text"):
        corpus = load_corpus(source, warn_short=False)
        assert [document.text for document in corpus.documents] == TEXTS
    assert [d.text for d in load_corpus(f"{path}#label", warn_short=False).documents] == COLUMNS["label"]
    assert [text for _, text in read_lines(str(path), "utf-8")] == TEXTS
    found = load_labelled(str(path))
    assert list(found.texts) == TEXTS
    assert [found.classes[label] for label in found.labels] == COLUMNS["label"]
    by_class = load_labelled({"all": str(path), "more": f"{path}#label"})
    assert by_class.counts == {"all": 4, "more": 4}


def test_folders_of_tables_and_saved_data_sets_are_read_without_a_prefix(tmp_path: Path) -> None:
    data = datasets.Dataset.from_list(ROWS).cast_column("label", datasets.ClassLabel(names=["good", "bad"]))
    data.to_parquet(tmp_path / "set" / "train-0.parquet")
    data.select([0]).to_parquet(tmp_path / "set" / "test-0.parquet")
    data.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=data, test=data.select([1])).save_to_disk(tmp_path / "splits")
    (tmp_path / "csv" / "a").mkdir(parents=True)
    (tmp_path / "csv" / "a" / "rows.csv").write_bytes(delimited(","))
    for folder in ("set", "saved", "splits", "csv"):
        for source in (str(tmp_path / folder), f"hub:{tmp_path / folder}", f"{tmp_path / folder}#text"):
            assert [d.text for d in load_corpus(source, warn_short=False).documents] == TEXTS
        assert load_labelled(str(tmp_path / folder)).counts == {"good": 2, "bad": 2}
    assert load_labelled(str(tmp_path / "saved")).classes == ("good", "bad")
    for folder in ("set", "splits"):
        assert len(load_corpus(f"hub:{tmp_path / folder}:test", warn_short=False).documents) == 1
        assert len(load_corpus(f"hub:{tmp_path / folder}:train[1:3]+test", warn_short=False).documents) == 3
        with pytest.raises(DataError, match=r"no .*split 'dev'"):
            load_corpus(f"hub:{tmp_path / folder}:dev")


def test_splits_that_a_folder_declares_in_its_readme_are_its_splits(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(delimited(","))
    (tmp_path / "b.csv").write_text("text\nelsewhere\n")
    config = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: b.csv\n---\n"
    (tmp_path / "README.md").write_text(config)
    assert load_corpus(str(tmp_path), warn_short=False).text == "elsewhere"


# Rows


STRAY = ['"dull meal', 'a "b" c', 'so "it goes', '"quoted" at first', 'ends"', '""', 'fine']  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_a_tsv_has_as_many_rows_as_lines_whatever_its_quotation_marks(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    rows = [(f"{draw.choice(STRAY)} {number}", draw.choice("ab")) for number in range(60)]
    (tmp_path / "rows.tsv").write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    found = load_labelled(str(tmp_path / "rows.tsv"))
    assert [(text, found.classes[label]) for text, label in zip(found.texts, found.labels, strict=True)] == rows


def test_a_quotation_mark_that_swallows_rows_of_a_csv_is_an_error_that_names_its_line(tmp_path: Path) -> None:
    rows = [[f"text {number}", "ab"[number % 2]] for number in range(60)]
    rows[10][0], rows[20][0] = '"dull', 'film"'
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(",".join(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"line 12: no table \(a quotation mark opens, closes in line 22, and holds"):
        load_labelled(str(path))


def test_texts_of_several_lines_stay_whole(tmp_path: Path) -> None:
    rows = [(f"line one, of {n}\nline two, a\n\nline three", "ab"[n % 2]) for n in range(40)]
    for name, sign in (("rows.csv", ","), ("rows.tsv", "\t")):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file, delimiter=sign).writerows([("text", "label"), *rows])
        assert load_labelled(str(tmp_path / name)).texts == tuple(text for text, _ in rows)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20).filter(lambda t: "\0" not in t), st.sampled_from("ab")), min_size=2))
def test_what_csv_wrote_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "written.csv"
    rows = [(text.encode("utf-8", "ignore").decode(), label) for text, label in rows]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    kept = [text.replace("\r\n", "\n").replace("\r", "\n") for text, _ in rows if text.strip()]
    try:
        assert [document.text for document in load_corpus(str(path), warn_short=False).documents] == [
            text.lstrip("\ufeff") for text in kept if text.lstrip("\ufeff").strip()
        ]
    except DataError as error:
        assert "no text" in str(error) or "whole rows" in str(error)


def test_headers_with_spaces_marks_and_other_capitals_are_found(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbf Text , "Label"\r\n"a, b",x\r\nc,y\r\n\r\n')
    for choice in ("", "#text,label", "#Text, Label"):
        assert load_labelled(f"{path}{choice}").texts == ("a, b", "c")
    path.write_text("text,text,label\na,b,x\nc,d,y\n")
    with pytest.raises(DataError, match="2 columns are called 'text'"):
        load_labelled(str(path))


def test_a_field_of_a_megabyte_and_a_column_alone_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f'text,label\n"{"long " * 250_000}",x\nb,y\n')
    assert len(load_labelled(str(path)).texts[0]) == 1_249_999
    path.write_text('text\nOne, two.\n"Three, ""four""."\n"No," she said.\n')
    documents = load_corpus(str(path), warn_short=False).documents
    assert [document.text for document in documents] == ["One, two.", 'Three, "four".', '"No," she said.']


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"text,label\na,x\nb,y,z\n", "line 3: 3 fields, the first line names 2"),
        ("a.csv", b'text,label\na,x\n"b,y\n', "line 3: no table"),
        ("a.csv", b"title,body\na,b\n", "columns title, body; none is called 'text'. Name the one .* e.g. FILE#title"),
        (
            "chats.jsonl", b'{"text": [{"role": "user", "content": "a"}]}\n',
            "holds list, not text. .*: ftkit run sft --examples FILE",
        ),
        ("a.csv", b"text,label\na\0b,x\n", "line 2: a NUL character"),
        ("a.csv", b"text,label\ncaf\xe9,x\n", "0xE9 at byte 14 .line 2."),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', "line 2: no column 'text'; did you mean 'txt'"),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', "line 2: list where an object is needed"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\\ud83d"}\n', "half of a surrogate pair"),
        ("a.jsonl", b'{"text": ' + b"[" * 100_000, "no JSON"),
        ("a.jsonl", b'{"text": 5}\n', "holds int, not text"),
        ("a.json", b'{"text": "a", "more": [1, 2]}', "no rows"),
        ("a.json", b"[1, 2]", "int where an object is needed"),
        ("a.parquet", b"text\na\n", "is no parquet file"),
        ("a.csv", b"<!DOCTYPE html><html>", "a web page, although the name ends in .csv"),
        ("a.txt", b"%PDF-1.7", "a PDF file"),
        ("a.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        ("a.txt", b"\x89PNG\r\n\x1a\n\0", "an image"),
        ("a.jpg", b"\xff\xd8\xff\xe0", "an image"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1", "old Word or Excel"),
        ("a.txt", pickle.dumps({"text": ["a"]}), "a pickle file"),
        ("a.docx", zipped(b"<w/>", "word/document.xml"), "Word document"),
        ("a.xlsx", zipped(b"<w/>", "xl/workbook.xml"), "Excel file"),
        ("a.epub", zipped(b"application/epub+zip", "mimetype"), "EPUB"),
        ("a.zip", zipped(b"a", "a.txt", b=b"b"), r"zip archive of 2 files \(a.txt, b\)"),
        ("a.zip", zipped(b"a", ".hidden"), "zip archive of 0 files"),
        ("a.txt.gz", gzip.compress(b"words and more words" * 50)[:-9], "cannot be read as a gzip file"),
        ("a.txt.bz2", bz2.compress(b"words")[:-3], "cannot be read as a bz2 file"),
        ("a.txt.xz", lzma.compress(b"words")[:-3], "cannot be read as a xz file"),
        ("a.txt.zst", pyarrow.compress(b"words" * 99, "zstd", asbytes=True)[:-3], "cannot be read as a zstd file"),
        ("a.gz", gzip.compress(gzip.compress(b"words")), "compressed twice"),
        ("a.gz", gzip.compress(b""), "nothing in this gzip file"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,  # gzip's bytes hold the time
)  # fmt: skip
def test_what_cannot_be_read_is_one_line_that_says_why(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    for source in (str(tmp_path / name), f"hub:{tmp_path / name}"):
        with pytest.raises(DataError, match=said) as caught:
            load_corpus(source)
        assert "\n" not in str(caught.value)
    if "text" not in said and "surrogate" not in said:
        with pytest.raises(DataError):
            load_labelled(str(tmp_path / name))


def test_archives_of_folders_and_arrays_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.txt", "a.txt")
    np.save(tmp_path / "a.npy", np.arange(3))
    for name, said in (("a.tar.gz", "tar archive"), ("a.npy", "array of numbers")):
        with pytest.raises(DataError, match=said):
            load_corpus(str(tmp_path / name))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, zipped])
def test_a_small_file_that_unpacks_to_much_is_stopped(
    tmp_path: Path, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "MOST_UNPACKED_BYTES", 2**20)  # 64 times smaller, for the time that the test takes
    (tmp_path / "bomb").write_bytes(pack(b"word " * 400_000))
    with pytest.raises(DataError, match=r"unpacks to more than 1,\d{3},\d{3} bytes"):
        load_corpus(str(tmp_path / "bomb"))


@pytest.mark.parametrize(
    ("name", "data", "marks"), [("a.html", "<html><p>Hi", "HTML"), ("a.rtf", "{\\rtf1 Hi}", "RTF")]
)
def test_marked_up_text_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, data: str, marks: str
) -> None:
    (tmp_path / name).write_text(data)
    with caplog.at_level("WARNING", "ftkit"):
        assert load_corpus(str(tmp_path / name)).text == data
    assert f"with the marks of {marks}" in caplog.text


def test_compressed_texts_are_texts_alone_and_in_folders(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"One, two.\r\n"))
    (tmp_path / "b.md.xz").write_bytes(lzma.compress(b"Three."))
    assert [d.text for d in load_corpus(str(tmp_path), warn_short=False).documents] == ["One, two.\n", "Three."]
    assert load_corpus(str(tmp_path / "a.txt.gz"), warn_short=False).text == "One, two.\n"


def test_the_cleaner_leaves_rows_and_lines_alone(tmp_path: Path) -> None:
    end = "*** END OF THE PROJECT GUTENBERG EBOOK SOMETHING ***"
    lines = [f"text {number}" for number in range(20)] + [end] + [f"text {number}" for number in range(20, 60)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"{line},{n % 2}\n" for n, line in enumerate(lines)))
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    assert load_labelled(str(tmp_path / "rows.csv")).texts == tuple(lines)
    assert [d.text for d in load_corpus(str(tmp_path / "rows.csv"), warn_short=False).documents] == lines
    both = load_labelled({"a": str(tmp_path / "lines.txt"), "b": f"hub:{tmp_path / 'rows.csv'}"})
    assert both.counts == {"a": 61, "b": 61}


# Damage


@pytest.mark.parametrize(
    "name",
    ["rows.csv", "rows.tsv", "rows.jsonl", "list.json", "rows.parquet", "rows.arrow", "rows.zip", "rows.jsonl.gz"],
)
def test_damaged_tables_are_rows_or_a_data_error(tmp_path: Path, name: str) -> None:
    draw, raw, path = random.Random(name), FORMS[name](), tmp_path / name
    refused = 0
    for _ in range(60):
        at = draw.randrange(len(raw))
        junk = draw.choice([b"", b'"', b"\0", b"\xff", b"\n", b"\t,;", b'{"', os.urandom(8)])
        path.write_bytes(raw[:at] + junk + raw[at + draw.randrange(9) :])
        for load in (load_corpus, load_labelled):
            try:
                load(str(path))
            except DataError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 5


def test_a_damaged_saved_data_set_is_rows_or_a_data_error(tmp_path: Path) -> None:
    draw, refused = random.Random(5), 0
    datasets.Dataset.from_list(ROWS * 5).save_to_disk(tmp_path / "saved")
    files = {path: path.read_bytes() for path in sorted((tmp_path / "saved").iterdir())}
    for _ in range(40):
        path = draw.choice(list(files))
        at = draw.randrange(len(files[path]))
        path.write_bytes(files[path][:at] + draw.randbytes(8) + files[path][at + 8 :])
        try:
            load_labelled(str(tmp_path / "saved"))
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
        path.write_bytes(files[path])
    assert refused > 5
