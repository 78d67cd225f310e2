"""The commands pack and unpack as a shell sees them, and the page that describes all four."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from processes import python_code

from ftkit.cli import app
from ftkit.config.catalogue import find_recipe, load_recipe
from ftkit.config.launch import main_settings

PAGE = (Path(__file__).parents[2] / "docs" / "sharing.md").read_text(encoding="utf-8")


def ftkit(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "ftkit", *arguments], cwd=folder, capture_output=True, text=True, timeout=200
    )


def test_a_run_is_packed_and_unpacked_by_commands(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("recipe: imitate\n" * 1000)
    done = ftkit(tmp_path, "pack", "run", "a.zip")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"a\.zip: 1 files, 16,000 bytes -> \d+ bytes \(ratio 0\.0\d\)\nleft out: checkpoints\n", done.stdout
    )
    done = ftkit(tmp_path, "unpack", "a.zip")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "a" / "config.yaml").read_bytes() == (tmp_path / "run" / "config.yaml").read_bytes()
    done = ftkit(tmp_path, "unpack", "a.zip")
    assert done.returncode == 4
    assert done.stderr.startswith("ftkit: ")
    assert done.stderr.count("\n") == 1


def test_help_needs_neither_torch_nor_the_client_of_the_hub():
    program = (
        "import sys\nsys.argv = ['ftkit', 'push', '--help']\nfrom ftkit.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'matplotlib'} & {*sys.modules}\n"
        "raise SystemExit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "--private" in done.stdout


def test_every_command_on_the_page_is_real():
    commands = typer.main.get_command(app).commands
    lines = re.findall(r"^    ftkit (\w+) (.*)", PAGE, re.MULTILINE)
    assert {name for name, _ in lines} == {"pack", "unpack", "push", "pull", "run"}
    assert len(lines) >= 10
    for name, rest in lines:
        given = set(re.findall(r"--([\w-]+)", rest.partition("#")[0]))
        if name == "run":
            known = {*main_settings(load_recipe(find_recipe(rest.split()[0])).main).model_fields}
        else:
            known = {option.removeprefix("--") for parameter in commands[name].params for option in parameter.opts}
        assert given <= known, rest


def test_the_python_on_the_page_runs(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    done = python_code(code)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


@pytest.mark.parametrize("limit", ["20,000 files", "200 GB", "200 times"])
def test_limits_on_the_page_are_those_of_the_code(limit):
    from ftkit.hub.archive import Limits

    limits = Limits()
    assert limit in PAGE
    assert {f"{limits.max_files:,} files", f"{limits.max_bytes // 10**9} GB", f"{limits.max_ratio:g} times"} >= {limit}
