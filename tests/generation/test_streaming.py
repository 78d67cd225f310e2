"""Text piece by piece: whole characters, the same text as at once, the same tokens as in a batch."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ftkit.data import load_tokenizer
from ftkit.generation import PRESETS, Sampling, TextStream, continuation, generate_passages, stream_passage
from ftkit.models import load_model

TEXT = "Once upon a time, été 🙂 中文字 👩‍👩‍👧‍👦 done  two\n\n\tx . , naïve … 'tis n't"


def with_byte_fallback():
    """A tokenizer as Llama's and Gemma's: ▁ for a space, and a token for every byte of what it does not know."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁Oncepuatim,dow"]
    backend = Tokenizer(
        models.BPE({piece: n for n, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


TOKENIZERS = {"byte": lambda: load_tokenizer("byte"), "byte fallback": with_byte_fallback}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_pieces_are_whole_characters_and_together_the_text(kind):
    tokenizer = TOKENIZERS[kind]()
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    before = len(tokenizer("Once", add_special_tokens=False)["input_ids"])
    pieces: list[str] = []
    stream = TextStream(tokenizer, ids[:before], pieces.append)
    for id_ in ids[before:]:
        stream.add(id_)
    assert stream.close() == "".join(pieces) == TEXT.removeprefix("Once")
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) > 40, "nothing waits that is whole"
    assert pieces[0] == " "


def test_real_words_of_a_real_tokenizer(stories260k):
    tokenizer = load_tokenizer(str(stories260k))
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert continuation(tokenizer, ids[:1], ids[1:]) == TEXT.removeprefix(tokenizer.decode(ids[:1]))


def test_a_character_that_is_cut_off_is_left_out():
    tokenizer = load_tokenizer("byte")
    assert continuation(tokenizer, [], list("né".encode()[:-1])) == "n"


def test_what_looks_like_an_unfinished_character_is_written_when_something_follows():
    tokenizer = load_tokenizer("byte")
    assert continuation(tokenizer, [], [0xE9, ord("a")]) == "\ufffda"


@pytest.mark.parametrize("family", ["llama", "mistral"], ids=["by the own loop", "by generate"])
@pytest.mark.parametrize("sampling", [PRESETS["greedy"], Sampling(temperature=0.8, top_p=0.9)], ids=["greedy", "drawn"])
def test_a_streamed_passage_is_that_of_a_batch_of_one(family, sampling, tmp_path):
    tokenizer = load_tokenizer("byte")
    if family == "mistral":
        from transformers import MistralConfig, MistralForCausalLM

        small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = MistralConfig(vocab_size=257, num_key_value_heads=1, initializer_range=0.4, **small)
        MistralForCausalLM(config).save_pretrained(tmp_path)
        model = load_model(str(tmp_path))
    else:
        model = load_model("new:llama,initializer_range=0.4", vocab_size=257, max_positions=64)
    row = tokenizer("the sea")["input_ids"]
    options = {"new_tokens": 20, "sampling": sampling, "seed": 3}
    [whole] = generate_passages(model, tokenizer, [row], **options)
    stops = [whole.ids[7]]
    [expected] = generate_passages(model, tokenizer, [row], stop_ids=stops, **options)
    told: list[int] = []
    passage = stream_passage(model, tokenizer, row, told.append, stop_ids=stops, **options)
    assert passage == expected
    assert tuple(told) == passage.ids
    assert passage.stop_reason == "end of text"
