"""Text for training: where it comes from, how it is cleaned, cut, tokenized and served in windows."""

from typing import TYPE_CHECKING

from ftkit.lazy import load_names_lazily

if TYPE_CHECKING:
    from ftkit.data.cleanup import CleanedText, Removed, clean_text
    from ftkit.data.corpus import Corpus, Document, corpus_of, load_corpus
    from ftkit.data.downloads import cache_dir
    from ftkit.data.encoded_examples import (
        EncodedExample,
        EncodedExamples,
        answer_ends,
        encode_examples,
        prompt_ids,
        tokenize_examples,
    )
    from ftkit.data.examples import (
        Example,
        ExampleSource,
        ExampleSplit,
        Message,
        load_examples,
        read_examples,
        split_examples,
        with_shots,
    )
    from ftkit.data.labelled import LabelledSplit, LabelledTexts, load_labelled, separate_labelled, split_labelled
    from ftkit.data.made_tokenizers import convert_tiktoken, train_wordpiece
    from ftkit.data.splits import Split, split_corpus
    from ftkit.data.store import TokenStore, tokenize_each, tokenize_texts
    from ftkit.data.templates import message_ids, rendered_messages, with_template
    from ftkit.data.token_sets import TokenGroup, TokenSet, TokenVariety, token_groups, token_set
    from ftkit.data.tokenizers import SpecialTokens, fix_special_tokens, load_tokenizer, tokenizer_fingerprint
    from ftkit.data.voices import VOICES, voice_text
    from ftkit.data.windows import Masking, RandomWindows, StridedWindows, coverage

__all__ = [
    "VOICES",
    "CleanedText",
    "Corpus",
    "Document",
    "EncodedExample",
    "EncodedExamples",
    "Example",
    "ExampleSource",
    "ExampleSplit",
    "LabelledSplit",
    "LabelledTexts",
    "Masking",
    "Message",
    "RandomWindows",
    "Removed",
    "SpecialTokens",
    "Split",
    "StridedWindows",
    "TokenGroup",
    "TokenSet",
    "TokenStore",
    "TokenVariety",
    "answer_ends",
    "cache_dir",
    "clean_text",
    "convert_tiktoken",
    "corpus_of",
    "coverage",
    "encode_examples",
    "fix_special_tokens",
    "load_corpus",
    "load_examples",
    "load_labelled",
    "load_tokenizer",
    "message_ids",
    "prompt_ids",
    "read_examples",
    "rendered_messages",
    "separate_labelled",
    "split_corpus",
    "split_examples",
    "split_labelled",
    "token_groups",
    "token_set",
    "tokenize_each",
    "tokenize_examples",
    "tokenize_texts",
    "tokenizer_fingerprint",
    "train_wordpiece",
    "voice_text",
    "with_shots",
    "with_template",
]

load_names_lazily(__name__)
