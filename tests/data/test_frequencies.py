"""Groups of tokens against a plain count, and against the mistake that takes used tokens for unused ones."""

from collections import Counter

import numpy as np
import pytest

from ftkit.data import load_tokenizer, token_groups, tokenize_texts, voice_text


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    store = tokenize_texts([voice_text("keeper", 3000)], load_tokenizer("byte"), cache=tmp_path_factory.mktemp("t"))
    return np.asarray(store.ids)


def test_groups_are_those_of_a_counter(ids):
    counts = Counter(ids.tolist())
    groups = {group.name: group for group in token_groups(ids, 257, 15)}
    ordered = sorted(counts.values())
    assert sorted(counts[t] for t in groups["frequent"].ids.tolist()) == ordered[-15:]
    assert sorted(counts[t] for t in groups["rare"].ids.tolist()) == ordered[:15]
    assert groups["frequent"].occurrences == sum(ordered[-15:])
    assert groups["rare"].occurrences == sum(ordered[:15]) >= 15
    assert len(groups["unused"].ids) == 15


def test_unused_tokens_stand_nowhere_in_the_text(ids):
    [unused] = [group for group in token_groups(ids, 257) if group.name == "unused"]
    assert len(unused.ids) == 100
    assert unused.occurrences == 0
    assert not set(unused.ids.tolist()) & set(ids.tolist())
    used = np.unique(ids)
    mistaken = used[unused.ids[unused.ids < len(used)]]  # unused ids taken as positions in the list of used ones
    assert set(mistaken.tolist()) <= set(ids.tolist())
    assert len(mistaken) > 10


def test_groups_shrink_with_the_text_and_never_overlap():
    groups = token_groups(np.array([3, 3, 3, 5, 5, 8]), 9, 100)
    assert {group.name: group.ids.tolist() for group in groups} == {
        "frequent": [3], "rare": [8], "unused": [0, 1, 2, 4, 6, 7],
    }  # fmt: skip
    assert [group.name for group in token_groups(np.arange(6), 6)] == ["frequent", "rare"]
