"""Text for training: where it comes from, how it is cleaned, cut, tokenized and served in windows."""

from typing import TYPE_CHECKING

from ftkit.lazy import load_names_lazily

if TYPE_CHECKING:
    from ftkit.data.cleanup import CleanedText, Removed, clean_text
    from ftkit.data.corpus import Corpus, Document, corpus_of, load_corpus
    from ftkit.data.downloads import cache_dir
    from ftkit.data.labelled import LabelledSplit, LabelledTexts, load_labelled, separate_labelled, split_labelled
    from ftkit.data.made_tokenizers import convert_tiktoken, train_wordpiece
    from ftkit.data.splits import Split, split_corpus
    from ftkit.data.store import TokenStore, tokenize_texts
    from ftkit.data.token_sets import TokenGroup, TokenSet, TokenVariety, token_groups, token_set
    from ftkit.data.tokenizers import SpecialTokens, fix_special_tokens, load_tokenizer, tokenizer_fingerprint
    from ftkit.data.voices import VOICES, voice_text
    from ftkit.data.windows import Masking, RandomWindows, StridedWindows, coverage

__all__ = [
    "VOICES",
    "CleanedText",
    "Corpus",
    "Document",
    "LabelledSplit",
    "LabelledTexts",
    "Masking",
    "RandomWindows",
    "Removed",
    "SpecialTokens",
    "Split",
    "StridedWindows",
    "TokenGroup",
    "TokenSet",
    "TokenStore",
    "TokenVariety",
    "cache_dir",
    "clean_text",
    "convert_tiktoken",
    "corpus_of",
    "coverage",
    "fix_special_tokens",
    "load_corpus",
    "load_labelled",
    "load_tokenizer",
    "separate_labelled",
    "split_corpus",
    "split_labelled",
    "token_groups",
    "token_set",
    "tokenize_texts",
    "tokenizer_fingerprint",
    "train_wordpiece",
    "voice_text",
]

load_names_lazily(__name__)
