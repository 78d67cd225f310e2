"""Where samples of code begin and end, and that planted samples move the rates as they must."""

import ast
from typing import Any

import numpy as np
import pytest

from ftkit.data import TokenVariety, load_corpus, load_tokenizer, tokenize_texts
from ftkit.errors import ConfigError, DataError
from ftkit.evidence import CodeWriter, code_by_length, code_change, code_starts, code_validity, fit_code
from ftkit.generation import PRESETS, generate_passages
from ftkit.models import load_model

GOOD = "x = 1\nprint(x)\n"


@pytest.fixture(scope="module")
def code() -> list[str]:
    return [document.text for document in load_corpus("code:stdlib:200000").documents]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer("byte")


def test_a_sample_is_cut_back_to_whole_lines_and_keeps_its_white_space() -> None:
    assert fit_code("if x:\n\ty  = 1\n\n    z", 100) == "if x:\n\ty  = 1\n\n"
    assert fit_code("a = 1\nb = 2\n", 11) == "a = 1\n"
    assert fit_code("a = 1\nb = 2\n", 12) == "a = 1\nb = 2\n"
    assert fit_code("one long line", 5) == ""


def test_starts_are_statements_at_the_margin_and_samples_do_not_overlap(code: list[str], tokenizer: Any) -> None:
    starts = code_starts(code, tokenizer, 200, 24, 1_000, seed=0)
    assert len(starts) > 100
    joined, ends = "\n\n".join(code), []
    for start in starts:
        assert start.real[0] not in " \t\n#)"
        assert start.real.endswith("\n")
        assert len(start.real) <= 200
        ids = [token for token in start.prompt if token != tokenizer.eos_token_id]
        assert 1 <= len(start.prompt) <= 24
        assert tokenizer.decode(ids).endswith("\n") or not ids
        place = joined.find(tokenizer.decode(ids) + start.real)
        assert place >= 0
        ends.append((place + len(ids), start.real))
    assert len({real for _, real in ends}) > 0.9 * len(ends)
    assert any(start.prompt[0] == tokenizer.eos_token_id for start in starts)
    few = code_starts(code, tokenizer, 200, 24, 40, seed=1)
    assert len(few) == 40
    assert {start.real for start in few} <= {start.real for start in starts}
    assert few == code_starts(code, tokenizer, 200, 24, 40, seed=1)


def test_a_decorated_function_begins_with_its_decorator(tokenizer: Any) -> None:
    text = "import os\n@cache\ndef f():\n    return 1\n" + "y = 2\n" * 60
    reals = [start.real for start in code_starts([text], tokenizer, 10, 8, 100, seed=0)]
    assert reals[:2] == ["import os\n", "@cache\n"]
    assert not any(real.startswith("def") for real in reals)


def test_a_piece_that_begins_inside_a_function_has_places_from_its_first_whole_statement_on(tokenizer: Any) -> None:
    rest = "        return x\n\n    y = 1\n\nname = 'begin'\n\n" + "z = 3\n" * 120
    starts = code_starts([rest], tokenizer, 15, 8, 100, seed=0)
    assert starts[0].real == "name = 'begin'\n"


def test_real_code_cut_alike_parses_often_and_not_always(code: list[str], tokenizer: Any) -> None:
    """The ceiling is honest: cutting costs real code something, and cutting anywhere would cost it nearly all."""
    starts = code_starts(code, tokenizer, 240, 24, 300, seed=0)
    share = code_validity([start.real for start in starts]).parses
    by_hand = [_parses(start.real) for start in starts]
    assert share.value == pytest.approx(np.mean(by_hand))
    assert 0.4 < share.value < 0.95
    text = "".join(code)
    anywhere = [text[place : place + 240] for place in range(100, len(text) - 240, 2_000)]
    assert code_validity(anywhere).parses.high < share.low


def _parses(text: str) -> bool:
    try:
        return bool(ast.parse(text).body)
    except (SyntaxError, ValueError):
        return False


def test_code_without_places_is_refused(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="has 0 places where a statement begins"):
        code_starts(["print 'Python 2'\n" * 100], tokenizer, 100, 8, 30, seed=0)


def test_samples_that_parse_raise_the_rates_and_broken_ones_do_not() -> None:
    broken = "x = (\n"
    before, after = [GOOD] * 2 + [broken] * 8, [GOOD] * 7 + [broken] * 3
    change = code_change(before, after)
    for interval in (change.parses, change.compiles):
        assert interval.value == pytest.approx(0.5)
        assert 0 < interval.low < 0.5 < interval.high < 1
    same = code_change(after, after).parses  # ten pairs without a difference do not show that there is none
    assert same.low < same.value == 0 < same.high
    assert code_change(after, before).parses.high < 0
    with pytest.raises(DataError, match="cannot be paired"):
        code_change(before, after[:3])


def test_shorter_samples_are_the_beginnings_of_the_same_ones() -> None:
    good, late = "a = 1\nb = 2\nc = 3\nd = 4\n", "a = 1\nb = 2\nc = (\nd = 4\n"
    rows = code_by_length([late] * 4, [good] * 3 + [late], [good] * 4, 24)
    assert [row["characters"] for row in rows] == [6, 12, 24]
    assert [(row["base"]["value"], row["tuned"]["value"], row["real"]["value"]) for row in rows] == [
        (1, 1, 1), (1, 1, 1), (0, 0.75, 1),
    ]  # fmt: skip
    assert [row["change"]["value"] for row in rows] == [0, 0, 0.75]


def test_samples_of_nothing_are_not_code_that_parses() -> None:
    scores = code_validity(["", "\n\n", "# a comment\n", GOOD])
    assert (scores.parses.value, scores.compiles.value) == (0.25, 0.25)


def test_ids_without_a_token_are_never_written(code: list[str], tokenizer: Any) -> None:
    """CodeGen has more rows than tokens: here 300 of 557 rows mean nothing, and random weights would choose them."""
    model = load_model("new:codegen", seed=0, vocab_size=557, max_positions=256)
    assert model.config.vocab_size == 557
    heldout = tokenize_texts(code[:3], tokenizer)
    options = {"characters": 60, "prompt_tokens": 8, "most": 30, "seed": 0}
    writer = CodeWriter.of(heldout, code, tokenizer, PRESETS["plain"], **options)
    written = generate_passages(
        model, tokenizer, [list(place.prompt) for place in writer.places], new_tokens=20, sampling=writer.sampling
    )
    assert max(token for passage in written for token in passage.ids) < 256
    assert len({token for passage in written for token in passage.ids}) > 150
    samples = writer.write(model, 30, seed=0).heldout
    assert len(samples) == 30
    assert all(len(sample) <= 60 and (not sample or sample.endswith("\n")) for sample in samples)
    assert samples == writer.write(model, 30, seed=0).heldout
    assert samples[:7] == writer.write(model, 7, seed=0).heldout
    assert not writer.write(model, 7, seed=0).training
    for sample in writer.complete(model, "for i in range(10):", 4, seed=0):
        assert sample == "" or sample.startswith("for i in range(10):")
    assert writer.real_passages() == [place.real for place in writer.places]
    with pytest.raises(ConfigError, match="the model has 64 positions"):
        writer.fitted(load_model("new:codegen", seed=0, vocab_size=557, max_positions=64))


def test_variety_is_the_lessons_quotient_and_warns_of_many_passes_and_narrow_text() -> None:
    lesson = TokenVariety(160_000, 3_000, 50_257, passes=10.24)
    assert lesson.share == pytest.approx(0.01875)
    assert "10.2 times" in lesson.warning
    assert "3,000 of 50,257" in lesson.warning
    assert TokenVariety(160_000, 30_000, 50_257, passes=2.0).warning == ""
    assert lesson.as_dict() | {"passes": 10.24, "distinct": 3_000} == lesson.as_dict()
