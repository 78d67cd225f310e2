"""The texts of a run: loaded, cleaned, divided, and written down in the manifest."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftkit.config import TrainingSettings
from ftkit.data import Corpus, Split, fix_special_tokens, load_corpus, split_corpus
from ftkit.errors import CheckpointError
from ftkit.evidence import CopyIndex, Thresholds, known_share
from ftkit.runs import RunFolder
from ftkit.runs.processes import is_main_process

__all__ = ["Text", "check_unchanged", "load_texts", "read_special_tokens"]

_logger = logging.getLogger("ftkit.jobs")


@dataclass(frozen=True)
class Text:
    """One named text, whole and divided."""

    corpus: Corpus
    split: Split

    @property
    def train(self) -> list[str]:
        """Documents, or contiguous parts of them, that may be trained on."""
        return list(self.split.train_documents)

    @property
    def heldout(self) -> list[str]:
        """Documents, or contiguous parts of them, that are never trained on."""
        return list(self.split.heldout_documents)


def check_unchanged(run: RunFolder, noted: dict[str, dict[str, Any]]) -> None:
    """Check that a resumed run has the texts that it was started with, because its finished phases depend on them.

    Args:
        run: The run, whose manifest holds size and hash of each text at the start.
        noted: The same of the texts as they are now, by name.

    Raises:
        CheckpointError: A text has changed.
    """
    for name, now in noted.items():
        before = run.manifest["data"].get(name, now)
        if before["sha256"] != now["sha256"]:
            raise CheckpointError(
                f"{now['source']}: has changed since the run was started ({before['words']:,} words then, "
                f"{now['words']:,} now); bring the old text back, or start a new run"
            )


def load_texts(
    sources: dict[str, str], settings: TrainingSettings, run: RunFolder | None = None, *, trained: bool = True
) -> dict[str, Text]:
    """Load and clean texts, and hold out a part of each.

    Args:
        sources: Source of each text by name.
        settings: ``encoding``, ``split``, ``heldout_share`` and ``seed`` are read.
        run: Where size, hash and what was removed are noted; ``None`` notes nothing.
        trained: Whether they are trained on, so that their held-out parts must not be known.

    Returns:
        The texts by name.
    """
    texts, noted = {}, {}
    for name, source in sources.items():
        corpus = load_corpus(source, name=name, encoding=settings.encoding, warn_short=trained)
        texts[name] = Text(
            corpus,
            split_corpus(corpus, policy=settings.split, heldout_share=settings.heldout_share, seed=settings.seed),
        )
        noted[name] = {
            "source": source,
            "sha256": corpus.sha256,
            "words": corpus.num_words,
            "bytes": corpus.num_bytes,
            "removed": [{"kind": item.kind, "characters": item.characters} for item in corpus.removed],
        }
        if run:
            _logger.info("%s: %s, %s words", name, source, f"{corpus.num_words:,}")
            if trained and is_main_process():  # a plan says it too
                _warn_of_known_heldout(name, texts[name])
    if run:
        check_unchanged(run, noted)
        run.update_manifest(data={**run.manifest["data"], **noted})
    return texts


def _warn_of_known_heldout(name: str, text: Text) -> None:
    """Say before training that the held-out text is known, which the verdict would say after it."""
    known, most = known_share(text.heldout, CopyIndex(text.train)), Thresholds().seen_heldout
    if known > most:
        _logger.warning(
            "%s: %.0f%% of the held-out text's word 12-grams occur in the training text too, so it is not held out; "
            "above %.0f%% nothing can be concluded from it. Remove texts that are there twice, or set another split.",
            name,
            100 * known,
            100 * most,
        )


def read_special_tokens(settings: TrainingSettings, run: RunFolder, texts: Mapping[str, Text], tokenizer: Any) -> None:
    """Choose how special tokens in the texts of a run are read, say it, and write it down.

    Args:
        settings: ``special_tokens`` is read.
        run: Where the choice is kept; a resumed run must come to the same.
        texts: What is learned.
        tokenizer: What reads them from here on.
    """
    pieces = [piece for text in texts.values() for piece in (*text.train, *text.heldout)]
    chosen = fix_special_tokens(settings.special_tokens, pieces, tokenizer)
    if chosen.counts:
        _logger.info("%s", chosen)
        run.require_same(special_tokens_read_as=chosen.reading)
        if settings.special_tokens == "auto":
            run.settle(special_tokens=chosen.reading)
