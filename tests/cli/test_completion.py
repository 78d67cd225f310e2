"""Shell completion, by the protocol that bash uses: words and a position in the environment, a value a line back.

Names that no command has, and what is said of them.
"""

import os
import shutil
import subprocess
import sys

import pytest

from ftkit.cli.near_misses import meant_line
from ftkit.config import list_entries

START = (
    "import sys\nsys.argv = ['ftkit']\nfrom ftkit.cli import main\n"
    "try: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
)


def complete(words: str, *, shell: str = "complete_bash") -> list[str]:
    """The completions of the last word, from a process of its own that imports no torch."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_FTKIT_COMPLETE": shell}
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, env={**os.environ, **asked})
    assert done.stderr == "False\n"
    return done.stdout.split("\n") if shell == "source_bash" else done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ftkit ru", ["run"]),
        ("ftkit run finet", ["finetune"]),
        ("ftkit run code-c", ["code-completion"]),
        ("ftkit copy demo", ["demo"]),
        ("ftkit run finetune --learning", ["--learning_rate", "--learning_rates"]),
        ("ftkit run finetune --max-s", ["--max-steps"]),
        ("ftkit run finetune --lr 3 --bf", ["--bf16"]),
        ("ftkit run gulliver_ft --optimizer_", ["--optimizer_args"]),
        ("ftkit plan finetune --lr_sch", ["--lr_scheduler_type"]),
        ("ftkit plan finetune --memory", ["--memory-gb"]),
        ("ftkit run finetune --lr_scheduler_type ", ["constant", "linear", "cosine"]),
        ("ftkit run finetune --sampling = gr", ["greedy"]),  # bash cuts at the sign
        ("ftkit run sft --config g", ["gsm8k_smollm2"]),
        ("ftkit run finetune --help", ["--help", "--help-all"]),
        ("ftkit run finetune --corpus bo", []),  # files, which bash completes itself
        ("ftkit run nosuch --m", []),
        ("ftkit run no/such.yaml --m", []),
    ],
)
def test_names_settings_and_choices_are_completed(words, expected):
    assert complete(words) == expected


def test_all_names_and_first_the_settings_that_people_use_first():
    assert complete("ftkit run ") == [entry.name for entry in list_entries()]
    assert complete("ftkit run finetune ")[:2] == ["--corpus", "--model"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_script_for_bash_completes(tmp_path):
    script = "\n".join(complete("", shell="source_bash"))
    (tmp_path / "ftkit").write_text(f"#!{sys.executable}\nimport sys\nsys.argv[0] = 'ftkit'\n{START}\n")
    (tmp_path / "ftkit").chmod(0o755)
    program = f"{script}\nCOMP_WORDS=(ftkit run imit)\nCOMP_CWORD=2\n_ftkit_completion ftkit\necho ${{COMPREPLY[@]}}"
    found = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, env=found)
    assert done.stdout.split() == ["imitate"], done.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("finetune --lr 1", "'finetune' is no command; a job is started with: ftkit run finetune --lr 1"),
        ("train --lr 1", "'train' is no command; a job is started with: ftkit run finetune --lr 1"),
        ("gsm8k-smollm2", "'gsm8k-smollm2' is no command; a job is started with: ftkit run gsm8k_smollm2"),
        ("finetune a.txt", "'finetune' is no command; a job is started with: ftkit run finetune --corpus a.txt"),
        ("sft a.txt", "'sft' is no command; a job is started with: ftkit run sft --examples a.txt"),
        ("eval x", "'eval' is no command; 'ftkit verdict' does that: ftkit verdict --help"),
        ("my.yaml", "'my.yaml' is no command; a configuration or a recipe is started with: ftkit run my.yaml"),
        ("a.txt", "'a.txt' is no command; to train on it: ftkit run finetune --corpus a.txt"),
        ("imitat", "unknown command 'imitat'; did you mean 'run imitate'?"),
        ("chatt", "unknown command 'chatt'; did you mean 'chat'?"),
        ("zzz", "unknown command 'zzz'; 'ftkit --help' shows the commands, 'ftkit run' the jobs"),
    ],
)  # fmt: skip
def test_a_name_that_is_no_command_is_answered_with_the_line_to_type(tmp_path, monkeypatch, line, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("A text.")
    assert meant_line(line.split(), ["run", "verdict", "chat"]) == expected


def test_a_recipe_in_the_place_of_a_command_ends_with_one_line():
    command = [sys.executable, "-m", "ftkit", "pretrain", "--corpus", "a b.txt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "ftkit: 'pretrain' is no command; a job is started with: ftkit run pretrain --corpus 'a b.txt'\n"
    )
