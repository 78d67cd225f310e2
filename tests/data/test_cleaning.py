import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.data import clean_text

BODY = "It was a dark night.\nThe wind rose.\n\nAt the end of the project nobody spoke.\n"
LICENCE = "\n\nThis and all associated files of various formats will be found in:\nhttp://www.gutenberg.org/1/1/\n"


def kinds(raw: str) -> list[str]:
    return [removed.kind for removed in clean_text(raw).removed]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (
            "*** START OF THIS PROJECT GUTENBERG EBOOK A NIGHT ***",
            "*** END OF THIS PROJECT GUTENBERG EBOOK A NIGHT ***",
        ),
        ("***START OF THE PROJECT GUTENBERG EBOOK A NIGHT***", "***END OF THE PROJECT GUTENBERG EBOOK A NIGHT***"),
        ("*** START OF THE PROJECT GUTENBERG ETEXT A NIGHT ***", "*** END OF THE PROJECT GUTENBERG ETEXT A NIGHT ***"),
        (
            "*** START OF THE PROJECT GUTENBERG EBOOK A NIGHT\nAND A DAY ***",
            "*** END OF THE PROJECT GUTENBERG E-BOOK ***",
        ),
    ],
)
def test_every_marker_style_leaves_exactly_the_book(start: str, end: str) -> None:
    raw = f"The Project Gutenberg EBook of A Night\n\nTitle: A Night\n\n{start}\n\n\n{BODY}\n\n{end}{LICENCE}"
    assert clean_text(raw).text == BODY
    assert kinds(raw) == ["Gutenberg header", "Gutenberg licence"]


def test_small_print_of_the_nineties_is_header() -> None:
    raw = (
        "***The Project Gutenberg Etext of A Night***\n\nWelcome to the World of Free Plain Vanilla Texts\n\n"
        "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\nWhy is this here?\n"
        f"*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\n\n{BODY}\n\n"
        "End of The Project Gutenberg Etext of A Night\n"
    )
    assert clean_text(raw).text == BODY
    assert kinds(raw) == ["Gutenberg header", "Gutenberg closing line"]


def test_small_print_at_the_end_is_licence() -> None:
    body = "\n".join(f"Line {number} of the book." for number in range(500))
    small_print = "***START**THE SMALL PRINT!**START***\nWhy?\n*END THE SMALL PRINT! FOR ETEXTS*Ver.04.29.93*END*"
    assert clean_text(f"{body}\n\n{small_print}\n").text == f"{body}\n"
    assert kinds(f"{body}\n\n{small_print}\n") == ["Gutenberg licence"]


SMALL_PRINT = "***START**THE SMALL PRINT!**START***\nWhy?\n*END THE SMALL PRINT! FOR ETEXTS*Ver.04.29.93*END*"
FRONT = (
    "**The Project Gutenberg Etext of A Night**\n\nLaws change.\n\n*****These eBooks Were Prepared By Volunteers!*****"
)


@pytest.mark.parametrize("lines", [30, 250, 500])
@pytest.mark.parametrize("start", ["***START**THE SMALL PRINT!**START***\n", ""])
def test_a_short_book_with_its_small_print_at_the_end_is_no_header(lines: int, start: str) -> None:
    body = "\n".join(f"Line {number} of the book." for number in range(lines))
    small_print = SMALL_PRINT if start else SMALL_PRINT.split("\n")[-1]
    assert clean_text(f"{FRONT}\n\n\n{body}\n\n{small_print}\n").text == f"{body}\n"
    assert kinds(f"{FRONT}\n\n\n{body}\n\n{small_print}\n") == ["Gutenberg header", "Gutenberg licence"]


def test_a_copyrighted_book_has_its_frame_taken_off() -> None:
    start, end = (f"*** {side} OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK, A NIGHT ***" for side in ("START", "END"))
    raw = f"** This is a COPYRIGHTED Project Gutenberg eBook **\n\n{start}\n\n{BODY}\n\n{end}{LICENCE}"
    assert clean_text(raw).text == BODY
    assert kinds(raw) == ["Gutenberg header", "Gutenberg licence"]


@pytest.mark.parametrize("lines", [5, 100, 390, 2000])
def test_texts_before_and_behind_a_book_stay(lines: int) -> None:
    story = "\n".join(f"Line {number} of the story." for number in range(lines))
    long = "\n".join(f"Line {number} of the novel." for number in range(700))
    marks = [f"*** {side} OF THIS PROJECT GUTENBERG EBOOK A NIGHT ***" for side in ("START", "END")]
    raw = f"{story}\n\nThe Project Gutenberg EBook of A Night\n\n{marks[0]}\n\n{BODY}\n{marks[1]}\n{long}\n"
    cleaned = clean_text(raw)
    for text in (story, BODY.strip(), long):
        assert text in cleaned.text
    assert "GUTENBERG" not in cleaned.text.upper()


@pytest.mark.parametrize("raw", ["*** END OF THE PROJECT GUTENBERG EBOOK A ***\nlicence\n", f"{SMALL_PRINT}\n"])
def test_markers_around_nothing_leave_the_text_as_it_is(raw: str) -> None:
    assert clean_text(raw).text == raw
    assert kinds(f"{raw}\r\n") == ["line ends"]


def test_two_books_in_one_file_both_stay() -> None:
    book = (
        "Header\n*** START OF THIS PROJECT GUTENBERG EBOOK {0} ***\n\nBook {0} here.\n\n"
        "*** END OF THIS PROJECT GUTENBERG EBOOK {0} ***\nlicence\n"
    )
    cleaned = clean_text(book.format("A") + book.format("B"))
    assert re.findall(r"Book (\w)", cleaned.text) == ["A", "B"]
    assert "licence" not in cleaned.text
    assert "Header" not in cleaned.text


def test_producers_line_goes_only_from_the_front_of_a_gutenberg_book() -> None:
    middle = "\n\n".join(["Paragraph."] * 10 + ["Produced by a storm, the wave fell."] + ["Paragraph."] * 10)
    frame = "*** START OF THIS PROJECT GUTENBERG EBOOK A ***\n\n\n{}\n\n*** END OF THIS PROJECT GUTENBERG EBOOK A ***"
    raw = frame.format(f"Produced by David Widger\n\n\n\n{middle}")
    assert clean_text(raw).text == f"{middle}\n"
    assert "producer's line" in kinds(raw)
    assert clean_text(f"Produced by David Widger\n\n{middle}\n").removed == ()


@pytest.mark.parametrize(
    "text",
    [
        BODY,
        "She saw the end of Project Gutenberg's day in prose.\n\nEnd of the Project, he said.\n",
        "*** START OF THE RACE ***\nThey ran.\n*** END OF THE RACE ***\n",
        "Transcriber's note: this is a novel about one.\n\nProduced by nobody.\n\n\n\n\n\n\nEnd.\n",
        "a\fb\x0bc\u2028d\u2029e\x85f\n",
        "no line end",
        "",
    ],
)
def test_text_without_markers_is_untouched(text: str) -> None:
    cleaned = clean_text(text)
    assert cleaned.text == text
    assert cleaned.removed == ()


@pytest.mark.parametrize(("raw", "count"), [("a\r\nb\r\n", 2), ("a\rb\r", 2), ("a\r\n\rb\n", 2)])
def test_carriage_returns_become_line_ends_and_are_counted(raw: str, count: int) -> None:
    cleaned = clean_text(raw)
    assert "\r" not in cleaned.text
    assert [(removed.kind, removed.characters) for removed in cleaned.removed] == [("line ends", count)]


def test_byte_order_mark_goes() -> None:
    assert clean_text("\ufeffHello\n").text == "Hello\n"
    assert kinds("\ufeffHello\n") == ["byte order mark"]


PIECES = [
    "*** START OF THIS PROJECT GUTENBERG EBOOK A ***",
    "***END OF THE PROJECT GUTENBERG EBOOK A***",
    "*** START: FULL LICENSE ***",
    "***START**THE SMALL PRINT!**START***",
    "*END*THE SMALL PRINT! FOR*END*",
    "End of Project Gutenberg's A, by B",
    "Produced by C",
    "Transcribed from the 1892 edition by D",
    "Original Transcriber\u2019s Notes:",
    "[Transcriber's Note: E]",
    "Prose.",
    "\ufeff",
    "\r\n",
    "\r",
    "\n\n",
    "\n",
    " \n",
    "\u2028",
]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=30))
def test_cleaning_twice_changes_nothing(pieces: list[str]) -> None:
    once = clean_text("\n".join(pieces))
    twice = clean_text(once.text)
    assert twice.text == once.text
    assert twice.removed == ()


BOOK_EDGES = {
    "11-": ("ALICE\u2019S ADVENTURES IN WONDERLAND", "THE END"),
    "829-": ("GULLIVER\u2019S TRAVELS", "in England."),
    "2148-": ("THE WORKS OF EDGAR ALLAN POE", "Halcyon--_Simonides_"),
    "2701-": ("MOBY-DICK;", "only found another orphan."),
    "35-": ("The Time Machine", "still lived on in the heart of man."),
}


def test_real_books_begin_and_end_with_the_authors_words(books: Path) -> None:
    seen = 0
    for prefix, (first, last) in BOOK_EDGES.items():
        for path in books.glob(f"{prefix}*.txt"):
            raw = path.read_bytes().decode()
            cleaned = clean_text(raw)
            lines = [line.strip() for line in cleaned.text.split("\n") if line.strip()]
            assert lines[0] == first
            assert lines[-1].endswith(last)
            assert "gutenberg" not in cleaned.text.lower()
            assert "widger" not in cleaned.text.lower()
            assert "Transcri" not in cleaned.text or prefix != "2701-"
            # Nothing is lost but what is reported.
            lost = sum(removed.characters for removed in cleaned.removed)
            assert 0 <= len(raw) - len(cleaned.text) - lost < 60
            seen += 1
    assert seen == 5
