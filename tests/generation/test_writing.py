"""Prompts from files, the settings of the draw, and samples alone, in batches and in a chat."""

import json

import pytest
from chat_models import saved_chat_model

from ftkit.errors import ConfigError, DataError, ModelError
from ftkit.generation import (
    PRESETS,
    Chat,
    Prompt,
    SampleWriter,
    Sampling,
    WritingSettings,
    chosen_sampling,
    load_speaker,
    read_prompts,
    stop_ids,
)
from ftkit.generation.prompts import decoded_prompt
from ftkit.models import load_model


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    return load_speaker(str(saved_chat_model(tmp_path_factory.mktemp("chat") / "tiny")))


def write(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


USER = {"role": "user", "content": "Hi"}


def test_prompts_are_lines_of_a_text_or_a_column(tmp_path):
    lines = write(tmp_path / "a.txt", "Once", "", "  upon a time")
    assert read_prompts(lines) == [Prompt("line 1", "Once"), Prompt("line 3", "  upon a time")]
    rows = write(
        tmp_path / "a.jsonl", {"id": 1, "prompt": "Once", "answer": "x"}, {"id": 2, "prompt": "The", "answer": "y"}
    )
    assert [prompt.text for prompt in read_prompts(rows)] == ["Once", "The"]
    assert [prompt.text for prompt in read_prompts(f"{rows}#answer")] == ["x", "y"]
    table = write(tmp_path / "a.csv", "prompt,answer", "Once,x")
    assert read_prompts(table) == [Prompt("line 2", "Once")]


def test_turns_wait_for_an_answer_and_the_one_of_a_training_example_is_left_out(tmp_path):
    answer = {"role": "assistant", "content": "Ho"}
    for column in ("messages", "prompt"):
        rows = write(tmp_path / f"{column}.jsonl", {column: [USER, answer]}, {column: [USER, answer, USER]})
        found = read_prompts(rows)
        assert found[0].messages == (USER,)
        assert found[1].messages == (USER, answer, USER)
    system = {"role": "system", "content": "Be brief."}
    assert found[0].turns("Be brief.") == [system, USER]
    assert Prompt("x", messages=(system, USER)).turns("Be long.")[0]["content"] == "Be long."
    assert Prompt("x", "Hi").turns() == [USER]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([" ", ""], "has no prompt"),
        ([{"prompt": "a"}, {"prompt": " "}], "line 2: the prompt is empty"),
        ([{"prompt": 3}], "int where a text or a list of turns"),
        (
            [{"messages": [{"role": "dog", "content": "Hi"}]}],
            "line 1: message 1 has the role 'dog'.*roles are system, user",
        ),
        ([{"messages": [USER, {"role": "user", "content": None}]}], "message 2 .* not text"),
        ([{"messages": [{"role": "assistant", "content": "Ho"}]}], "no turn of a user waits"),
        ([{"question": "a b", "answer": "c d"}], "has the columns question, answer, .* FILE#COLUMN"),
    ],
)
def test_what_is_no_prompt_is_named_with_its_line(tmp_path, rows, said):
    name = "a.txt" if isinstance(rows[0], str) else "a.jsonl"
    with pytest.raises(DataError, match=said):
        read_prompts(write(tmp_path / name, *rows))


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_prompts(str(tmp_path / "gone.txt"))
    with pytest.raises(DataError, match="is a folder"):
        read_prompts(str(tmp_path))
    with pytest.raises(DataError, match="has no prompt"):
        decoded_prompt("standard input", b"\n", "utf-8")
    assert decoded_prompt("standard input", b" a\nb \n", "utf-8").text == " a\nb "


NOTHING = dict.fromkeys(("temperature", "top_p", "top_k", "repetition_penalty"))


def test_the_draw_is_as_asked_else_as_the_model_says_else_focused():
    model = load_model("new:ftkit_gpt2")
    assert chosen_sampling(model, NOTHING) == PRESETS["focused"]
    model.generation_config.update(do_sample=True, temperature=0.6, top_k=20)
    assert chosen_sampling(model, NOTHING) == Sampling(temperature=0.6, top_p=0.9, top_k=20)
    assert chosen_sampling(model, NOTHING | {"temperature": 1.2, "top_k": 0}) == Sampling(temperature=1.2, top_p=0.9)
    model.generation_config.do_sample = False
    assert chosen_sampling(model, NOTHING) == PRESETS["focused"]
    assert chosen_sampling(model, NOTHING | {"temperature": 0}) == PRESETS["greedy"]
    with pytest.raises(ConfigError, match="--top_k: has no effect"):
        chosen_sampling(model, NOTHING | {"temperature": 0, "top_k": 3})


def test_samples_of_one_prompt_have_seeds_of_their_own_and_are_those_that_are_streamed(speaker):
    writer = SampleWriter(speaker, WritingSettings(max_new_tokens=12, seed=7))
    [row] = writer.rows([Prompt("a", "the sea")])
    [samples] = writer.samples([row], 3, None)
    assert [sample.seed for sample in samples] == [7, 8, 9]
    assert len({sample.text for sample in samples}) == 3
    pieces: list[str] = []
    assert writer.stream(row, 8, pieces.append) == samples[1]
    assert "".join(pieces) == samples[1].text


def test_batches_keep_the_order_of_prompts(speaker):
    greedy = WritingSettings(max_new_tokens=6, sampling=PRESETS["greedy"])
    writer = SampleWriter(speaker, greedy)
    rows = writer.rows([Prompt(str(n), "the sea and me"[: n + 1]) for n in range(5)])
    found = list(writer.samples(rows, 2, batch_rows=2))
    assert [len(samples) for samples in found] == [2] * 5
    alone = [sample for [sample] in writer.samples(rows, 1, None)]
    assert [samples[0].text for samples in found] == [sample.text for sample in alone]


def test_an_answer_ends_at_the_end_of_its_turn(speaker, monkeypatch):
    chat = WritingSettings(chat=True, max_new_tokens=30, sampling=PRESETS["greedy"])
    writer = SampleWriter(speaker, chat)
    [row] = writer.rows([Prompt("a", "Hi")])
    assert speaker.tokenizer.decode(row) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    answer = writer.stream(row, 0, str)
    assert answer.stop_reason == "end of text"
    assert 0 < answer.tokens < 30
    assert "<|im_end|>" not in answer.text
    # A base model that stops at another token ends its turn all the same.
    monkeypatch.setattr(speaker.model.generation_config, "eos_token_id", 256)
    assert SampleWriter(speaker, chat).stream(row, 0, str) == answer


@pytest.mark.parametrize(
    ("prompt", "new", "said"),
    [
        ("a" * 300, None, "line 9: has 300 tokens; the model reads 256"),
        ("a" * 250, 7, "line 9: 250 tokens and 7 new ones .* set max_new_tokens to 6 or less"),
    ],
)
def test_a_prompt_that_does_not_fit_is_named(speaker, prompt, new, said):
    writer = SampleWriter(speaker, WritingSettings(max_new_tokens=new))
    with pytest.raises(DataError, match=said):
        writer.rows([Prompt("line 1", "a"), Prompt("line 9", prompt)])


def test_without_a_length_a_sample_takes_the_room_there_is(speaker):
    writer = SampleWriter(speaker, WritingSettings())
    for length, expected in ((3, 200), (250, 6)):
        [[sample]] = writer.samples(writer.rows([Prompt("a", "a" * length)]), 1, None)
        assert sample.tokens == expected or sample.stop_reason == "end of text"


def test_a_chat_without_a_question_and_turns_without_a_chat_are_refused(speaker):
    with pytest.raises(DataError, match="is empty, and a chat needs something"):
        SampleWriter(speaker, WritingSettings(chat=True)).rows([Prompt("the prompt", " ")])
    with pytest.raises(ConfigError, match="line 1: holds turns of a chat"):
        SampleWriter(speaker, WritingSettings()).rows([Prompt("line 1", messages=(USER,))])


def test_a_chat_keeps_its_turns_and_leaves_out_the_oldest_that_do_not_fit(speaker):
    talk = Chat("Be brief.", new_tokens=20, seed=1)
    for number in range(6):
        talk.say("you", f"Question {number}?")
        turn = talk.reply(speaker)
        read = speaker.tokenizer.decode(talk._read(speaker, 256 - 20)[0])
        assert turn.context_tokens <= 256 - 20
        assert read.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
        assert f"Question {number}?" in read
    assert turn.left_out > 0
    assert "Question 0?" not in read
    assert [message["role"] for message in talk.messages[:4]] == ["system", "user", "assistant", "user"]
    assert talk.turns[1].stop_reason in ("length", "end of text")
    talk.say("you", "a" * 300)
    with pytest.raises(ModelError, match="this turn and what stands before it have"):
        talk.reply(speaker)


def test_an_answer_of_a_chat_stops_where_the_template_ends_a_turn(speaker):
    assert 258 in stop_ids(speaker, chat=True)
    talk = Chat(new_tokens=40, sampling=Sampling(temperature=3.0), seed=0)
    seen = set()
    for _ in range(6):
        talk.say("you", "Hi")
        seen.add(talk.reply(speaker).stop_reason)
        talk.messages.clear()
    assert seen <= {"end of text", "length"}
    assert "<|im_end|>" not in "".join(turn.text for turn in talk.turns)
