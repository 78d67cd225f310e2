"""What all tests share: no network, a cache of their own, and tiny real models made on the spot."""

import gc
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from other_processor import last_bits_by_load

# The garbage collector waits until all tests are collected, which takes a quarter less time so.
gc.disable()

# Tiny models are faster so than with threads that wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "true"
# A shell starts what it puts in the background with SIGINT ignored, and processes started by tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def processor() -> Iterator[None]:
    """With ``FTKIT_OTHER_PROCESSOR=OUTPUTS``, products with so few outputs round by the copy of their weights."""
    if outputs := os.environ.get("FTKIT_OTHER_PROCESSOR"):
        with last_bits_by_load(int(outputs)):
            yield
    else:
        yield


@pytest.fixture(scope="session")
def stories260k() -> Path:
    """A real pretrained Llama of 260,032 parameters that writes simple stories (karpathy/tinyllamas, MIT)."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "stories260k"
    folder = Path(os.environ.get("FTKIT_STORIES260K") or beside)
    if not folder.is_dir():
        pytest.skip("set FTKIT_STORIES260K to a folder with stories260K of karpathy/tinyllamas in Hugging Face's form")
    return folder


@pytest.fixture(scope="session", autouse=True)
def frozen_imports() -> None:
    """No collection walks over the half million objects that importing the libraries has made."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for the session, so that no test sees what a user has cached."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("FTKIT_CACHE")
    os.environ["FTKIT_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["FTKIT_CACHE"]
    else:
        os.environ["FTKIT_CACHE"] = before


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """A test that runs a command in this process sets up the log for a terminal; the next one finds it as it was."""
    logger = logging.getLogger("ftkit")
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])
