import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.data import Corpus, Document, cache_dir, load_corpus
from ftkit.errors import DataError, NetworkError

PROSE = "It was a dark night.\n\nThe wind rose, and Zo\u00eb closed the door.\n"


def written(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


# Files


def test_a_file_is_one_document(tmp_path: Path) -> None:
    path = written(tmp_path / "night.story", PROSE)
    corpus = load_corpus(str(path))
    assert corpus.documents == (Document("night.story", PROSE),)
    assert (corpus.name, corpus.source, corpus.removed) == ("night", str(path), ())
    assert (corpus.num_words, corpus.num_bytes) == (13, len(PROSE.encode()))
    assert load_corpus(str(path), name="mine").name == "mine"


def test_a_folder_is_its_text_files_sorted(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a/b.TXT", "c.csv", ".hidden.txt", ".git/d.txt", "a/noending"):
        written(tmp_path / "shelf" / name, f"Text of {name}.\r\n")
    corpus = load_corpus(str(tmp_path / "shelf"))
    assert [document.name for document in corpus.documents] == ["a/b.TXT", "a/z.md", "b.txt"]
    assert corpus.text == "Text of a/b.TXT.\n\n\nText of a/z.md.\n\n\nText of b.txt.\n"
    assert corpus.name == "shelf"
    assert [removed.kind for removed in corpus.removed] == ["line ends"] * 3


def test_digest_sees_text_and_borders_but_not_names() -> None:
    def digest(*documents: tuple[str, str]) -> str:
        return Corpus("c", "c", tuple(Document(*document) for document in documents)).sha256

    assert digest(("1", "a"), ("2", "b")) == digest(("x", "a"), ("y", "b"))
    assert len({digest(("1", "ab")), digest(("1", "a"), ("2", "b")), digest(("1", "b"), ("2", "a"))}) == 3


def test_cleaning_can_be_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo")
    assert load_corpus(str(path)).text == "one\ntwo"
    raw = load_corpus(str(path), clean=False)
    assert (raw.text, raw.removed) == ("\ufeffone\r\ntwo", ())


@pytest.mark.parametrize(
    ("data", "encoding", "text"),
    [
        (b"a\rb\rc", "utf-8", "a\nb\nc"),
        ("a\u2028b\u2029c\x85d\fe".encode(), "utf-8", "a\u2028b\u2029c\x85d\fe"),
        ("caf\u00e9".encode("latin-1"), "latin-1", "caf\u00e9"),
        ("\u201cno\u201d".encode("cp1252"), "cp1252", "\u201cno\u201d"),
        ("\u4e2d\u6587 text".encode("utf-16"), "utf-16", "\u4e2d\u6587 text"),
        ("text".encode("utf-16-be"), "UTF-16-BE", "text"),
        (b"\xef\xbb\xbftext", "utf-8-sig", "text"),
        (b"x" * 5_000_000, "utf-8", "x" * 5_000_000),
    ],
    ids=["lone CR", "separators", "latin-1", "cp1252", "utf-16", "utf-16-be", "BOM", "one line of 5 MB"],
)
def test_unusual_text_has_a_defined_result(tmp_path: Path, data: bytes, encoding: str, text: str) -> None:
    assert load_corpus(str(written(tmp_path / "a.txt", data)), encoding=encoding).text == text


@pytest.mark.parametrize(
    ("data", "encoding", "parts"),
    [
        (b"one\ntwo caf\xe9 x", "utf-8", ["0xE9", "byte 11", "line 2", "--encoding", "cp1252"]),
        (b"abc\xc3", "utf-8", ["0xC3", "byte 3", "unexpected end"]),
        (b"\xed\xa0\x80", "utf-8", ["0xED", "byte 0"]),
        ("night".encode("utf-16"), "utf-8", ["UTF-16", "--encoding utf-16"]),
        (b"odd", "utf-16-le", ["utf-16-le", "byte 2"]),
        (b"", "utf-8", ["empty file", "0 bytes"]),
        (b" \n\t\r\n ", "utf-8", ["white space"]),
        (b"ab\ncd\0ef", "utf-8", ["NUL", "byte 5", "line 2", "binary"]),
        (b"%PDF-1.7 x", "utf-8", ["PDF"]),
        (b"PK\x03\x04\x14\0", "utf-8", ["zip"]),
        (b"\x1f\x8b\x08", "utf-8", ["gzip"]),
        (b"a+2AA-b", "utf-7", ["surrogate", "character 1"]),
        ("a\0b".encode("utf-16"), "utf-16", ["NUL character"]),
        (PROSE.encode(), "utf-99", ["'utf-99'", "did you mean"]),
        (PROSE.encode(), "rot13", ["'rot13'", "utf-8"]),
        (PROSE.encode(), "a\0b", ["no text encoding"]),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(
    tmp_path: Path, data: bytes, encoding: str, parts: list[str]
) -> None:
    path = written(tmp_path / "strange.txt", data)
    with pytest.raises(DataError) as caught:
        load_corpus(str(path), encoding=encoding)
    for part in parts:
        assert part in str(caught.value)
    if "encoding of Python" not in str(caught.value):
        assert "strange.txt" in str(caught.value)


CODECS = [
    "utf-8",
    "utf-8",
    "utf-8-sig",
    "latin-1",
    "cp1252",
    "utf-16",
    "utf-32",
    "utf-7",
    "shift_jis",
    "idna",
    "hex",
    "",
]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    st.binary(max_size=200) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(CODECS),
)
def test_any_bytes_are_a_corpus_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, codec: str
) -> None:
    path = written(tmp_path_factory.getbasetemp() / "fuzz.txt", data)
    try:
        corpus = load_corpus(str(path), encoding=codec)
    except DataError:
        return
    assert corpus.text.strip()
    assert "\r" not in corpus.text
    assert corpus.num_bytes == len(corpus.text.encode())


def test_missing_paths_name_what_is_near(tmp_path: Path) -> None:
    written(tmp_path / "moby-dick.txt", PROSE)
    written(tmp_path / "alice.txt", PROSE)
    with pytest.raises(DataError, match=r"no such file or folder; did you mean 'moby-dick\.txt'\?"):
        load_corpus(str(tmp_path / "mobydick.txt"))
    with pytest.raises(DataError, match=r"there is: alice\.txt, moby-dick\.txt"):
        load_corpus(str(tmp_path / "zzz"))
    with pytest.raises(DataError, match="the nearest folder that exists is"):
        load_corpus(str(tmp_path / "no" / "such" / "folder.txt"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is empty"):
        load_corpus(str(tmp_path / "empty" / "x.txt"))


@pytest.mark.parametrize("source", ["", "  ", "a\0b.txt", "x" * 5000, "./\ud800.txt"])
def test_impossible_paths_are_refused(source: str) -> None:
    with pytest.raises(DataError):
        load_corpus(source)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        load_corpus(str(tmp_path / "pipe"))
    with pytest.raises(DataError, match=r"found: 1 special file \(pipe\)"):
        load_corpus(str(tmp_path))


def test_a_folder_without_text_says_what_is_read_and_what_is_there(tmp_path: Path) -> None:
    written(tmp_path / "data.xyz", "a,b")
    written(tmp_path / "deep" / "more.xyz", "a,b")
    written(tmp_path / "README", "x")
    with pytest.raises(DataError, match=r"\.txt and \.md.*2 with ending \.xyz, 1 with ending none"):
        load_corpus(str(tmp_path))


@pytest.mark.parametrize(("name", "meant"), [("a.py", "code:{}"), ("n.ipynb", "notebooks:{}")])
def test_what_is_no_plain_text_names_the_source_that_reads_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, meant: str
) -> None:
    path = tmp_path / "mine" / name
    path.parent.mkdir()
    path.write_text("x = 1\n")
    with pytest.raises(DataError, match="Perhaps") as caught:
        load_corpus(str(path.parent))
    assert meant.format(path.parent) in str(caught.value)
    with caplog.at_level(logging.WARNING, "ftkit"):
        load_corpus(str(path))
    assert f"perhaps {meant.format(path)} is meant" in caplog.text


def test_unreadable_files_and_folders_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "locked" / "a.txt", PROSE).parent
    file = written(tmp_path / "b.txt", PROSE)
    folder.chmod(0)
    file.chmod(0)
    try:
        if os.access(file, os.R_OK):
            pytest.skip("this user may read everything (root): permissions cannot be tested")
        with pytest.raises(DataError, match="cannot be read"):
            load_corpus(str(folder))
        with pytest.raises(DataError, match="cannot be read"):
            load_corpus(str(file))
    finally:
        folder.chmod(0o700)


def test_links_are_followed_once_and_every_hole_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = tmp_path / "shelf"
    for number in (1, 2):
        written(shelf / f"t{number}.txt", f"text {number}")
        written(tmp_path / "outside" / f"o{number}.txt", f"outside {number}")
    (shelf / "more").symlink_to(tmp_path / "outside")
    (shelf / "again").symlink_to(tmp_path / "outside")
    (shelf / "loop").symlink_to(shelf)
    (tmp_path / "outside" / "back").symlink_to(shelf)
    (shelf / "self.txt").symlink_to(shelf / "self.txt")
    (shelf / "gone.txt").symlink_to("/nowhere/x.txt")
    (shelf / "a_copy.txt").symlink_to(shelf / "t1.txt")
    written(shelf / "empty.txt", "")
    written(shelf / ".hidden", "x")
    written(shelf / "table.csv", "text\nx\n")
    with caplog.at_level(logging.WARNING, "ftkit"):
        corpus = load_corpus(str(shelf), warn_short=False)
    assert [document.name for document in corpus.documents] == ["again/o1.txt", "again/o2.txt", "t1.txt", "t2.txt"]
    assert len(caplog.messages) == 1
    for part in (
        "4 files read; left out: ", "2 links to nothing (gone.txt, self.txt)", "4 links to what is read already (",
        "1 empty file (empty.txt)", "1 hidden file or folder (.hidden)", "1 with ending .csv",
    ):  # fmt: skip
        assert part in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "ftkit"):
        load_corpus(str(written(tmp_path / "plain" / "a.txt", PROSE).parent), warn_short=False)
    assert not caplog.messages


def test_blank_documents_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(tmp_path / "shelf" / "a.txt", PROSE)
    written(tmp_path / "shelf" / "b.txt", " \n")
    with caplog.at_level(logging.WARNING, "ftkit"):
        corpus = load_corpus(str(tmp_path / "shelf"))
    assert [document.name for document in corpus.documents] == ["a.txt"]
    assert "1 document without text left out, 1 kept" in caplog.text


def test_short_texts_get_a_warning_and_long_ones_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ftkit"):
        load_corpus(str(written(tmp_path / "long.txt", "word " * 10_000)))
        assert caplog.text == ""
        load_corpus(str(written(tmp_path / "short.txt", "word " * 9_999)))
    assert "9,999 words" in caplog.text


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("gutenburg:11", "did you mean 'gutenberg'?"),
        ("huub:wikitext", "did you mean 'hub'?"),
        ("voice:keeper", "did you mean 'voices'?"),
        ("ftp://example.org/a.txt", "unknown source 'ftp'"),
        ("file:///etc/hostname", "unknown source 'file'"),
    ],
)
def test_unknown_schemes_name_the_nearest(source: str, part: str) -> None:
    with pytest.raises(DataError) as caught:
        load_corpus(source)
    assert part in str(caught.value)


def test_a_file_whose_name_has_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "chapter:1", PROSE)
    assert load_corpus("chapter:1").text == PROSE


# Gutenberg


@pytest.mark.parametrize("name", ["11-alice.txt", "11.txt", "pg11.txt"])
def test_gutenberg_books_come_from_the_books_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    written(tmp_path / "books" / name, PROSE)
    written(tmp_path / "books" / "111-other.txt", "other")
    monkeypatch.setenv("FTKIT_BOOKS", str(tmp_path / "books"))
    corpus = load_corpus("gutenberg:11")
    assert (corpus.name, corpus.text) == ("gutenberg-11", PROSE)


def test_a_book_that_is_nowhere_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftkit.data.sources.gutenberg.ADDRESS", "http://127.0.0.1:9/{book}")
    monkeypatch.setenv("FTKIT_BOOKS", str(tmp_path / "nowhere"))
    with pytest.raises(NetworkError) as caught:
        load_corpus("gutenberg:77", timeout_seconds=2)
    for part in (str(cache_dir() / "gutenberg" / "pg77.txt"), "FTKIT_BOOKS", "no such folder", "77.txt", "http://127"):
        assert part in str(caught.value)


@pytest.mark.parametrize("number", ["", "0", "-1", "alice", "11.5", "1" * 12, "../11"])
def test_only_numbers_are_gutenberg_books(number: str) -> None:
    with pytest.raises(DataError, match="no book number"):
        load_corpus(f"gutenberg:{number}")


# Hub


def test_a_local_folder_is_a_data_set(tmp_path: Path) -> None:
    rows = [{"text": f"Row {number}.", "title": f"t{number}", "size": number} for number in range(3)]
    rows.append({"text": "", "title": "blank", "size": 4})
    written(tmp_path / "set" / "train.jsonl", "\n".join(json.dumps(row) for row in rows))
    written(tmp_path / "set" / "test.jsonl", json.dumps(rows[0]))
    source = f"hub:{tmp_path / 'set'}"
    corpus = load_corpus(source)
    assert [document.text for document in corpus.documents] == ["Row 0.", "Row 1.", "Row 2."]
    assert [document.name for document in corpus.documents] == ["row 0", "row 1", "row 2"]
    assert corpus.name == "set"
    assert len(load_corpus(f"{source}:test").documents) == 1
    assert load_corpus(f"{source}:train[:2]#title").text == "t0\n\nt1"
    with pytest.raises(DataError, match=r"no column 'titel'; did you mean 'title'\? Columns: text, title"):
        load_corpus(f"{source}#titel")
    with pytest.raises(DataError, match=r"'size' holds int"):
        load_corpus(f"{source}#size")
    with pytest.raises(DataError, match="split 'validation'"):
        load_corpus(f"{source}:validation")


def test_parquet_and_text_folders_are_data_sets(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "parquet").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["one", "two"]}), tmp_path / "parquet" / "train.parquet")
    written(tmp_path / "lines" / "train.txt", "first\nsecond\n")
    assert load_corpus(f"hub:{tmp_path / 'parquet'}").text == "one\n\ntwo"
    assert load_corpus(f"hub:{tmp_path / 'lines'}").text == "first\n\nsecond"
    assert capfd.readouterr() == ("", "")


def test_broken_data_sets_are_data_errors(tmp_path: Path) -> None:
    written(tmp_path / "broken" / "train.jsonl", "{not json")
    (tmp_path / "empty").mkdir()
    for folder, said in (("broken", "line 1: no JSON"), ("empty", "no files of split 'train'")):
        with pytest.raises(DataError, match=said):
            load_corpus(f"hub:{tmp_path / folder}")
    for source in ("hub:", "hub:a b c", "hub:/no/such/folder/at all"):
        with pytest.raises(DataError, match="no folder and no data set name"):
            load_corpus(source)


def test_a_hub_name_without_a_network_is_a_network_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub.constants

    def switches() -> tuple[bool, ...]:
        hub, sets = huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
        return hub, sets, datasets.are_progress_bars_disabled()

    before = switches()
    monkeypatch.setattr("ftkit.data.hub_rows.hub_unreachable_reason", lambda: "no such host")
    started = time.monotonic()
    with pytest.raises(NetworkError, match=r"no-such-owner/no-such-set.*no such host.*hub:FOLDER"):
        load_corpus("hub:no-such-owner/no-such-set")
    assert time.monotonic() - started < 5
    assert switches() == before


def test_importing_the_package_is_light() -> None:
    program = (
        "import sys, ftkit.data; print(sorted({'torch','transformers','datasets','tokenizers'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_public_names_are_listed_sorted_and_exist() -> None:
    import ftkit.data

    names = ftkit.data.__all__
    assert len(names) > 15
    assert all(hasattr(ftkit.data, name) for name in names)
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


def test_a_text_in_the_place_of_a_path_is_not_repeated_in_the_message() -> None:
    with pytest.raises(DataError, match="this is a text of 90,000 characters, and a path or a source") as refused:
        load_corpus("nine chars\n" * 8181 + "123456789")
    assert len(str(refused.value)) < 300


def test_a_large_text_is_read_in_little_more_than_twice_its_size(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_text("".join(f"{number} words of a line that stands only once\n" for number in range(430_000)))
    program = (
        "import resource, sys\n"
        "from ftkit.data import load_corpus\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); corpus = load_corpus(sys.argv[1]); corpus.num_words; print(peak() - before)"
    )
    found = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    size = path.stat().st_size
    assert size > 18e6
    # Bytes and text; a list of all words took fourteen times the size. What is left is the interpreter's own.
    assert 1024 * int(found.stdout) < 3.5 * size
