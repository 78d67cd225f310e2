"""Prompts as transformers encodes them, and the token that ends a turn."""

import pytest
import transformers
from chat_models import CHATML, chat_tokenizer, saved_chat_model

from ftkit.data import load_tokenizer, message_ids
from ftkit.errors import ModelError
from ftkit.generation import Speaker, is_chat_model, load_speaker, stop_ids, text_ids, turn_end_id
from ftkit.models import load_model

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who is there?"},
    {"role": "assistant", "content": "Me."},
    {"role": "user", "content": "And now?"},
]
BY_HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}<|im_start|>\n\n{{ m['content'] }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant<|im_start|>\n\n{% endif %}"
)
WITHOUT_END = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


@pytest.mark.parametrize("template", [CHATML, BY_HEADERS, WITHOUT_END])
def test_a_conversation_has_the_ids_of_transformers(template):
    tokenizer = chat_tokenizer(template)
    tokenizer.bos_token = "<|endoftext|>"
    theirs = tokenizer.apply_chat_template(TURNS, add_generation_prompt=True, return_dict=False)
    assert message_ids(tokenizer, TURNS) == theirs
    assert theirs.count(256) == (1 if template is BY_HEADERS else 0), "never a second beginning of text"


@pytest.mark.parametrize(("template", "expected"), [(CHATML, 258), (BY_HEADERS, 258), (WITHOUT_END, None)])
def test_the_end_of_a_turn_is_what_the_template_writes_after_an_answer(template, expected):
    assert turn_end_id(chat_tokenizer(template)) == expected


def test_a_template_that_refuses_turns_is_quoted():
    tokenizer = chat_tokenizer("{{ raise_exception('System role not supported') }}")
    with pytest.raises(ModelError, match="refuses turns of system, user, assistant, user: System role not supported"):
        message_ids(tokenizer, TURNS)


@pytest.mark.parametrize(
    ("template", "ends", "expected"), [(CHATML, 258, True), (CHATML, 256, False), (None, 258, False)]
)
def test_a_chat_model_has_a_template_and_stops_where_a_turn_ends(template, ends, expected):
    model = load_model("new:ftkit_gpt2", vocab_size=259)
    model.generation_config.eos_token_id = ends
    speaker = Speaker("tiny", model, chat_tokenizer(template))
    assert is_chat_model(speaker) is expected
    assert stop_ids(speaker, chat=False) == ((256, 258) if ends == 258 else (256,))
    if template:
        assert stop_ids(speaker, chat=True) == (256, 258), "a base with a template stops at its turns all the same"


def pipeline(folder, asked, **options):
    """What transformers' own pipeline writes."""
    writer = transformers.pipeline("text-generation", model=str(folder))
    return writer(asked, do_sample=False, return_full_text=False, **options)[0]["generated_text"]


def test_greedy_answers_are_those_of_transformers_pipeline(tmp_path):
    from ftkit.generation import Prompt, SampleWriter, Sampling, WritingSettings

    folder = saved_chat_model(tmp_path / "model", ends=[256, 258])
    greedy = Sampling(do_sample=False, banned_ids=(256, 257))
    writer = SampleWriter(load_speaker(str(folder)), WritingSettings(True, None, 30, greedy))
    [row] = writer.rows([Prompt("a", messages=tuple(TURNS))])
    ours = writer.stream(row, 0, lambda piece: None)
    theirs = pipeline(folder, TURNS, max_new_tokens=30, suppress_tokens=[256, 257])
    assert ours.text.rstrip("\ufffd") == theirs.rstrip("\ufffd")
    assert ours.tokens > 3


def test_greedy_text_is_that_of_transformers_pipeline(stories260k):
    from ftkit.generation import PRESETS, Prompt, SampleWriter, WritingSettings

    writer = SampleWriter(load_speaker(str(stories260k)), WritingSettings(False, None, 40, PRESETS["greedy"]))
    prompts = [Prompt("a", "Once upon a time"), Prompt("b", "The dog said,")]
    together = [sample for [sample] in writer.samples(writer.rows(prompts), 1, batch_rows=2)]
    alone = [sample for [sample] in writer.samples(writer.rows(prompts), 1, None)]
    assert [sample.text for sample in together] == [sample.text for sample in alone]
    for prompt, sample in zip(prompts, together, strict=True):
        # The pipeline loses the space between a prompt and its continuation.
        assert sample.text.lstrip() == pipeline(stories260k, prompt.text, max_new_tokens=40)


def test_a_text_is_encoded_as_the_tokenizer_does_by_itself_but_not_ended(stories260k):
    real = load_tokenizer(str(stories260k))
    assert text_ids(real, "Once upon") == real("Once upon")["input_ids"]
    assert text_ids(real, "") == [real.bos_token_id]
    from tokenizers.processors import TemplateProcessing

    ending = load_tokenizer("byte")
    ending.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A <|endoftext|>", special_tokens=[("<|endoftext|>", 256)]
    )
    assert ending("ab")["input_ids"] == [256, 97, 98, 256]
    assert text_ids(ending, "ab") == [256, 97, 98]
