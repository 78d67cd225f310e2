"""How time and memory grow with the work: tokens, vocabulary, passages and the size of a model.

    python -m benchmarks.growth KIND SIZE        (in the folder scripts)   one point, in this process

Each point is measured in a process of its own, which says its processor time and by how much its memory grew at most.
Between two points the time grows with a power of the size: 1 is in proportion to it, 2 would be with its square.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measuring import Options, Section

SIZES: dict[str, tuple[int, ...]] = {
    "read": (2 * 10**6, 2 * 10**7, 2 * 10**8),
    "text": (10**4, 10**5, 10**6, 10**7),
    "copying": (10**4, 10**5, 10**6, 10**7),
    "vocabulary": (512, 8192, 50257, 152000),
    "model": (10**5, 10**6, 10**7, 135 * 10**6),
    "passages": (100, 1000, 10000),
}
"""By kind: bytes of a file that is read and split, tokens that are read and stored, words that are searched for
copies, rows of the vocabulary of a model that trains a step, its parameters, and passages of a verdict."""


def read(size: int) -> None:
    """Read and split a file with typographic quotation marks, for which Python takes two bytes a character."""
    from ftkit.data import load_corpus, split_corpus, voice_text

    with tempfile.TemporaryDirectory() as folder:
        path, sample = Path(folder) / "text.txt", voice_text("keeper", 20000)
        made_up(path, f"\u201cLog.\u201d {sample}", round(size * len(sample.split()) / len(sample.encode())))
        point = Point()
        corpus = load_corpus(str(path), warn_short=False)
        split = split_corpus(corpus)
        point.end(words=corpus.num_words, heldout=len(split.heldout), bytes=path.stat().st_size)


def text(tokens: int) -> None:
    """Read a file, split it, and store its tokens; those of a vocabulary of 2,048."""
    from ftkit.data import load_corpus, load_tokenizer, split_corpus, tokenize_texts, voice_text

    with tempfile.TemporaryDirectory() as folder:
        sample = voice_text("keeper", 20000)
        tokenizer = load_tokenizer("train:2048", texts=[sample])
        words = round(tokens * len(sample.split()) / len(tokenizer(sample)["input_ids"]))
        path = Path(folder) / "text.txt"
        made_up(path, sample, words)
        point = Point()
        split = split_corpus(load_corpus(str(path), warn_short=False))
        stored = tokenize_texts(split.train, tokenizer, cache=Path(folder) / "tokens")
        point.end(tokens=stored.num_tokens, bytes=path.stat().st_size)


def made_up(path: Path, sample: str, words: int) -> None:
    """A text of so many words whose paragraphs differ by a number."""
    rows, written, number = sample.split("\n"), 0, 0
    with path.open("w", encoding="utf-8") as file:
        while written < words:
            row = f"{number} {rows[number % len(rows)]}\n"
            file.write(row)
            written, number = written + len(row.split()), number + 1


def copying(words: int) -> None:
    """Search 96 passages for stretches of a text."""
    from ftkit.data import voice_text
    from ftkit.evidence.copying import CopyIndex

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        made_up(path, voice_text("keeper", 20000), words)
        train = path.read_text(encoding="utf-8")
    passages = [voice_text("tales", 100, seed=seed) for seed in range(96)]
    point = Point()
    index = CopyIndex([train])
    index.found(passages)
    index.longest(passages)
    point.end(words=words)


def vocabulary(rows: int) -> None:
    """A step of 4 x 128 tokens with a model of 2 blocks of width 64."""
    _step(rows, blocks=2, width=64)


def model(parameters: int) -> None:
    """A step of 4 x 128 tokens with a vocabulary of 512 and blocks of width 64 times their number."""
    depth = max(round((parameters / (12 * 64**2)) ** (1 / 3)), 1)
    _step(512, blocks=depth, width=64 * depth)


def _step(rows: int, blocks: int, width: int) -> None:
    from benchmarks.shapes import Rows, Shape, new_model, settings
    from ftkit.training import NEXT_TOKEN, Engine

    shape = Shape(blocks, width, max(width // 64, 1), rows, rows=4, tokens=128, positions=128)
    point = Point()
    made = new_model("ftkit_gpt2", shape)
    steps = iter(Engine(made, NEXT_TOKEN, Rows(shape), settings(shape)))
    next(steps)
    started = time.process_time()
    next(steps)
    point.end(seconds=time.process_time() - started, parameters=sum(each.numel() for each in made.parameters()))


def passages(count: int) -> None:
    """A verdict on ``base:tales`` itself, with passages of 60 characters."""
    import ftkit
    from ftkit.data import voice_text

    base = str(Path(ftkit.__file__).parent / "bases" / "tales")
    point = Point()
    ftkit.verdict(
        base, base, [voice_text("keeper", 20000)], num_passages=count, passage_chars=60, eval_windows=8,
        train_windows=8,
    )  # fmt: skip
    point.end()


class Point:
    """Processor time and growth of memory since it was made; all libraries are imported by then."""

    def __init__(self) -> None:
        import ftkit.evidence
        import ftkit.jobs.verdicts
        import ftkit.training  # noqa: F401

        self.forget_peak()
        self._memory, self._busy = self._of_process("VmRSS"), time.process_time()

    @staticmethod
    def forget_peak() -> None:
        """Let the peak of memory begin anew: loading had one of its own."""
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")

    @staticmethod
    def _of_process(field: str) -> int:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))

    def end(self, **facts: Any) -> None:
        """Print what it took as JSON."""
        grown = self._of_process("VmHWM") - self._memory
        found = {"seconds": time.process_time() - self._busy, "peak_bytes": grown, **facts}
        print(json.dumps(found))


def in_own_process(command: list[str]) -> dict[str, Any]:
    """What ``Point.end`` of a module of this folder prints, run in a process of its own with an empty cache."""
    scripts, environment = Path(__file__).parents[1], {**os.environ, "FTKIT_CACHE": tempfile.mkdtemp()}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=scripts, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def memory_beside(name: str, arms: dict[str, list[str]], beside: str, facts: dict[str, Any]) -> Section:
    """Memory of each arm, and the first one's over another's."""
    found = {arm: in_own_process(command)["peak_bytes"] for arm, command in arms.items()}
    row = {"target": None, "at_most": True}
    rows = [{"measure": f"{arm}: memory", "exact": size / 1e6, "unit": "MB", **row} for arm, size in found.items()]
    first = next(iter(found))
    ratio = {"measure": f"{first} : {beside}, memory", "exact": found[first] / found[beside], "unit": "x"}
    return Section(name, {}, [*rows, {**ratio, "target": 1.0, "at_most": True}], facts)


def run(name: str, kind: str, sizes: tuple[int, ...]) -> Section:
    """All points of a kind."""
    found = [{"size": size, **in_own_process(["benchmarks.growth", kind, str(size)])} for size in sizes]
    results = []
    for before, after in zip([None, *found], found, strict=False):
        grown = before and math.log(after["seconds"] / before["seconds"]) / math.log(after["size"] / before["size"])
        row = {"target": None, "at_most": True}
        label = f"{kind} {after['size']:,}"
        results.append({"measure": f"{label}: seconds", "exact": after["seconds"], "unit": "s", **row})
        results.append({"measure": f"{label}: memory", "exact": after["peak_bytes"] / 1e6, "unit": "MB", **row})
        if grown is not None:
            results.append({"measure": f"{label}: power of the size", "exact": grown, "unit": "", **row, "target": 1.1})
    return Section(name, {}, results, {"points": found})


def sections(options: Options) -> Iterator[tuple[str, Callable[[], Section]]]:
    """Names and what runs them."""
    for kind, sizes in SIZES.items():
        yield f"growth-{kind}", partial(run, f"growth-{kind}", kind, sizes[:1] if options.quick else sizes)


if __name__ == "__main__":
    globals()[sys.argv[1]](int(sys.argv[2]))
