"""A signal is a signal wherever it comes, also where somebody turns every error of a library into one of ours."""

import os
import signal
import time
from pathlib import Path

import pytest

from ftkit.config import Settings
from ftkit.config.launch import report_errors
from ftkit.errors import ModelError
from ftkit.runs import open_run, read_run


def wrapped(number: int) -> None:
    """What loading a foreign model does."""
    try:
        os.kill(os.getpid(), number)
        time.sleep(5)
    except Exception as error:
        raise ModelError(f"cannot be loaded: {error}") from None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_inside_a_wrapped_call_is_no_error_of_that_call(number, code, capsys):
    assert report_errors(lambda: wrapped(number)) == code
    assert "cannot be loaded" not in capsys.readouterr().err


def test_a_run_that_is_terminated_while_it_loads_says_so_in_its_manifest(tmp_path):
    def start() -> None:
        with open_run(Settings(output_dir=str(tmp_path / "run")), str(Path(__file__))):
            wrapped(signal.SIGTERM)

    assert report_errors(start) == 143
    manifest = read_run(tmp_path / "run").manifest
    assert (manifest["status"], manifest["exit_code"]) == ("interrupted", 143)
