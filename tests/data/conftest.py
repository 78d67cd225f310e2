"""Where the optional real books are, and a cache of its own for every test."""

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[3] / "shared" / "data" / "books"
BOOKS = Path(os.environ.get("FTKIT_BOOKS") or BESIDE_THE_CHECKOUT)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FTKIT_BOOKS", raising=False)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def books() -> Path:
    if not BOOKS.is_dir():
        pytest.skip("set FTKIT_BOOKS to a folder with Project Gutenberg's 11-*.txt, 829-*.txt, 2148-*.txt, 2701-*.txt")
    return BOOKS


@pytest.fixture
def gpt2_folder(books: Path) -> Path:
    folder = books.parent / "gpt2_bpe"
    if not folder.is_dir():
        pytest.skip("put GPT-2's vocab.json and merges.txt into a folder gpt2_bpe beside FTKIT_BOOKS")
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, Callable[[BaseHTTPRequestHandler], None]]], str]]:
    """Start a web server on this machine with one function for each path; gives back its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(answers: dict[str, Callable[[BaseHTTPRequestHandler], None]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answers[self.path](self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
