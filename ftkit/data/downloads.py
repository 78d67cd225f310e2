"""Fetch one file from the web: http and https only, with a time limit and a size limit, whole or not at all."""

import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.errors import DataError, NetworkError
from ftkit.runs.files import atomic_file

__all__ = ["MAX_DOWNLOAD_BYTES", "Download", "cache_dir", "hub_unreachable_reason"]

MAX_DOWNLOAD_BYTES = 256 * 2**20  # the largest books have 10 MB; this stops a wrong address before the disk is full
READ_BYTES = 2**16  # the size of a read: small enough that progress and the limit are checked often


def cache_dir() -> Path:
    """The folder for downloads and token stores: ``FTKIT_CACHE`` if set, else ``~/.cache/ftkit``. It may not exist."""
    return Path(os.environ.get("FTKIT_CACHE") or "~/.cache/ftkit").expanduser()


@dataclass(frozen=True)
class Download:
    """The limits of downloads.

    Args:
        timeout_seconds: How long a server may be silent; a whole download may take ten times as long.
        max_bytes: Largest file.
    """

    timeout_seconds: float
    max_bytes: int = MAX_DOWNLOAD_BYTES

    def to(self, address: str, target: Path) -> None:
        """Fetch a plain text file.

        Args:
            address: An ``http:`` or ``https:`` address.
            target: The file to write; its folder is made. It appears whole or not at all.

        Raises:
            DataError: The address cannot be used, is a web page, is too large, or cannot be stored.
            NetworkError: No answer, an error as answer, or a connection that broke off.
        """
        _check_address(address)
        chunks = self._read(address)
        first = next(chunks, b"")
        if first[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
            raise DataError(f"{address} is a web page, not plain text. Give the address of a .txt file.")
        _write_whole(target, address, first, chunks)

    def _read(self, address: str) -> Iterator[bytes]:
        request = urllib.request.Request(address, headers={"User-Agent": "ftkit", "Accept-Encoding": "identity"})
        deadline = time.monotonic() + 10 * self.timeout_seconds
        got = 0
        try:
            with _web_opener().open(request, timeout=self.timeout_seconds) as response:
                announced = int(response.headers.get("Content-Length") or -1)
                self._check_size(address, announced)
                while chunk := response.read1(READ_BYTES):
                    got += len(chunk)
                    self._check_size(address, got)
                    if time.monotonic() > deadline:
                        raise TimeoutError
                    yield chunk
        except urllib.error.HTTPError as error:
            error.close()
            raise NetworkError(
                f"{address} answered {error.code} {error.reason}. Check the address, or download the file and give "
                f"its path."
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, TimeoutError):
                reason = f"no complete answer in time (timeout {self.timeout_seconds:g} s)"
            raise NetworkError(
                f"{address} could not be downloaded: {reason}. Check the connection, or download the file elsewhere "
                f"and give its path."
            ) from None
        if got < announced:  # http.client reports a short body only when it is read in one piece
            raise NetworkError(
                f"{address} broke off after {got:,} of {announced:,} bytes. Try again, or download the file elsewhere "
                f"and give its path."
            )

    def _check_size(self, address: str, size: int) -> None:
        if size > self.max_bytes:
            raise DataError(
                f"{address} has more than {self.max_bytes:,} bytes, the largest download allowed. Download it by other "
                f"means and give its path."
            )


def _check_address(address: str) -> None:
    try:
        parts = urllib.parse.urlsplit(address)
        usable = bool(parts.hostname) and address.isascii() and not re.search(r"[\x00-\x20\x7f]", address)
        has_password = parts.username is not None
    except ValueError:
        usable, has_password = False, False
    if has_password:  # the message must not repeat it
        raise DataError("A web address with a user name or password is not used: download the file, give its path.")
    if not usable:
        raise DataError(f"{address!r} is no web address. Give https://host/path, other characters written as %XX.")


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to web addresses only: never to a file, and never from https to plain http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        allowed = ("https",) if req.type == "https" else ("http", "https")
        scheme = urllib.parse.urlsplit(newurl).scheme.lower()
        if scheme not in allowed:
            raise urllib.error.URLError(f"it redirects to {scheme}:, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _web_opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()  # build_opener would add handlers for file: and ftp:
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
        _WebRedirects,
    ):
        opener.add_handler(handler())
    return opener


def _write_whole(target: Path, address: str, first: bytes, rest: Iterator[bytes]) -> None:
    try:
        with atomic_file(target) as partial, partial.open("wb") as file:
            file.write(first)
            for chunk in rest:
                file.write(chunk)
    except OSError as error:
        raise DataError(
            f"{address} could not be stored in {target.parent} ({error.strerror}). Make room there, or set FTKIT_CACHE "
            f"to a folder that can be written."
        ) from None


def hub_unreachable_reason() -> str:
    """Why the Hugging Face Hub cannot be asked, found at once; empty if nothing speaks against it.

    The Hub's client tries six times over twenty seconds for each file when there is no network at all.

    Returns:
        A short reason, or an empty string.
    """
    import huggingface_hub.constants

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if urllib.request.getproxies():  # then the proxy knows the host, this machine need not
        return ""
    parts = urllib.parse.urlsplit(huggingface_hub.constants.ENDPOINT)
    try:
        socket.getaddrinfo(parts.hostname, parts.port or 443)
    except OSError as error:
        return f"{parts.hostname}: {error.strerror or error}"
    return ""
