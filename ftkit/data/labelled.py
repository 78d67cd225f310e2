"""Texts with a class each: from a table, a folder of folders, a data set of the Hub, or one source for each class.

Published sets are often sorted by label, and who trains or tests on their first rows sees one class only (lessons
07/015 to 07/019). So the order is looked at and reported, and what is split is shuffled.
"""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from ftkit.data.labelled_rows import Row, Rows, read_rows
from ftkit.data.text_files import check_characters, check_codec
from ftkit.data.words import count_words
from ftkit.errors import DataError, nearest_name

__all__ = ["LabelledSplit", "LabelledTexts", "load_labelled", "separate_labelled", "split_labelled"]

logger = logging.getLogger(__name__)

MOST_CLASSES = 1000
"""More names than this are no classes, but numbers or texts in the wrong column."""
SORTED_BELOW = 0.2
"""Rows are called sorted when the class changes less often than this share of what a random order gives."""


@dataclass(frozen=True)
class LabelledTexts:
    """Texts of one source, each with its class.

    Args:
        name: Short name for reports.
        source: What the user asked for.
        texts: None is blank.
        labels: Class of each, a place in ``classes``.
        classes: Names; each has at least one text unless this is a part of a larger set.
    """

    name: str
    source: str
    texts: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Texts of each class."""
        found = Counter(self.labels)
        return {name: found[number] for number, name in enumerate(self.classes)}

    @property
    def label_changes(self) -> int:
        """How often the class changes from one text to the next."""
        return sum(a != b for a, b in zip(self.labels, self.labels[1:], strict=False))

    @property
    def expected_changes(self) -> float:
        """How often it would change in a random order, on average."""
        n = len(self)
        return (n * n - sum(count * count for count in self.counts.values())) / n if n else 0.0

    @property
    def sorted_by_label(self) -> bool:
        """Whether the first rows say little about the others, because classes come one after the other."""
        return self.label_changes < SORTED_BELOW * self.expected_changes

    def label_order(self, stretches: int = 50) -> list[dict[str, Any]]:
        """Share of each class in stretches of about equal length, in the order of the texts.

        Args:
            stretches: At most so many.

        Returns:
            For each stretch the number of its ``first`` text and the ``shares`` by the names of the classes.
        """
        edges = np.linspace(0, len(self), min(stretches, len(self)) + 1).astype(int).tolist()
        found = []
        for first, end in pairwise(edges):
            counts = np.bincount(self.labels[first:end], minlength=len(self.classes))
            shares = dict(zip(self.classes, (counts / (end - first)).tolist(), strict=True))
            found.append({"first": first, "shares": shares})
        return found

    @cached_property
    def num_words(self) -> int:
        """Number of pieces between white space; where a script puts none, of characters."""
        return sum(map(count_words, self.texts))

    @cached_property
    def num_bytes(self) -> int:
        """Length of all texts in bytes of UTF-8."""
        return sum(len(text.encode()) for text in self.texts)

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal digest over classes, texts and labels in their order."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for text, label in zip(self.texts, self.labels, strict=True):
            data = text.encode()
            digest.update(label.to_bytes(4, "big") + len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()

    def take(self, places: Iterable[int]) -> "LabelledTexts":
        """Some of the texts, in the order of their places."""
        chosen = list(places)
        texts, labels = tuple(self.texts[i] for i in chosen), tuple(self.labels[i] for i in chosen)
        return LabelledTexts(self.name, self.source, texts, labels, self.classes)

    def first_of_each(self, per_class: int) -> "LabelledTexts":
        """The first ``per_class`` texts of each class, fewer where there are fewer; the order is kept."""
        return self._first([per_class] * len(self.classes))

    def stratified(self, count: int) -> "LabelledTexts":
        """The first texts of each class, about ``count`` in all, in the shares that the classes have here."""
        if count >= len(self):
            return self
        return self._first([max(round(count * of_class / len(self)), 1) for of_class in self.counts.values()])

    def _first(self, wanted: list[int]) -> "LabelledTexts":
        left, places = list(wanted), []
        for place, label in enumerate(self.labels):
            if left[label] > 0:
                left[label] -= 1
                places.append(place)
        return self.take(places)


def load_labelled(
    source: str | Mapping[str, str],
    *,
    encoding: str = "utf-8",
    classes: Sequence[str] | None = None,
    merge_labels: bool = False,
) -> LabelledTexts:
    """Read texts and their classes.

    Args:
        source: One of

            - ``reviews.csv``, ``.tsv``, ``.jsonl``, ``.json``, ``.parquet`` or ``.arrow``, compressed or not, with the
              columns ``text`` and ``label``, or with others that are named as ``reviews.csv#review,sentiment``;
            - a folder of such tables, or one that ``save_to_disk`` of ``datasets`` has written;
            - ``folder``: every sub-folder is a class and every ``.txt`` and ``.md`` file in it a text; written as
              ``folder#neg,pos`` these sub-folders only;
            - ``hub:NAME[:SPLIT][#TEXT,LABEL]``: a Hugging Face data set or a local folder of one; several splits are
              joined as ``train+test``;
            - a mapping from class to source: of a file every line is a text, of a folder every file, and of any other
              source that ``load_corpus`` knows every paragraph.
        encoding: A Python codec for files. Decoding is strict.
        classes: Names of the classes in their order; other labels are refused. ``None`` takes them as they come: in
            the order of a mapping or of the data set's own names, else sorted.
        merge_labels: Whether labels that differ in case or white space only are one class, under the most frequent
            spelling. ``False`` refuses them.

    Returns:
        At least two classes with at least one text each, in the order of the source.

    Raises:
        DataError: Nothing there, no such column, a text without a class, one class only, or labels that are no classes.
        NetworkError: A download failed.
    """
    check_codec(encoding)
    read = read_rows(source, encoding)
    found = _assemble(read, list(classes or read.classes), merge_labels)
    if not isinstance(source, Mapping) and found.sorted_by_label:
        logger.warning(
            "%s is sorted by label: the class changes %s times in %s texts, in a random order about %s times; the "
            "texts are shuffled before they are used",
            read.source,
            f"{found.label_changes:,}",
            f"{len(found):,}",
            f"{found.expected_changes:,.0f}",
        )
    return found


def _assemble(read: Rows, known: list[str], merge: bool) -> LabelledTexts:
    """Texts and class numbers, checked."""
    source = read.source
    texts: list[str] = []
    names: list[str] = []
    blank = 0
    for row in read.rows:
        if row.text is not None and not isinstance(row.text, str):
            raise DataError(f"{source}, {row.place}: the text is {type(row.text).__name__}, not text")
        if row.text is None or not row.text.strip():
            blank += 1
            continue
        label = _class_name(source, row)
        for value in (row.text, label):
            check_characters(f"{source}, {row.place}", value)
        texts.append(row.text.strip())
        names.append(label)
    if blank:
        logger.warning("%s: %s rows without text left out, %s kept", source, f"{blank:,}", f"{len(texts):,}")
    spelled = _spellings(source, names, known, merge)
    names = [spelled[name] for name in names]
    classes = known or _ordered(names)
    _check_classes(source, names, classes)
    numbers = {label: number for number, label in enumerate(classes)}
    return LabelledTexts(read.name, source, tuple(texts), tuple(numbers[label] for label in names), tuple(classes))


def _class_name(source: str, row: Row) -> str:
    """A label as the name of a class: text as it is, whole numbers and truth values as their text."""
    label = row.label
    if isinstance(label, str) and label.strip():
        return label
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, float) and label.is_integer():
        label = int(label)  # a column of numbers with a gap is read as floats
    if isinstance(label, int):
        return str(label)
    found = "nothing" if label is None or isinstance(label, str) else f"{label!r} ({type(label).__name__})"
    raise DataError(
        f"{source}, {row.place}: the label is {found}. Every text needs a class: a name or an "
        "integer. Add one, or remove the row."
    )


def _spellings(source: str, names: Sequence[str], known: Sequence[str], merge: bool) -> dict[str, str]:
    """The class of every label: itself without white space around it, or the most frequent form of merged labels.

    Raises:
        DataError: Some differ in case or white space only, and are not to be merged.
    """
    counts = Counter(names)
    groups: dict[str, list[str]] = {}
    for name, _ in counts.most_common():
        groups.setdefault(" ".join(name.casefold().split()), []).append(name)
    alike = [group for group in groups.values() if len(group) > 1 and not {*group} <= {*known}]
    if alike and not merge:
        written = "; ".join(" and ".join(f"{name!r} ({counts[name]:,})" for name in group) for group in alike[:3])
        raise DataError(
            f"{source}: labels that differ in case or white space only: {written}. Mend them, or take each group as "
            "one class with merge_labels: true."
        )
    spelled = {name: name.strip() for name in counts}
    if merge:
        classes = {" ".join(name.casefold().split()): name for name in known}
        for key, group in groups.items():
            spelled |= {name: name if name in known else classes.get(key, group[0].strip()) for name in group}
        for group in alike:
            logger.info("%s: %s are one class, %r", source, ", ".join(map(repr, group)), spelled[group[0]])
    return spelled


def _ordered(names: Sequence[str]) -> list[str]:
    """Different names, sorted: numbers by their size, else by the alphabet."""
    different = set(names)
    numbers = all(re.fullmatch(r"-?\d+", name) for name in different)
    return sorted(different, key=int) if numbers else sorted(different)


def _check_classes(source: str, names: Sequence[str], classes: Sequence[str]) -> None:
    found = Counter(names)
    for name in found:
        if name not in classes:
            raise DataError(f"{source}: {found[name]:,} texts have the label {name!r}{nearest_name(name, classes)}")
    if empty := [name for name in classes if not found[name]]:
        counts = ", ".join(f"{name} {found[name]:,}" for name in classes)
        raise DataError(f"{source}: no text of the class {empty[0]!r} ({counts}). Give it some, or leave it out.")
    if not names:
        raise DataError(f"{source}: no texts at all. Give a source with texts and their classes.")
    if len(classes) < 2:
        raise DataError(
            f"{source}: all {len(names):,} texts have the class {classes[0]!r}. A classifier needs two or more: name "
            "another column as the label, or give more rows (what is sorted by label begins with one class)."
        )
    if len(classes) > MOST_CLASSES or (len(names) > 20 and len(classes) > len(names) / 2):
        raise DataError(
            f"{source}: {len(classes):,} different labels in {len(names):,} texts, such as {classes[0][:40]!r} and "
            f"{classes[1][:40]!r}. These are hardly classes: name the right column as #TEXT,LABEL."
        )


# Divide labelled texts into a side to learn from and a side to be tested on, with no text on both.
#
# Published sets hold texts twice, also across their own training and test parts; who is tested on what it has learned
# by
# heart looks better than it is.


@dataclass(frozen=True)
class LabelledSplit:
    """Texts to learn from and texts to be tested on, both shuffled; no text is on both sides."""

    train: LabelledTexts
    test: LabelledTexts
    repeated: int
    """Texts that stand in the source more than once, each counted once; all of a kind are on one side."""
    contradicted: int
    """Those of them that have several classes."""
    order: tuple[dict[str, Any], ...] = ()
    """Shares of the classes along the source, before anything was shuffled; see ``LabelledTexts.label_order``."""


def split_labelled(texts: LabelledTexts, *, heldout_share: float = 0.2, seed: int = 0) -> LabelledSplit:
    """Divide texts so that both sides have the classes' shares.

    Texts that differ only in white space and capitals count as one and stay together.

    Args:
        texts: What to divide.
        heldout_share: Share of each class for the test, above 0 and below 1.
        seed: Which texts, and their order.

    Raises:
        DataError: A class with fewer than two different texts.
    """
    kinds = _kinds(texts)
    by_class: list[list[list[int]]] = [[] for _ in texts.classes]
    for places in kinds.values():
        by_class[texts.labels[places[0]]].append(places)
    test: list[int] = []
    for number, (name, found) in enumerate(zip(texts.classes, by_class, strict=True)):
        if len(found) < 2:
            raise DataError(
                f"{texts.source}: {len(found)} different text of the class {name!r}; training and test need one each. "
                "Give more texts of it."
            )
        wanted, taken = heldout_share * sum(map(len, found)), 0
        for place in np.random.default_rng([seed, number]).permutation(len(found))[:-1]:  # one is left to learn from
            if taken and taken + len(found[place]) / 2 > wanted:
                break
            test += found[place]
            taken += len(found[place])
    held = set(test)
    train = [place for place in range(len(texts)) if place not in held]
    return _split(texts.take(_shuffled(train, seed)), texts.take(_shuffled(test, seed + 1)), kinds, texts)


def separate_labelled(train: LabelledTexts, test: LabelledTexts, *, seed: int = 0) -> LabelledSplit:
    """Use a test set of its own: what stands in it is taken out of the texts to learn from, and both are shuffled.

    Args:
        train: Texts to learn from.
        test: Texts to be tested on, of the same classes.
        seed: Their order.

    Raises:
        DataError: Nothing of a class is left to learn from.
    """
    tested = _kinds(test)
    kept = train.take([place for place, text in enumerate(train.texts) if _folded(text) not in tested])
    if len(kept) < len(train):
        logger.warning(
            "%s of %s texts to learn from stand in the test set too and are left out",
            f"{len(train) - len(kept):,}",
            f"{len(train):,}",
        )
    if empty := [name for name, count in kept.counts.items() if not count]:
        raise DataError(
            f"{train.source}: no text of the class {empty[0]!r} is left to learn from, all stand in {test.source} too. "
            "Give another test set, or let heldout_share divide one."
        )
    places = [_shuffled(range(len(part)), seed + number) for number, part in enumerate((kept, test))]
    return _split(kept.take(places[0]), test.take(places[1]), _kinds(kept), kept)


def _split(
    train: LabelledTexts, test: LabelledTexts, kinds: Mapping[str, list[int]], source: LabelledTexts
) -> LabelledSplit:
    repeated = [places for places in kinds.values() if len(places) > 1]
    contradicted = sum(len({source.labels[place] for place in places}) > 1 for places in repeated)
    if contradicted:
        logger.warning(
            "%d texts stand in %s in several classes; nothing can be learned from them", contradicted, train.source
        )
    return LabelledSplit(train, test, len(repeated), contradicted, tuple(source.label_order()))


def _folded(text: str) -> str:
    """What is the same for texts that count as one."""
    return " ".join(text.casefold().split())


def _kinds(texts: LabelledTexts) -> dict[str, list[int]]:
    """Places of each different text."""
    kinds: dict[str, list[int]] = {}
    for place, text in enumerate(texts.texts):
        kinds.setdefault(_folded(text), []).append(place)
    return kinds


def _shuffled(places: Sequence[int], seed: int) -> list[int]:
    return [places[i] for i in np.random.default_rng([seed, len(places)]).permutation(len(places))]
