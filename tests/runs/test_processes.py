"""How many processes a job has, what accelerate's configurations start, and how an error of one ends all."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from ftkit.config import TrainingSettings
from ftkit.errors import ConfigError, DeviceError, PeerError
from ftkit.runs import open_run
from ftkit.runs.processes import _warn_that_one_is_alone, broadcast_from_main, check_processes, sync_errors

HERE = Path(__file__).parent
CONFIGURATIONS = HERE.parents[1] / "recipes" / "accelerate"
PROCESSES = {"cpu": 2, "one_gpu": 1, "ddp": 2, "fsdp": 2, "two_nodes": 4}


def accelerate(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_accelerate_reads_every_configuration():
    found = {path.stem: load_config_from_file(str(path)) for path in CONFIGURATIONS.glob("*.yaml")}
    assert {name: config.num_processes for name, config in found.items()} == PROCESSES
    assert found["two_nodes"].num_machines == 2


@pytest.mark.parametrize("name", PROCESSES)
def test_accelerate_launches_a_configuration_as_several_processes_and_not_silently_as_one(name):
    """accelerate starts processes of its own under these flags only; everything else runs one."""
    given = ["--config_file", str(CONFIGURATIONS / f"{name}.yaml"), "recipe.py"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    assert bool(arguments.multi_gpu or arguments.use_fsdp) == (PROCESSES[name] > 1)
    assert not arguments.cpu
    if name == "fsdp":
        assert (arguments.fsdp_version, arguments.fsdp_auto_wrap_policy) == (2, "TRANSFORMER_BASED_WRAP")
        assert not arguments.fsdp_cpu_ram_efficient_loading


def test_two_processes_on_the_cpu_end_with_the_message_of_the_one_that_failed(tmp_path):
    folder = tmp_path / "run"
    configuration = str(CONFIGURATIONS / "cpu.yaml")
    done = accelerate("--config_file", configuration, str(HERE / "fail_in_process.py"), str(folder), "2")
    seconds = time.time() - float((folder / "failed_at").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert done.returncode != 0
    assert (manifest["processes"], manifest["status"], manifest["exit_code"]) == (2, "failed", 4)
    assert "process 0 of 2" in done.stdout
    assert done.stderr.count("the text of process 0 is empty") == 1
    assert "RuntimeError" not in done.stderr
    assert seconds < 20


def test_accelerate_on_the_cpu_starts_one_process_and_the_run_refuses(tmp_path):
    options = ["--cpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    done = accelerate(*options, "--dynamo_backend", "no", str(HERE / "fail_in_process.py"), str(tmp_path / "run"), "2")
    assert "require_processes: asked 2, have 1; start with 'torchrun" in done.stderr
    assert "returned non-zero exit status 3" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_launcher_that_asked_for_more_is_told_about_once(monkeypatch, caplog):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    _warn_that_one_is_alone.cache_clear()
    check_processes()
    assert not caplog.records
    monkeypatch.setenv("MASTER_PORT", "29500")  # as 'accelerate launch --cpu --num_processes 2' leaves it
    check_processes()
    check_processes(1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "has started one: there is no WORLD_SIZE" in caplog.text
    monkeypatch.setenv("WORLD_SIZE", "1")
    _warn_that_one_is_alone.cache_clear()
    check_processes()
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("required", "found"), [(2, "1"), (1, "2"), (4, "2")])
def test_another_number_of_processes_is_refused(monkeypatch, required, found):
    monkeypatch.setenv("WORLD_SIZE", found)
    with pytest.raises(DeviceError, match=f"asked {required}, have {found}"):
        check_processes(required)
    check_processes(int(found))


def test_one_process_needs_nobody():
    assert broadcast_from_main("mine") == "mine"
    with sync_errors():
        pass
    with pytest.raises(KeyError), sync_errors():
        raise KeyError
    with pytest.raises(PeerError), sync_errors():
        raise PeerError(5)


def test_fewer_processes_go_on_with_a_run_if_they_share_as_many_rows(tmp_path):
    def enter(rows: int, accumulated: int = 1, resume: bool = True) -> None:
        batch = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulated}
        with open_run(TrainingSettings(output_dir=str(tmp_path), tokenizer="byte", resume=resume, **batch), __file__):
            raise KeyError

    with pytest.raises(KeyError):
        enter(4, resume=False)
    (tmp_path / "metrics.jsonl").touch()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["processes"] == 1
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"processes": 2}))  # as two processes leave it
    with pytest.raises(ConfigError, match="processes: was 2, is 1"):
        enter(4)
    with pytest.raises(ConfigError, match="per_device_train_batch_size: was 4, is 6"):
        enter(6)
    with pytest.raises(KeyError):
        enter(4, accumulated=2)
    with pytest.raises(ConfigError, match="per_device_train_batch_size: was 4, is 16"):  # the same processes now
        enter(16)
    with pytest.raises(KeyError):
        enter(8)
