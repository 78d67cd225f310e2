"""An error of one process, before any barrier, ends all of them with its message and exit code."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

JOB = '''"""What for? (a test)"""
from ftkit.config import TrainingSettings, launch


def main(settings: TrainingSettings) -> None:
    from ftkit.errors import DataError
    from ftkit.runs import open_run
    from ftkit.runs.processes import wait_for_everyone

    with open_run(settings, __file__) as run:
        if run.is_main:
            raise ERROR
        print("waiting", flush=True)
        wait_for_everyone()


if __name__ == "__main__":
    launch(main)
'''


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ('DataError("a text is not what it was")', 4),
        pytest.param('RuntimeError("a bug")', 1, marks=pytest.mark.nightly),
    ],
)
def test_processes_that_wait_end_with_the_one_that_failed(tmp_path: Path, error: str, code: int):
    (tmp_path / "job.py").write_text(JOB.replace("ERROR", error))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "job.py", "--tokenizer", "byte", "--output_dir", "run"]
    jobs = [
        subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        first = jobs[0].communicate(timeout=150)[0]
        ended = time.monotonic()
        second = jobs[1].communicate(timeout=30)[0]
        assert time.monotonic() - ended < 20
    finally:
        for job in jobs:
            job.kill()
            job.wait()
    assert [job.returncode for job in jobs] == [code, code], second
    said = error.split('"')[1]
    assert said in first
    assert f"process 0: {said}" in second
