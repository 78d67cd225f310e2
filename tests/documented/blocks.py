"""Commands and pieces of Python that README and docs/ show, in code blocks, fenced or indented."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
STARTS = (
    "ftkit ",
    "scripts/",
    "accelerate ",
    "torchrun ",
    "python ",
    "pip ",
    "export ",
    "tensorboard ",
    "hf ",
    "OMP_NUM_",
)
FILE_TREE = re.compile(r"(ftkit|scripts|tests|docs|recipes)/\S*\s{2,}[^#\s]")
"""A line of an annotated file tree is no command."""


@dataclass(frozen=True)
class Block:
    """A code block: where it stands, what it is said to be (``indented`` without a fence), and its lines."""

    page: str
    kind: str
    text: str


def pages() -> list[Path]:
    """README and docs/, without the pages that scripts/record has written."""
    return [
        ROOT / "README.md",
        *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "evidence" not in page.relative_to(ROOT).parts),
    ]


def in_order(page: Path) -> list[Block]:
    """All code blocks of a page."""
    name, text = str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")
    fenced = r"^```(?P<kind>\w*)\n(?P<fenced>.*?)^```"
    indented = r"(?:^\n|\A)(?P<indented>(?:^    [^\n]*\n|^\n(?=    ))+)"
    found = []
    for match in re.finditer(f"{fenced}|{indented}", text, re.MULTILINE | re.DOTALL):
        if match["indented"] is None:
            found.append(Block(name, match["kind"], match["fenced"]))
        else:
            lines = match["indented"].splitlines(keepends=True)
            found.append(Block(name, "indented", "".join(line[4:] or "\n" for line in lines)))
    return found


def blocks() -> Iterator[Block]:
    """All code blocks of all pages but the tutorials, which are run as a whole."""
    for page in pages():
        if page.parent.name != "tutorials":
            yield from in_order(page)


def commands() -> dict[str, list[str]]:
    """Every command line once, with the pages that show it; comments are gone, continued lines are joined."""
    found: dict[str, list[str]] = {}
    for block in blocks():
        if block.kind not in ("", "bash", "sh", "indented"):
            continue
        for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
            if line.startswith(STARTS) and not FILE_TREE.match(line):
                for command in re.sub(r"\s+#\s.*", "", line).split("; "):
                    found.setdefault(" ".join(command.split()), []).append(block.page)
    return found


def python_blocks() -> list[Block]:
    """Every piece of Python."""
    return [block for block in blocks() if block.kind == "python"]
