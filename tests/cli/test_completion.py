"""Shell completion, by the protocol that bash uses: words and a position in the environment, a value a line back."""

import os
import shutil
import subprocess
import sys

import pytest

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
