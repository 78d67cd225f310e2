import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.data import Corpus, Document, Split, load_corpus, split_corpus, voice_text
from ftkit.errors import DataError

POLICIES = ["tail", "head", "blocks"]


def corpus_of(*texts: str) -> Corpus:
    return Corpus("test", "test", tuple(Document(str(number), text) for number, text in enumerate(texts)))


def put_together(split: Split) -> str:
    """The corpus again, from the pieces and the places of the held-out ones."""
    train, out, length = list(split.train), [], 0
    for (start, end), piece in zip(split.heldout_spans, split.heldout, strict=True):
        assert end - start == len(piece)
        if start > length:
            out.append(train.pop(0))
            length += len(out[-1])
        assert length == start
        out.append(piece)
        length = end
    return "".join(out + train)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
def test_parts_are_exactly_the_corpus_and_have_their_shares(policy: str, share: float) -> None:
    for corpus in (
        corpus_of(voice_text("letters", 6_000)),
        corpus_of(voice_text("almanac", 3_000), voice_text("market", 2_000)),
    ):
        split = split_corpus(corpus, policy=policy, heldout_share=share)
        assert put_together(split) == corpus.text
        assert sum(map(len, split.heldout)) / len(corpus.text) == pytest.approx(share, rel=0.2)


@pytest.mark.parametrize("policy", POLICIES)
def test_cuts_fall_between_paragraphs(policy: str) -> None:
    corpus = corpus_of(voice_text("letters", 20_000))
    split = split_corpus(corpus, policy=policy)
    borders = [edge for span in split.heldout_spans for edge in span if 0 < edge < len(corpus.text)]
    assert len(borders) >= 1
    for border in borders:
        assert corpus.text[border - 2 : border] == "\n\n"
        assert not corpus.text[border].isspace()


def test_cuts_take_the_next_best_boundary() -> None:
    line = "word word word. Word word word word. "
    for text, before in [
        ("\n".join(["word " * 9] * 40), "\n"),
        (line * 60, ". "),
        ("word " * 500, " "),
    ]:
        split = split_corpus(corpus_of(text))
        assert split.train[-1].endswith(before)
        assert put_together(split) == text
    assert put_together(split_corpus(corpus_of("x" * 1000))) == "x" * 1000


def test_tail_and_head_hold_out_the_ends() -> None:
    corpus = corpus_of(voice_text("keeper", 3_000))
    assert corpus.text.endswith(split_corpus(corpus, policy="tail").heldout[0])
    assert corpus.text.startswith(split_corpus(corpus, policy="head").heldout[0])


def test_blocks_are_spread_seeded_and_merged() -> None:
    corpus = corpus_of(voice_text("keeper", 20_000))
    splits = [split_corpus(corpus, policy="blocks", num_blocks=10, seed=seed) for seed in range(20)]
    assert splits[3] == split_corpus(corpus, policy="blocks", num_blocks=10, seed=3)
    assert len({split.heldout_spans for split in splits}) == 20
    for split in splits:
        assert 5 <= len(split.heldout) <= 10
        ends = [end for _, end in split.heldout_spans]
        starts = [start for start, _ in split.heldout_spans]
        assert all(end < start for end, start in zip(ends[:-1], starts[1:], strict=True))
    # Every part of the text is held out under some seed: no stretch is favoured.
    middle = [
        sum(s <= at < e for split in splits for s, e in split.heldout_spans) for at in range(0, len(corpus.text), 500)
    ]
    assert sum(count > 0 for count in middle) / len(middle) > 0.75


def test_no_paragraph_is_in_both_parts() -> None:
    corpus = corpus_of("\n\n".join(f"Paragraph {number} has its own number." for number in range(2_000)))
    for policy in POLICIES:
        split = split_corpus(corpus, policy=policy)
        train = {line for piece in split.train for line in piece.split("\n\n") if line}
        heldout = {line for piece in split.heldout for line in piece.split("\n\n") if line}
        assert len(train) + len(heldout) == 2_000
        assert not train & heldout


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.text(alphabet="ab .\n\u00e9", min_size=1, max_size=300),
    st.sampled_from(POLICIES),
    st.floats(0.01, 0.9),
    st.integers(1, 8),
    st.integers(0, 3),
)
def test_any_text_is_cut_exactly_or_refused(text: str, policy: str, share: float, num_blocks: int, seed: int) -> None:
    corpus = corpus_of(text)
    try:
        split = split_corpus(corpus, policy=policy, heldout_share=share, num_blocks=num_blocks, seed=seed)
    except DataError:
        return
    assert put_together(split) == text
    assert any(piece.strip() for piece in split.train)
    assert any(piece.strip() for piece in split.heldout)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "tial"}, "did you mean 'tail'"),
        ({"heldout_share": 0.0}, "above 0 and below 1"),
        ({"heldout_share": 1.0}, "above 0 and below 1"),
        ({"heldout_share": float("nan")}, "above 0 and below 1"),
        ({"policy": "blocks", "num_blocks": 0}, "at least 1"),
        ({"policy": "blocks", "num_blocks": 1, "heldout_share": 0.9}, "cannot hold out"),
    ],
)
def test_impossible_splits_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_corpus(corpus_of(voice_text("keeper", 500)), **settings)  # type: ignore[arg-type]


def test_a_text_of_one_word_has_no_two_parts() -> None:
    with pytest.raises(DataError, match="would be empty"):
        split_corpus(corpus_of("a"))


def test_a_corpus_of_two_documents_may_be_cut_at_their_border() -> None:
    corpus = load_corpus("voices:keeper:11000")
    two = corpus_of(corpus.text * 9, corpus.text)
    split = split_corpus(two, heldout_share=0.1)
    assert put_together(split) == two.text
