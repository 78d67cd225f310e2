"""Stand-ins are made once for all workers."""

import sys
from pathlib import Path

import pytest
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

import stand_ins


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder with everything; it is copied from, never written to."""
    shared = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    folder = shared / "stand-ins"
    with FileLock(shared / "stand-ins.lock"):
        if not (folder / "complete").exists():
            stand_ins.make(folder)
            (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str):  # type: ignore[no-untyped-def]
    """One cache for all workers, since it holds bases that take their time."""
    shared = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTKIT_CACHE", str(shared / "shared-cache"))
        yield shared / "shared-cache"
