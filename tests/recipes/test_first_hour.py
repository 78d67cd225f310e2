"""README's first command from nothing: an empty home, so cold caches; then the commands that each step names."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

# The demonstration takes minutes, several times as many beside other work.
pytestmark = pytest.mark.timeout(1200)

# What a newcomer's shell has, and nothing that another test has set.
KEPT = ("PATH", "LANG", "PYTHONPATH", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "SYSTEMROOT")


class Home:
    """An empty home of a newcomer, and what they type there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir()
        self.variables = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.variables |= {"HOME": str(folder), "COLUMNS": "100", "ACCELERATE_USE_CPU": "true"}

    def python(self, *arguments: str) -> str:
        """Output of a new Python; it must end well and show no traceback."""
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.work, env=self.variables, capture_output=True, text=True, timeout=600
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said[-4000:]
        assert "Traceback" not in said, said[-4000:]
        return said

    def ftkit(self, *arguments: str) -> str:
        return self.python("-m", "ftkit", *arguments)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def demo(home: Home) -> tuple[Path, str]:
    """The demonstration in that home: its folder and what the terminal showed."""
    said = home.ftkit("run", "demo")
    (run,) = (home.work / "runs").iterdir()
    return run, said


def test_the_demo_works_from_nothing_and_shows_what_it_did(home: Home, demo: tuple[Path, str]) -> None:
    run, said = demo
    assert (home.folder / ".cache" / "ftkit").is_dir(), "it was not cold: another cache was used"
    assert "\ntuned: WORKED" in said
    assert "\n  base writes:\n" in said
    assert "\n  tuned writes:\n" in said
    assert (run / "report.html").stat().st_size > 10_000


def test_the_commands_that_it_names_next_run_as_they_are_printed(home: Home, demo: tuple[Path, str]) -> None:
    _, said = demo
    named = re.findall(r"^  (\w+) +(.+)$", said.rpartition("\nnext:\n")[2], flags=re.M)
    assert [word for word, _ in named][:2] == ["look", "write"]
    tried = []
    for word, line in named:
        command = shlex.split(line)
        if word == "look":
            assert (home.work / command[-1]).is_file()
        elif word == "share":  # tests/hub pushes to a server
            assert command[:2] == ["ftkit", "push"]
            assert (home.work / command[2]).is_dir()
        elif command[0] == "ftkit":
            home.ftkit(*command[1:])
            tried.append(word)
    assert "write" in tried


def test_its_card_s_lines_load_the_model_in_plain_transformers(home: Home, demo: tuple[Path, str]) -> None:
    run, _ = demo
    card = (run / "models" / "tuned" / "README.md").read_text(encoding="utf-8")
    pieces = re.findall(r"```python\n(.+?)```", card, flags=re.S)
    assert pieces
    for piece in pieces:
        program = home.folder / "piece.py"
        program.write_text(piece.replace("FOLDER", str(run / "models" / "tuned")), encoding="utf-8")
        home.python(str(program))


def test_a_second_run_there_says_that_it_is_finished(home: Home, demo: tuple[Path, str]) -> None:
    run, _ = demo
    done = subprocess.run(
        [sys.executable, "-m", "ftkit", "run", "demo", "--max_steps", "30", "--output_dir", str(run)],
        cwd=home.work, env=home.variables, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 2
    assert "holds a finished run" in done.stderr


def test_its_folder_is_judged_like_one_of_another_tool(home: Home, demo: tuple[Path, str]) -> None:
    run, _ = demo
    said = home.ftkit(
        "verdict", "--base", "base:tales", "--tuned", str(run / "models" / "tuned"), "--text", "voices:keeper:100000",
        "--general", "voices:tales", "--window-tokens", "128", "--passage-chars", "220",
    )  # fmt: skip
    assert "\nWORKED" in said
