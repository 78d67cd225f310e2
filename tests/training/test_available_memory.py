"""How much memory a plan may count on."""

import resource
from pathlib import Path

import psutil
import pytest
import torch

from ftkit.memory import _control_group_room, available_memory

CPU = torch.device("cpu")


def test_a_limit_on_the_process_is_seen():
    before = resource.getrlimit(resource.RLIMIT_AS)
    room = 300 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + room, before[1]))
    try:
        found = available_memory(CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert found == pytest.approx(room, abs=32 * 2**20)
    assert available_memory(CPU) <= psutil.virtual_memory().total


def test_the_tightest_control_group_counts(tmp_path: Path):
    own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
    folder = tmp_path / own
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text("1000\n")
    (folder / "memory.current").write_text("400\n")
    assert min(_control_group_room(tmp_path)) == 600
    (folder / "memory.max").write_text("max\n")
    assert list(_control_group_room(tmp_path)) == []
