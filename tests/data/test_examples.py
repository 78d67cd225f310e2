"""Examples from files, folders and rows: recognized by columns, refused by file and row, split by prompts."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ftkit.data import Example, Message, load_examples, read_examples, split_examples
from ftkit.errors import DataError

PAIR = [("user", "What is it?"), ("assistant", "A dog.")]
DIALOGUE = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"), ("assistant", "Ciao.")]


def as_pairs(example: Example) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in example.messages]


def openai(messages: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in messages]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "What is it?", "completion": "A dog."}, PAIR),
        ({"prompt": openai(PAIR[:1]), "completion": openai(PAIR[1:])}, PAIR),
        ({"question": "What is it?", "answer": "A dog."}, PAIR),
        ({"prompt": "What is it?", "response": "A dog."}, PAIR),
        ({"instruction": "What is it?", "input": "", "output": "A dog."}, PAIR),
        ({"instruction": "Name it.", "input": "woof", "output": "A dog."}, [("user", "Name it.\n\nwoof"), PAIR[1]]),
        ({"instruction": "Name it.", "instances": [{"input": "woof", "output": "A dog."}]},
         [("user", "Name it.\n\nwoof"), PAIR[1]]),
        ({"messages": openai(DIALOGUE)}, DIALOGUE),
        ({"conversations": [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A dog."}]}, PAIR),
        ({"prompt": "What is it?", "completion": "A dog.", "system": "Be brief."}, [("system", "Be brief."), *PAIR]),
        ({"PROMPT": "What is it?", "Completion": "A dog.", "id": 7}, PAIR),
        ({"messages": openai([*PAIR, ("user", "and?")])}, PAIR),
    ],
)  # fmt: skip
def test_formats_are_recognized_by_their_columns(row: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    (example,) = load_examples([row])
    assert as_pairs(example) == expected


CHATML = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
    "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nCiao.<|im_end|>\n"
)
LLAMA_3 = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello."
    "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>"
    "\n\nCiao.<|eot_id|>"
)
LLAMA_2 = "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] Bye [/INST] Ciao. </s>"
ALPACA = "Name it.\n\n### Instruction:\nWhat is it?\n\n### Response:\nA dog."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CHATML, DIALOGUE),
        (LLAMA_3, DIALOGUE),
        (LLAMA_2, DIALOGUE),
        (ALPACA, [("system", "Name it."), *PAIR]),
        ("### Instruction:\nName it.\n\n### Input:\nwoof\n\n### Response:\nA dog.\n",
         [("user", "Name it.\n\nwoof"), PAIR[1]]),
        ("### Human: Hi### Assistant: Hello.\n### Human: Bye\n### Assistant: Ciao.", DIALOGUE[1:]),
        ("\n\nHuman: What is it?\n\nAssistant: A dog.", PAIR),
        ("Human: What is it?\nAssistant: It says:\n\n[woof] at <s>.\nHuman: and?",
         [PAIR[0], ("assistant", "It says:\n\n[woof] at <s>.")]),
    ],
)  # fmt: skip
def test_a_text_that_a_template_has_written_is_read_back(text: str, expected: list[tuple[str, str]]) -> None:
    found = read_examples([{"text": text, "id": 1}])
    assert found.format == "text with markers of turns"
    assert as_pairs(found.examples[0]) == expected
    assert as_pairs(load_examples([{"log": text}], {"text": "log"})[0]) == expected


@pytest.mark.parametrize("template", ["alpaca", "chatml"])
def test_what_our_templates_write_is_read_back(template: str) -> None:
    from jinja2 import Template

    from ftkit.data.templates import TEMPLATES

    text = Template(TEMPLATES[template]).render(messages=openai(DIALOGUE), eos_token="</s>")
    assert as_pairs(load_examples([{"text": text}])[0]) == DIALOGUE


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_every_kind_of_file_gives_the_same_examples(tmp_path: Path, ending: str) -> None:
    rows = [{"prompt": f'What, is "{n}"?', "completion": f"Number {n}."} for n in range(5)]
    found = read_examples(str(write(tmp_path / f"pairs{ending}", rows)))
    assert found.format == "prompt, completion"
    assert [(e.prompt_text, e.completion) for e in found.examples] == [(r["prompt"], r["completion"]) for r in rows]


def test_messages_of_a_parquet_file_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "chats.parquet", [{"messages": openai(DIALOGUE)}])
    assert as_pairs(load_examples(str(path))[0]) == DIALOGUE


def test_a_folder_is_all_its_tables(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl", [{"question": f"{name}?", "answer": f"{name}!"}])
    assert {example.completion for example in load_examples(str(tmp_path))} == {"a!", "b!"}


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "own.csv", [{"frage": "Was?", "antwort": "Ein Hund."}])
    (example,) = load_examples(str(path), {"prompt": "frage", "completion": "antwort"})
    assert as_pairs(example) == [("user", "Was?"), ("assistant", "Ein Hund.")]


def test_halves_of_a_text_follow_each_other() -> None:
    examples = load_examples("halves:voices:keeper:3000")
    assert len(examples) > 20
    for example in examples[:5]:
        assert example.prompt_text
        assert example.completion.strip()
        assert example.completion[0].isspace()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "all"}], "line 1: text 'all' has no user turn followed by an assistant turn"),
        ([{"a": "x", "b": "y"}], "Name the columns"),
        ([{"prompt": "x", "completion": "y"}, {"prompt": "x", "completion": " "}], "line 2: completion is empty"),
        ([{"prompt": "x", "completion": "y"}, {"prompt": "x"}], "line 2.*no column 'completion'"),
        ([{"prompt": "x", "completion": {"a": 1}}], "line 1: completion holds dict"),
        ([{"messages": openai(PAIR[:1])}], "no message of the assistant"),
        ([{"messages": openai(PAIR[1:])}], "no message before the assistant's"),
        ([{"messages": [{"role": "narrator", "content": "x"}]}], "role 'narrator'"),
        ([{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [1]}]}],
         "calls of tools are not read"),
        ([{"messages": "hello"}], "not a list of messages"),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_by_file_and_row(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    path = write(tmp_path / "bad.jsonl", rows)
    with pytest.raises(DataError, match=message) as caught:
        load_examples(str(path))
    assert "bad.jsonl" in str(caught.value)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", [{"prompt": "x", "completion": "y"}])
    with pytest.raises(DataError, match=r"did you mean 'pairs\.jsonl'"):
        load_examples(str(tmp_path / "pair.jsonl"))


def test_named_columns_that_are_not_there_are_refused(tmp_path: Path) -> None:
    path = str(write(tmp_path / "own.jsonl", [{"frage": "Was?", "antwort": "x"}]))
    with pytest.raises(DataError, match="no column 'antwrt'; did you mean 'antwort'"):
        load_examples(path, {"prompt": "frage", "completion": "antwrt"})
    with pytest.raises(DataError, match="columns names 'promt'; did you mean 'prompt'"):
        load_examples(path, {"promt": "frage", "completion": "antwort"})


def pair(prompt: str, completion: str) -> Example:
    return Example((Message("user", prompt), Message("assistant", completion)), first_target=1)


def test_a_prompt_is_on_one_side_of_the_split() -> None:
    examples = [pair(f"question {n % 40}", f"answer {n}") for n in range(120)] + [pair("Question  7", "answer 7")]
    split = split_examples(examples, heldout_share=0.25, seed=3)
    sides = [{e.prompt_text.casefold().replace("  ", " ") for e in side} for side in (split.train, split.heldout)]
    assert not sides[0] & sides[1]
    assert len(split.train) + len(split.heldout) == len(examples)
    assert len(sides[1]) == 10
    assert split.duplicates == 1
    assert split == split_examples(examples, heldout_share=0.25, seed=3)
    assert split != split_examples(examples, heldout_share=0.25, seed=4)


def test_given_held_out_examples_leave_the_training_examples() -> None:
    split = split_examples([pair(f"q{n}", "a") for n in range(10)], [pair("Q3 ", "other"), pair("new", "b")])
    assert split.on_both_sides == 1
    assert [e.prompt_text for e in split.train] == [f"q{n}" for n in range(10) if n != 3]
    assert len(split.heldout) == 2


def test_examples_with_one_prompt_cannot_be_split() -> None:
    with pytest.raises(DataError, match="1 different prompts"):
        split_examples([pair("same", f"a{n}") for n in range(10)])
