"""From a command line to a recipe's ``main(settings)``, and from its end to an exit code."""

import errno
import logging
import os
import signal
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from ftkit.config.resolve import read_flags, resolve
from ftkit.config.settings import Settings
from ftkit.errors import CheckpointError, ConfigError, FtkitError, InterruptedRun, PeerError, Terminated
from ftkit.memory import memory_phase

_DISK_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EEXIST, errno.ENOTDIR,
    errno.EISDIR, errno.ENAMETOOLONG,
}  # fmt: skip

__all__ = ["configure_output", "launch", "main_settings", "report_errors"]


def main_settings(main: Callable[..., None]) -> type[Settings]:
    """The settings class of a recipe: the annotation of ``main``'s only parameter."""
    hints = typing.get_type_hints(main)
    settings_class = hints.get("settings")
    if not (isinstance(settings_class, type) and issubclass(settings_class, Settings)):
        raise ConfigError(
            f"{main.__module__}: a recipe needs 'def main(settings: X) -> None', X a subclass of ftkit.config.Settings"
        )
    return settings_class


def configure_output(*, to_stderr: bool = False) -> None:
    """Send ftkit's log to the terminal as plain lines and keep the libraries underneath quiet.

    Process 0 shows what happens; the others show warnings only. The environment variables are read by the Hugging Face
    libraries when they are imported, which is later.

    Args:
        to_stderr: Whether the log goes to standard error, because standard output holds the result alone.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    logger = logging.getLogger("ftkit")
    if not logger.handlers:
        handler = _Terminal(to_stderr)
        handler.setFormatter(_PlainLines())
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)


class _Terminal(logging.Handler):
    """Writes to what is the stream when a line is said, which may be another than when the first one was."""

    def __init__(self, to_stderr: bool) -> None:
        super().__init__()
        self._to_stderr = to_stderr

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr if self._to_stderr else sys.stdout, flush=True)


class _PlainLines(logging.Formatter):
    """The message alone; warnings say that they are."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


def _say(error: FtkitError) -> None:
    rank = os.environ.get("RANK")
    prefix = f"ftkit (process {rank})" if rank not in (None, "0") else "ftkit"
    sys.stdout.flush()
    print(f"{prefix}: {error}", file=sys.stderr, flush=True)


def report_errors(action: Callable[[], None]) -> int:
    """Run ``action``; print one message instead of a traceback for every error that is the user's to solve.

    Args:
        action: What to do.

    Returns:
        The exit code: 0, the error's own code, 3 where memory ran out, 6 for a disk that is full or cannot be written,
        130 or 143 when interrupted. Anything else is a bug and raises.
    """

    def on_terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated("terminated")

    previous = signal.signal(signal.SIGTERM, on_terminate)
    try:
        with memory_phase():
            action()
    except PeerError as error:
        return error.exit_code
    except FtkitError as error:
        _say(error)
        return error.exit_code
    except Terminated:
        _say(InterruptedRun("terminated"))
        return Terminated.exit_code
    except KeyboardInterrupt:
        _say(InterruptedRun("interrupted"))
        return 130
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        problem = CheckpointError(f"{error.filename or 'the disk'}: {error.strerror}")
        _say(problem)
        return problem.exit_code
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def launch(main: Callable[[Any], None], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a recipe from its command line and leave with its exit code.

    Args:
        main: The recipe's ``main(settings)``; the annotation says which settings it takes.
        argv: Arguments; ``None`` takes them from the process.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    program = Path(sys.modules[main.__module__].__file__ or main.__module__)

    def run() -> None:
        settings_class = main_settings(main)
        flags = read_flags(settings_class, arguments)
        if flags.help:
            from ftkit.config.help import show_help

            show_help(program, settings_class, every=flags.every)
            return
        settings = resolve(settings_class, program.stem, flags).settings
        configure_output()
        main(settings)

    code = report_errors(run)
    if code and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Python's own end would close the connections in order, for which torch (2.13, gloo) waits for the processes
        # that wait for this one. Without it they see at once that it has left.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
