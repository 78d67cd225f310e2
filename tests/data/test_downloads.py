import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from ftkit.data import cache_dir, load_corpus
from ftkit.data.downloads import Download
from ftkit.errors import DataError, NetworkError

PROSE = b"It was a dark night.\nThe wind rose.\n"
Answer = Callable[[BaseHTTPRequestHandler], None]
Serve = Callable[[dict[str, Answer]], str]


def sending(body: bytes, *, length: int | None = None, status: int = 200, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        if length != -1:
            request.send_header("Content-Length", str(len(body) if length is None else length))
        request.end_headers()
        request.wfile.write(body)
        request.close_connection = True

    return answer


def nothing_stored() -> bool:
    return not [path for path in cache_dir().rglob("*") if path.is_file()]


def test_an_address_is_fetched_once_and_read_like_a_file(serve: Serve) -> None:
    asked = []

    def book(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        sending(b"\xef\xbb\xbf" + PROSE)(request)

    address = serve({"/books/My%20Night.txt": book})
    for _ in range(2):
        corpus = load_corpus(f"{address}/books/My%20Night.txt")
        assert corpus.text.encode() == PROSE
        assert corpus.name == "My_Night"
    assert len(asked) == 1


def test_a_body_without_a_length_is_read_to_its_end(serve: Serve, tmp_path: Path) -> None:
    Download(2).to(serve({"/a.txt": sending(PROSE, length=-1)}) + "/a.txt", tmp_path / "deep" / "a.txt")
    assert (tmp_path / "deep" / "a.txt").read_bytes() == PROSE
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.txt"]


def test_gutenberg_books_come_from_the_network_once(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def book(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        sending(PROSE)(request)

    address = serve({"/cache/epub/77/pg77.txt": book})
    monkeypatch.setattr("ftkit.data.sources.gutenberg.ADDRESS", address + "/cache/epub/{book}/pg{book}.txt")
    for _ in range(2):
        assert load_corpus("gutenberg:77").text.encode() == PROSE
    assert asked == ["/cache/epub/77/pg77.txt"]
    assert (cache_dir() / "gutenberg" / "pg77.txt").read_bytes() == PROSE


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_an_error_answer_is_named(serve: Serve, status: int) -> None:
    address = serve({"/a.txt": sending(b"sorry", status=status)})
    with pytest.raises(NetworkError, match=f"answered {status}"):
        load_corpus(f"{address}/a.txt")
    assert nothing_stored()


def test_a_connection_that_is_cut_leaves_nothing(serve: Serve) -> None:
    address = serve({"/a.txt": sending(PROSE, length=1000)})
    with pytest.raises(NetworkError, match=f"broke off after {len(PROSE)} of 1,000 bytes"):
        load_corpus(f"{address}/a.txt")
    assert nothing_stored()


def test_a_cut_in_chunked_encoding_leaves_nothing(serve: Serve) -> None:
    address = serve({"/a.txt": sending(b"ff\r\nonly this", length=-1, **{"Transfer-Encoding": "chunked"})})
    with pytest.raises(NetworkError):
        load_corpus(f"{address}/a.txt", timeout_seconds=2)
    assert nothing_stored()


def test_a_silent_server_is_left_after_the_timeout(serve: Serve) -> None:
    done = threading.Event()
    address = serve({"/a.txt": lambda request: done.wait(20) and None})
    started = time.monotonic()
    with pytest.raises(NetworkError, match=r"timeout 0\.3 s"):
        load_corpus(f"{address}/a.txt", timeout_seconds=0.3)
    assert time.monotonic() - started < 5
    done.set()
    assert nothing_stored()


def test_a_server_that_drips_is_left_too(serve: Serve) -> None:
    stop = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        while not stop.wait(0.05):
            try:
                request.wfile.write(b"x")
            except OSError:
                return

    address = serve({"/a.txt": drip})
    started = time.monotonic()
    with pytest.raises(NetworkError, match="in time"):
        load_corpus(f"{address}/a.txt", timeout_seconds=0.1)
    stop.set()
    assert time.monotonic() - started < 5
    assert nothing_stored()


def test_nobody_there_is_a_network_error() -> None:
    with pytest.raises(NetworkError, match="Connection refused"):
        load_corpus("http://127.0.0.1:9/a.txt", timeout_seconds=2)


@pytest.mark.parametrize("announced", [True, False])
def test_a_download_over_the_limit_is_refused(serve: Serve, announced: bool) -> None:
    address = serve({"/a.txt": sending(b"word " * 100_000, length=None if announced else -1)})
    with pytest.raises(DataError, match="more than 100,000 bytes"):
        load_corpus(f"{address}/a.txt", max_bytes=100_000)
    assert nothing_stored()


def test_redirects_lead_to_web_addresses_only(serve: Serve) -> None:
    address = serve(
        {
            "/good": sending(b"", status=302, Location="/book.txt"),
            "/book.txt": sending(PROSE),
            "/file": sending(b"", status=302, Location="file:///etc/hostname"),
            "/ftp": sending(b"", status=301, Location="ftp://127.0.0.1/a.txt"),
            "/loop": sending(b"", status=302, Location="/loop"),
        }
    )
    assert load_corpus(f"{address}/good").text.encode() == PROSE
    for path, reason in (
        ("file", "to url 'file:.* is not allowed"),
        ("ftp", "redirects to ftp:"),
        ("loop", "answered 302"),
    ):
        with pytest.raises(NetworkError, match=reason):
            load_corpus(f"{address}/{path}")


def test_a_web_page_is_not_taken_for_text(serve: Serve) -> None:
    address = serve({"/page": sending(b"\n<!DOCTYPE html><html><body>Hello</body></html>")})
    with pytest.raises(DataError, match="web page"):
        load_corpus(f"{address}/page")
    assert nothing_stored()


def test_an_empty_answer_is_an_empty_file(serve: Serve) -> None:
    with pytest.raises(DataError, match="empty file"):
        load_corpus(serve({"/a.txt": sending(b"")}) + "/a.txt")


@pytest.mark.parametrize(
    "address", ["http://", "http:///a.txt", "https://[::1/a", "http://ho st/a", "http://h\u00f6st/a", "https:a"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(DataError, match="no web address"):
        load_corpus(address)


def test_passwords_in_addresses_are_refused_and_not_repeated() -> None:
    with pytest.raises(DataError) as caught:
        load_corpus("https://me:secret@example.org/a.txt")
    assert "secret" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="FTKIT_CACHE"):
        load_corpus(serve({"/a.txt": sending(PROSE)}) + "/a.txt")
