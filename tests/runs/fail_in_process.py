"""Enters a run folder; process 0 finds something wrong while the others wait for it. Started by test_processes.py."""

import sys
import time
from pathlib import Path

from ftkit.config import Settings
from ftkit.config.launch import configure_output, report_errors
from ftkit.errors import DataError
from ftkit.runs import open_run
from ftkit.runs.processes import wait_for_everyone

folder = Path(sys.argv[1])


def work() -> None:
    with open_run(Settings(output_dir=str(folder), require_processes=int(sys.argv[2])), __file__) as run:
        if run.is_main:
            (folder / "failed_at").write_text(str(time.time()))
            raise DataError("the text of process 0 is empty")
        wait_for_everyone()


configure_output()
sys.exit(report_errors(work))
