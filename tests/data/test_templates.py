"""Ids and labels of examples: what goes wrong for people with prompts, completions and chat templates."""

from typing import Any

import pytest

from ftkit.data import (
    Example,
    Message,
    answer_ends,
    encode_examples,
    load_tokenizer,
    prompt_ids,
    tokenize_examples,
    with_shots,
    with_template,
)
from ftkit.errors import DataError, ModelError

MARKS = ["<|im_start|>", "<|im_end|>", "<|eot|>", "<s>"]
CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MULTI = (("user", "Hi"), ("assistant", "Hello there."), ("user", "Bye"), ("assistant", "See you."))


@pytest.fixture
def tokenizer() -> Any:
    """Bytes, with the marks of chats; what begins a turn is BOS, as SmolLM2 has it."""
    found: Any = load_tokenizer("byte")
    found.add_special_tokens({"additional_special_tokens": MARKS})
    found.eos_token, found.pad_token, found.bos_token = "<|im_end|>", "<|im_end|>", "<|im_start|>"
    return found


def example(*messages: tuple[str, str], first: int = 0) -> Example:
    return Example(tuple(Message(role, content) for role, content in messages), "row 1", first)  # type: ignore[arg-type]


def targets(tokenizer: Any, row: dict[str, list[int]]) -> str:
    return str(tokenizer.decode([label for label in row["labels"] if label != -100]))


def test_plain_is_prompt_completion_and_end_with_nothing_between(tokenizer: Any) -> None:
    (row,) = tokenize_examples([example(("user", "2+2="), ("assistant", "4"))], tokenizer)
    assert tokenizer.decode(row["input_ids"]) == "2+2=4<|im_end|>"
    assert row["labels"] == [-100] * 4 + row["input_ids"][4:]
    assert "message['content']" in tokenizer.chat_template  # saved with the tokenizer


def test_every_answer_of_a_dialogue_is_a_target_with_its_end(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    (row,) = tokenize_examples([example(*MULTI)], tokenizer)
    assert targets(tokenizer, row) == "Hello there.<|im_end|>See you.<|im_end|>"
    assert tokenizer.decode(row["input_ids"]).endswith("See you.<|im_end|>\n")  # the newline after it is no target
    (last,) = tokenize_examples([example(*MULTI)], tokenizer, "last_turn")
    assert targets(tokenizer, last) == "See you.<|im_end|>"
    (every,) = tokenize_examples([example(*MULTI)], tokenizer, "all")
    assert every["labels"] == every["input_ids"]


def test_only_answers_after_a_prompt_of_messages_are_targets(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    (row,) = tokenize_examples([example(*MULTI, first=3)], tokenizer)
    assert targets(tokenizer, row) == "See you.<|im_end|>"


def test_the_pad_token_may_be_the_end_token_and_is_still_a_target(tokenizer: Any) -> None:
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    (row,) = tokenize_examples([example(*MULTI[:2])], tokenizer)
    assert row["labels"][-1] == tokenizer.eos_token_id


def test_a_template_that_ends_a_turn_in_the_next_message_still_teaches_the_end(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|eot|>' if not loop.first }}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|eot|>assistant: ' }}{% endif %}"
    )
    (row,) = tokenize_examples([example(*MULTI)], tokenizer)
    assert targets(tokenizer, row) == "Hello there.<|eot|>See you.<|im_end|>"
    rows = encode_examples([example(*MULTI)], tokenizer).rows
    assert rows[0].end_id == tokenizer.eos_token_id
    assert answer_ends(tokenizer, rows) == [tokenizer.eos_token_id]


def test_an_end_token_that_is_not_the_tokenizers_ends_generation_too(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + '<|eot|>' }}{% endfor %}"
    rows = encode_examples([example(*MULTI)], tokenizer).rows
    assert answer_ends(tokenizer, rows) == [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot|>")]


def test_bos_is_never_directly_repeated(tokenizer: Any) -> None:
    tokenizer.bos_token = "<s>"
    tokenizer.chat_template = "{{ bos_token }}" + CHATML
    begins = example(("user", "<s>Hi"), ("assistant", "x"))
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (row,) = tokenize_examples([begins], tokenizer)
    assert row["input_ids"].count(tokenizer.bos_token_id) == 1
    assert prompt_ids(begins, tokenizer).count(tokenizer.bos_token_id) == 1


def test_marks_of_turns_that_are_bos_stay(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    (row,) = tokenize_examples([example(*MULTI)], tokenizer)
    assert row["input_ids"].count(tokenizer.bos_token_id) == 5  # system, and four turns


def test_what_the_opening_writes_is_context(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + ('<think></think>' if m['role'] == 'assistant' else '') }}"
        "{{ m['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: <think></think>' }}{% endif %}"
    )
    (row,) = tokenize_examples([example(*MULTI[:2])], tokenizer)
    assert targets(tokenizer, row) == "Hello there.<|im_end|>"


REWRITES = (
    "{% for m in messages %}{{ m['role'] + ': ' }}"
    "{{ '<think></think>' if m['role'] == 'assistant' and loop.last else '' }}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' + '\n' }}{% endif %}"
)


def test_a_template_that_rewrites_the_prompt_is_refused_with_both_texts(tokenizer: Any) -> None:
    tokenizer.chat_template = REWRITES.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    with pytest.raises(DataError, match="writes the prompt in another way") as caught:
        tokenize_examples([example(*MULTI)], tokenizer)
    assert "prompt alone" in str(caught.value)
    assert "row 1" in str(caught.value)


MARKED = REWRITES.replace(
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}",
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}",
)


def test_generation_marks_help_where_the_prompt_is_rewritten(tokenizer: Any) -> None:
    tokenizer.chat_template = MARKED
    (row,) = tokenize_examples([example(*MULTI)], tokenizer)
    assert targets(tokenizer, row) == "Hello there.<|im_end|>See you.<|im_end|>"
    (last,) = tokenize_examples([example(*MULTI)], tokenizer, "last_turn")
    (later,) = tokenize_examples([example(*MULTI, first=3)], tokenizer)  # the first answer belongs to the prompt
    assert last == later
    assert targets(tokenizer, last) == "See you.<|im_end|>"


def test_a_mark_around_the_white_space_after_the_end_adds_no_second_end(tokenizer: Any) -> None:
    tokenizer.chat_template = MARKED.replace("'<|im_end|>' }}{% endgen", "'<|im_end|>' + '\\n' }}{% endgen")
    rows = encode_examples([example(*MULTI)], tokenizer).rows
    assert targets(tokenizer, rows[0].as_row()) == "Hello there.<|im_end|>See you.<|im_end|>"
    assert tokenizer.decode(rows[0].input_ids).endswith("See you.<|im_end|>\n")
    assert rows[0].end_id == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_marks_that_split_an_answer_hide_which_answer_is_the_last(tokenizer: Any) -> None:
    split = "{% generation %}{{ m['content'][:2] }}{% endgeneration %}-{% generation %}{{ m['content'][2:] }}"
    tokenizer.chat_template = MARKED.replace("{% generation %}{{ m['content'] + '<|im_end|>' }}", split)
    with pytest.raises(DataError, match="mark 4 parts and there are 2 answers"):
        tokenize_examples([example(*MULTI)], tokenizer, "last_turn")


def test_a_template_whose_marks_mark_nothing_is_an_error_before_training(tokenizer: Any) -> None:
    tokenizer.chat_template = REWRITES.replace(
        "m['content'] + '<|im_end|>' }}{% endgeneration %}", "'' }}{% endgeneration %}"
    )
    with pytest.raises(DataError, match="mark nothing"):
        tokenize_examples([example(*MULTI)], tokenizer)


@pytest.mark.parametrize(("truncate", "kept"), [("end", "Hel"), ("start", "Hello there.<|im_end|>")])
def test_ids_and_labels_are_cut_together(tokenizer: Any, truncate: Any, kept: str) -> None:
    whole = example(("user", "Hi, who are you?"), ("assistant", "Hello there."))
    most = 19 if truncate == "end" else 15
    found = encode_examples([whole], tokenizer, max_tokens=most, truncate=truncate)
    (row,) = found.rows
    assert len(row.input_ids) == len(row.labels) == most
    assert targets(tokenizer, row.as_row()) == kept
    assert (row.end_id is None) == (truncate == "end")  # a cut answer has no end
    assert found.cut == 1
    assert row.target_bytes == len("Hel" if truncate == "end" else "Hello there.")
    assert "1 were cut" in found.summary


@pytest.mark.parametrize("loss_on", ["completions", "all"])
def test_a_character_of_several_tokens_counts_its_bytes_once(tokenizer: Any, loss_on: Any) -> None:
    (row,) = encode_examples([example(("user", "é?"), ("assistant", "čaj 🍵 ž"))], tokenizer, loss_on).rows
    whole = "é?čaj 🍵 ž" if loss_on == "all" else "čaj 🍵 ž"
    asked_first = len("é".encode()) if loss_on == "all" else 0  # counted with its first token, which nothing predicts
    assert sum(row.sizes) == len(whole.encode())
    assert row.target_bytes == len(whole.encode()) - asked_first


def test_examples_without_a_target_are_left_out_and_counted(tokenizer: Any) -> None:
    long, short = example(("user", "x" * 50), ("assistant", "y")), example(("user", "x"), ("assistant", "y"))
    found = encode_examples([long, short], tokenizer, max_tokens=20)
    assert [row.example for row in found.rows] == [short]
    assert found.dropped == 1
    with pytest.raises(DataError, match="of 1 examples none of at most 20 tokens has a token that is asked"):
        encode_examples([long], tokenizer, max_tokens=20)


def test_a_token_that_joins_prompt_and_completion_is_counted_and_not_asked() -> None:
    tokenizer = load_tokenizer("train:300", texts=["abab abab abab cd"] * 50)
    found = encode_examples([example(("user", "ab abab a"), ("assistant", "bab cd"))], tokenizer)
    assert found.joined == 1
    assert "one token holds the end of the prompt and the beginning" in found.summary


def test_earlier_examples_stand_before_the_prompt(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    ids = prompt_ids(with_shots(example(*MULTI[:2]), [example(("user", "A?"), ("assistant", "B."))]), tokenizer)
    text = tokenizer.decode(ids)
    assert text.index("A?") < text.index("B.") < text.index("Hi")
    assert text.endswith("<|im_start|>assistant\n")


def test_templates_are_chosen_by_name_and_by_file(tokenizer: Any, tmp_path: Any) -> None:
    assert with_template(tokenizer, "alpaca") == "alpaca"
    (row,) = tokenize_examples([example(*MULTI[:2])], tokenizer)
    assert tokenizer.decode(row["input_ids"]).startswith("### Instruction:\nHi\n\n### Response:\nHello there.")
    assert targets(tokenizer, row) == "Hello there.<|im_end|>"
    (tmp_path / "own.jinja").write_text("{% for m in messages %}{{ m['content'] + '!' }}{% endfor %}")
    assert with_template(tokenizer, file=str(tmp_path / "own.jinja")) == "own.jinja"
    with pytest.raises(DataError, match="unknown template 'alpacca'; did you mean 'alpaca'"):
        with_template(tokenizer, "alpacca")
    with pytest.raises(DataError, match="cannot be read"):
        with_template(tokenizer, file=str(tmp_path / "missing.jinja"))


def test_a_template_needs_its_marks_and_an_end() -> None:
    tokenizer: Any = load_tokenizer("byte")
    with pytest.raises(ModelError, match=r"has no <\|im_start\|>"):
        with_template(tokenizer, "chatml")
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-text token"):
        with_template(tokenizer, "plain")
