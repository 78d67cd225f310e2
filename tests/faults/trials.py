"""Real runs in real processes, on a machine that can be made worse: a slow disk, a limit on files, a dead neighbour.

A trial is the ``ftkit`` command line in a process of its own, forked where everything is imported already, so that runs
can be killed by the dozen.
"""

import gc
import hashlib
import json
import os
import random
import resource
import signal
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psutil
from processes import CONTEXT

JOB = Path(__file__).with_name("job.py")
SECONDS = 120  # longer than any trial takes, also on a busy machine


class Trial:
    """One run of the ``ftkit`` command.

    Args:
        arguments: After ``ftkit``.
        log: File that takes what it prints.
        slow_sync: Seconds that each ``fsync`` takes longer: a slow disk, whose writes can be hit.
        largest_file: Bytes that no file may exceed; ``None`` sets no limit.
        room: Bytes by which its address space may grow; ``None`` sets no limit.
        environment: Variables to set.
        folder: Where it starts; ``None`` means here.
    """

    def __init__(
        self,
        *arguments: str,
        log: Path,
        slow_sync: float = 0.0,
        largest_file: int | None = None,
        room: int | None = None,
        environment: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.log = log
        self.process: ForkServerProcess = CONTEXT.Process(
            target=_run,
            args=(
                arguments,
                log,
                slow_sync,
                largest_file,
                room,
                {**os.environ, **(environment or {})},
                folder or Path(),
            ),
        )
        self.process.start()

    def send(self, number: int) -> None:
        """Send a signal, if it still lives."""
        assert self.process.pid is not None
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def wait(self, seconds: float = SECONDS) -> int:
        """Its exit code; minus the signal's number where one has ended it."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.send(signal.SIGKILL)
            raise AssertionError(f"still at work after {seconds} s: {self.said}")
        return self.process.exitcode

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text() if self.log.exists() else ""


def _run(
    arguments: tuple[str, ...],
    log: Path,
    slow_sync: float,
    largest_file: int | None,
    room: int | None,
    environment: dict[str, str],
    folder: Path,
) -> None:
    """In the child: become the ``ftkit`` command."""
    gc.freeze()  # what the server has imported is not gone through again and again
    os.environ.clear()
    os.environ.update({"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "COLUMNS": "200", **environment})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(out, stream)
    sys.stdin = open(os.devnull)  # noqa: SIM115 - for the life of the process
    os.chdir(folder)
    if slow_sync:
        fsync = os.fsync

        def slow(descriptor: int) -> None:
            time.sleep(slow_sync)
            fsync(descriptor)

        os.fsync = slow
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.argv = ["ftkit", *arguments]
    import torch

    from ftkit.cli import main

    torch.set_num_threads(1)
    if room is not None:
        starve(room)
    main()


def starve(room: int) -> None:
    """Let this process's address space grow by so many bytes and no more."""
    limit = psutil.Process().memory_info().vms + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run(*arguments: str, log: Path, **options: Any) -> tuple[int, str]:
    """A trial to its end: exit code and what it printed. A traceback is never acceptable."""
    log.unlink(missing_ok=True)
    trial = Trial(*arguments, log=log, **options)
    code = trial.wait()
    assert "Traceback" not in trial.said, trial.said
    return code, trial.said


def job(folder: Path, *flags: str) -> list[str]:
    """Arguments that start the small job in a folder."""
    return ["run", str(JOB), "--output_dir", str(folder), *flags]


def weights(folder: Path, model: str = "model") -> str:
    """SHA-256 of a run's saved weights."""
    return hashlib.sha256((folder / "models" / model / "model.safetensors").read_bytes()).hexdigest()


def losses(folder: Path) -> list[tuple[Any, ...]]:
    """Everything that a run has logged, but for times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().split("\n") if line]
    return [tuple(value for key, value in line.items() if key != "seconds") for line in lines]


def manifest(folder: Path) -> dict[str, Any]:
    """A run's manifest."""
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def wait_until(condition: Any, seconds: float = SECONDS) -> None:
    """Look again and again, every millisecond."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.001)


def leftovers(folder: Path) -> list[Path]:
    """Temporary files and folders of writers, one who is writing included."""
    while True:
        try:
            return [path for path in folder.rglob(".*") if path.name.endswith((".tmp", ".old"))]
        except FileNotFoundError:  # a folder got its name while it was read
            continue


def flip(file: Path, place: int) -> None:
    """Turn one bit of a file."""
    raw = bytearray(file.read_bytes())
    raw[place] ^= 1
    file.write_bytes(raw)


def mutated(raw: bytes, draw: random.Random) -> bytes:
    """Bytes with one to four random changes: flipped, cut, repeated, replaced, removed, put in."""
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(raw) + 1)
        end = min(len(raw), at + draw.randint(1, 1 + len(raw) // 4))
        kind = draw.randrange(6)
        if kind == 0 and at < len(raw):
            raw = raw[:at] + bytes([raw[at] ^ (1 << draw.randrange(8))]) + raw[at + 1 :]
        elif kind == 1:
            raw = raw[:at]
        elif kind == 2:
            raw = raw[:end] + raw[at:end] + raw[end:]
        elif kind == 3:
            raw = raw[:at] + draw.randbytes(end - at) + raw[end:]
        elif kind == 4:
            raw = raw[:at] + raw[end:]
        else:
            raw = raw[:at] + draw.choice([b"\0", b"\xff\xfe", b"{}", b"[[", b"-1", b"1e999", b'"', b"NaN"]) + raw[at:]
    return raw
