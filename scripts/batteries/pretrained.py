"""Batteries on really pretrained bases: texts, the folder of each case's model, and what is judged."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from batteries.expected import Case, cases_of
from batteries.results import Rows, judged_row
from batteries.texts import GIBBERISH, harbor_story
from batteries.tuning import Loop, make_folder
from ftkit.data import load_corpus, load_tokenizer
from ftkit.generation import Sampling, generate_passages
from ftkit.jobs.verdicts import VerdictRequest
from ftkit.models import load_model
from ftkit.runs.files import write_atomically

__all__ = ["BENCHES", "Bench", "bench_of", "missing_inputs", "run"]

_BOOKS = {"alice": 11, "gulliver": 829, "poe": 2148, "moby": 2701}
"""Numbers of Project Gutenberg of the books that are used."""
_TRAIN_CHARS, _HELDOUT_CHARS = 150_000, 50_000
"""Characters of a book that are trained on and held out at most: three quarters of *Alice* are less than the first."""
_GENERAL_CHARS = 60_000
"""Characters of general text: 150 passages of 400 characters for the judge, 50 windows and more for the losses."""
_EXCERPT_CHARS, _BEGINNING_CHARS = 5_500, 50_000
"""About 1,000 words, which a model can learn by heart, and the size of a small honest run."""
_STORIES = {"train": 160, "heldout": 90, "general": 70}
"""Stories of the base on each side: 70, 40 and 30 kB."""
_STORY_TOKENS = 240
"""New tokens of a story."""
_COMMON_BEGINNING = 2
"""Sentences that are left out at the start of a story: most stories share them, and 10 % of all 12-grams with them."""


@dataclass(frozen=True)
class Bench:
    """A pretrained base, where its texts and models go, and how its models are trained."""

    name: str
    base: Path
    folder: Path
    """Texts and models, kept between runs."""
    loop: Loop
    """Training of a case that sets nothing else."""
    eval_windows: int
    """Windows of each text that are evaluated; they are as long as those of the training."""

    @cached_property
    def texts(self) -> Path:
        """Folder of the texts, written once."""
        folder = self.folder / "texts"
        with _locked(folder):
            if not (folder / "complete").exists():
                for name, text in self._texts():
                    write_atomically(folder / f"{name}.txt", text)
                write_atomically(folder / "complete", "")
        return folder

    def _texts(self) -> Iterator[tuple[str, str]]:
        for name, number in _BOOKS.items():
            text = "\n\n".join(document.text for document in load_corpus(f"gutenberg:{number}").documents)
            if name == "moby":
                yield "moby-general", text[:_GENERAL_CHARS]
                continue
            end = _paragraph_end(text, min(_TRAIN_CHARS, 3 * len(text) // 4))
            train, heldout = text[:end], text[end : end + _HELDOUT_CHARS]
            yield from ((f"{name}-train", train), (f"{name}-heldout", heldout), (f"{name}-all", train + heldout))
            yield f"{name}-excerpt", text[: _paragraph_end(text, _EXCERPT_CHARS)]
            yield f"{name}-beginning", text[: _paragraph_end(text, _BEGINNING_CHARS)]
        if self.name == "stories260k":
            yield from self._stories()

    def _stories(self) -> Iterator[tuple[str, str]]:
        """Stories of the base itself, moved to a harbor; general text are others of them as they are."""
        model, tokenizer = load_model(str(self.base)), load_tokenizer(str(self.base))
        prompts = ["Once upon a time"] * sum(_STORIES.values())
        written = generate_passages(
            model, tokenizer, [tokenizer(p)["input_ids"] for p in prompts], new_tokens=_STORY_TOKENS,
            sampling=Sampling(temperature=0.7), seed=0, batch_rows=32,
        )  # fmt: skip
        stories = [". ".join(story.text.split(". ")[_COMMON_BEGINNING:]) for story in written]
        sides, begin = {}, 0
        for side, count in _STORIES.items():
            moved = stories[begin : begin + count]
            sides[side] = "\n\n".join(moved if side == "general" else [harbor_story(story) for story in moved])
            begin += count
        yield from ((f"harbor-{side}", text) for side, text in sides.items() if side != "general")
        yield "stories-general", sides["general"]
        yield "harbor-all", sides["train"] + "\n\n" + sides["heldout"]
        yield "harbor-excerpt", sides["train"][: _paragraph_end(sides["train"], _EXCERPT_CHARS)]

    def text(self, name: str) -> str:
        """One of the texts."""
        return (self.texts / f"{name}.txt").read_text(encoding="utf-8")

    def trained_text(self, case: Case, seed: int) -> str:
        """What a case's model is trained on."""
        if case.trained_on in GIBBERISH:
            return GIBBERISH[case.trained_on](self.text(f"{case.target}-train"), seed)
        if case.trained_on in ("excerpt", "beginning"):
            return self.text(f"{case.target}-{case.trained_on}")
        return self.text(f"{case.trained_on or case.target}-train")

    def model(self, battery: str, case: Case, seed: int) -> Path:
        """Folder of a case's model, made where it is not there."""
        if case.model_of:
            battery = battery.removesuffix("_gibberish")
            return self.model(battery, cases_of(battery)[case.model_of], seed)
        if case.name == "untouched":
            return self.base
        folder = self.folder / "models" / battery / f"{_slug(case.name)}-{seed}"
        with _locked(folder.parent, folder.name):
            if not folder.exists():
                make_folder(str(self.base), self.trained_text(case, seed), self.loop_of(case, seed), folder)
        return folder

    def loop_of(self, case: Case, seed: int) -> Loop:
        """How a case's model is trained."""
        usual = self.loop
        return Loop(
            usual.steps if case.steps is None else case.steps,
            usual.learning_rate if case.learning_rate is None else case.learning_rate,
            usual.batch_size, usual.window_tokens, seed,
            usual.lora_rank if case.lora_rank is None else case.lora_rank, case.noise, usual.bfloat16,
        )  # fmt: skip

    def request(self, battery: str, case: Case, seed: int) -> VerdictRequest:
        """What is judged."""
        texts = self.texts
        general = "stories-general" if self.name == "stories260k" else "moby-general"
        other = {"other book": "moby-general"} if self.name == "stories260k" else {}
        return VerdictRequest(
            str(self.base), str(self.model(battery, case, seed)), str(texts / f"{case.target}-{case.claims}.txt"),
            str(texts / f"{case.target}-heldout.txt"), str(texts / f"{general}.txt"),
            {name: str(texts / f"{text}.txt") for name, text in other.items()}, seed=seed,
            window_tokens=self.loop.window_tokens, eval_windows=self.eval_windows,
        )  # fmt: skip


BENCHES = {
    "stories260k": ("FTKIT_STORIES260K", Loop(150, 2e-3, 8, 128, 0), 64),
    "smollm2": ("FTKIT_SMOLLM2", Loop(40, 2e-4, 4, 256, 0, 8, bfloat16=True), 40),
}
"""The variable that names the base's folder, the usual training, and the windows that are evaluated, by base."""


def missing_inputs(battery: str) -> str:
    """What must be set before a battery can run; empty where nothing is missing."""
    base = "stories260k" if battery == "examples" else battery.removesuffix("_gibberish")
    if base not in BENCHES:
        return ""
    variable, books = BENCHES[base][0], os.environ.get("FTKIT_BOOKS")
    if not Path(os.environ.get(variable, "")).joinpath("config.json").is_file():
        return f"set {variable} to the folder of {base}"
    return (
        ""
        if battery == "examples" or (books and Path(books).is_dir())
        else "set FTKIT_BOOKS to a folder with the books of Project Gutenberg"
    )


def bench_of(battery: str, folder: Path) -> Bench:
    """The bench of a battery, whose texts and models are kept in a folder."""
    base = battery.removesuffix("_gibberish")
    variable, loop, eval_windows = BENCHES[base]
    return Bench(base, Path(os.environ[variable]), folder / base, loop, eval_windows)


def run(battery: str, names: Iterable[str], seeds: Iterable[int], folder: Path, rows: Rows) -> None:
    """Judge cases for seeds; what ``rows`` holds is not judged again.

    Args:
        battery: A battery of a pretrained base.
        names: Cases.
        seeds: Of gibberish, training and sampling.
        folder: Where texts and models are kept.
        rows: Where outcomes are kept.
    """
    bench = bench_of(battery, folder)
    cases, names = cases_of(battery), list(names)
    for seed, name in ((seed, name) for seed in seeds for name in names if not rows.has(name, seed)):
        request = bench.request(battery, cases[name], seed)
        judged = judged_row(cases[name], request, bench.folder / "verdicts" / f"{battery}-{_slug(name)}-{seed}")
        rows.add({"battery": battery, "base": bench.name, "case": name, "seed": seed, **judged})


def _paragraph_end(text: str, place: int) -> int:
    """The end of the paragraph that a place is in."""
    end = text.find("\n\n", place)
    return end if end >= 0 else place


def _slug(name: str) -> str:
    """A name of a case as that of a folder."""
    return "-".join(name.lower().replace(",", " ").split())


@contextmanager
def _locked(folder: Path, name: str = "") -> Iterator[None]:
    """Only one process makes what is in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name or 'folder'}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
