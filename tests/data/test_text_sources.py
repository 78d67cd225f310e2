"""Sources plug in: one file declares a source, and help pages, messages, docs and runs find it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ftkit.config.catalogue import described_sources, source_forms
from ftkit.data.sources import text_sources

ROOT = Path(__file__).parents[2]
TOY = '''"""A toy: a number of equal sentences."""

from ftkit.data.sources import LoadedText, Source

SOURCE = Source(
    form="parrot:SENTENCES",
    help="One sentence, repeated.",
    load=lambda request: LoadedText("parrot", [("parrot", "Polly wants a cracker now. " * int(request.place))]),
    prefixes=("parrot",),
)
'''


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package and the recipes."""
    for folder in ("ftkit", "recipes"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "configs"))
    return tmp_path


def ftkit(copy: Path, *arguments: str) -> tuple[int, str]:
    """The exit code and the output of a command of the copied package."""
    environment = os.environ | {"PYTHONPATH": str(copy), "FTKIT_CACHE": str(copy / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "ftkit", *arguments], cwd=copy, env=environment, capture_output=True, text=True
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_the_declarations_read_without_import_are_those_of_the_registry() -> None:
    sources = text_sources()
    assert {"code", "file", "folder", "gutenberg", "hub", "notebooks", "url", "voices"} <= set(sources)
    assert source_forms() == {source.form: source.help for source in sources.values()}
    assert described_sources().startswith("file, folder/, code:FOLDER, ")
    prefixes = [prefix for source in sources.values() for prefix in source.prefixes]
    assert len(prefixes) == len(set(prefixes)) == len(sources) - 1  # file and folder have none, url has two
    assert all(source.prefixes or source.owns for source in sources.values())


def test_the_docs_list_every_source() -> None:
    table = (ROOT / "docs/commands.md").read_text("utf-8").partition("| text source |")[2].partition("\n\n")[0]
    assert table.splitlines()[2:] == [f"| `{form}` | {meaning} |" for form, meaning in source_forms().items()]
    examples = (ROOT / "docs/own_text.md").read_text("utf-8").partition("| you have |")[2].partition("\n\n")[0]
    prefixes = [prefix for source in text_sources().values() for prefix in source.prefixes if prefix != "http"]
    assert len(prefixes) > 5
    assert [prefix for prefix in prefixes if f"`{prefix}:" not in examples] == []


def test_one_new_file_adds_a_source_everywhere(copy: Path) -> None:
    (copy / "ftkit/data/sources/parrot.py").write_text(TOY)
    for arguments in (("run", "finetune", "--help"), ("verdict", "--help")):
        assert "parrot:SENTENCES" in ftkit(copy, *arguments)[1]
    code, shown = ftkit(copy, "run", "pretrain", "--fast", "--corpus", "parot:9", "--output_dir", "wrong")
    assert code == 4
    assert "unknown source 'parot'" in shown
    assert "did you mean 'parrot'?" in shown
    run = ("run", "pretrain", "--fast", "--corpus", "parrot:2000", "--max_steps", "2", "--output_dir", "run")
    code, shown = ftkit(copy, *run)
    assert code == 0, shown
    assert "parrot:2000" in (copy / "run/manifest.json").read_text()


def test_a_source_whose_file_is_deleted_is_gone_everywhere(copy: Path) -> None:
    (copy / "ftkit/data/sources/notebooks.py").unlink()
    assert "notebooks" not in ftkit(copy, "verdict", "--help")[1]
    code, shown = ftkit(copy, "run", "pretrain", "--fast", "--corpus", "notebooks:x", "--output_dir", "wrong")
    assert code == 4
    assert "unknown source 'notebooks'" in shown
    script = "from ftkit.data import load_corpus; print(load_corpus('voices:keeper:100').num_words)"
    done = subprocess.run([sys.executable, "-c", script], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
