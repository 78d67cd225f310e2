"""Programs in processes of their own, without the seconds that importing torch costs each of them.

A fork server of the standard library imports everything once; each program is a fork of it: a real process with memory,
signals and an exit code of its own. What is about starting itself (launchers, what ``--help`` imports, a folder that
loads without ftkit) starts Python anew.
"""

import gc
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
# Imported once; only names that need no sys.path of ours, which the server of Python 3.11 does not take over.
CONTEXT.set_forkserver_preload(
    [
        "ftkit.cli", "ftkit.config.launch", "ftkit.data", "ftkit.evidence", "ftkit.generation", "ftkit.hub",
        "ftkit.models", "ftkit.report", "ftkit.runs", "ftkit.jobs", "ftkit.training", "ftkit.tuning",
        "accelerate", "datasets", "jinja2", "matplotlib.figure", "matplotlib.backends.backend_agg",
        "matplotlib.backends.backend_svg", "peft", "rich.table", "sklearn.linear_model",
        "sklearn.feature_extraction.text", "torch", "transformers",
    ]
)  # fmt: skip


class Running:
    """A program that was started; the arguments are what stands behind ``python``: ``-m MODULE ...`` or ``FILE ...``.

    Args:
        arguments: Module or file, and its arguments.
        environment: Variables, beside those of this process.
    """

    def __init__(self, *arguments: object, **environment: str) -> None:
        self.arguments = [str(argument) for argument in arguments]
        self._folder = tempfile.TemporaryDirectory()
        self._process = CONTEXT.Process(
            target=_run, args=(self.arguments, {**os.environ, **environment}, os.getcwd(), self._folder.name)
        )
        self._process.start()

    def poll(self) -> int | None:
        """The exit code, ``None`` while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        """Wait for its end; what it wrote is read."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise subprocess.TimeoutExpired(self.arguments, timeout, *self._written())
        with self._folder:
            return subprocess.CompletedProcess(self.arguments, self._process.exitcode, *self._written())

    def _written(self) -> tuple[str, ...]:
        return tuple(Path(self._folder.name, name).read_text(encoding="utf-8") for name in ("1", "2"))


def python(*arguments: object, timeout: float = 200, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as ``subprocess.run([sys.executable, ...])`` would."""
    return Running(*arguments, **environment).wait(timeout)


def python_code(code: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python, such as an example of a page, in the folder where the test stands."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "example.py")
        program.write_text(code, encoding="utf-8")
        return python(program)


def ranks(number: int, *arguments: object) -> Sequence[subprocess.CompletedProcess[str]]:
    """Run a program in several processes that find each other, as a launcher starts them."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    shared = {
        "ACCELERATE_USE_CPU": "true",
        "WORLD_SIZE": str(number),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    running = [Running(*arguments, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(number)]
    return [process.wait() for process in running]


def _run(arguments: list[str], environment: dict[str, str], folder: str, output: str) -> None:
    """What a fork does."""
    gc.freeze()  # no collection walks over what the server has imported, or copies its pages
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for descriptor in (1, 2):
        os.dup2(os.open(Path(output, str(descriptor)), os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = arguments[1:] if arguments[0] == "-m" else arguments
    if arguments[0] == "-m":
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")
