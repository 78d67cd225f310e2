"""One report of a full run for all tests that only look at it, and one browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from report_browser import Browser, chromium
from report_runs import evil_run, write_run

from ftkit.report import write_report


@pytest.fixture(scope="session")
def full_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the page of a judged run of two models."""
    return write_report(write_run(tmp_path_factory.mktemp("full")))


@pytest.fixture(scope="session")
def evil_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the page of a run whose every text tries to become markup."""
    return write_report(evil_run(tmp_path_factory.mktemp("evil")))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium."""
    program = chromium()
    if program is None:
        pytest.skip("no chromium, chromium-browser or google-chrome is installed")
    found = Browser(program, tmp_path_factory.mktemp("profile"))
    yield found
    found.close()
